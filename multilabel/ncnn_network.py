"""ncnn's networks: loading one from memory with every option set, and asking it.

ncnn writes to stderr what it dislikes and returns a number, so what may be wrong with a file is looked for first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgepress.multilabel.ncnn_layers import in_int8, layer_lines, reader_of

INPUT, OUTPUT = "in0", "out0"
_HALF = ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_packed", "use_bf16_storage")
_INT8 = ("use_int8_inference", "use_int8_packed", "use_int8_storage", "use_int8_arithmetic")
_FAST = ("use_winograd_convolution", "use_sgemm_convolution", "use_packing_layout")
OPTIONS = {**dict.fromkeys((*_HALF, *_INT8, "use_vulkan_compute"), False), **dict.fromkeys(_FAST, True)}
"""ncnn's options that change answers. By default it computes in half precision where the processor can, and rounds the
weights of products to it; the fast forms of convolutions change a logit by less than 1e-5 of the largest."""


class MissingLayerError(ValueError):
    """A network has a layer that the installed ncnn lacks; the message is the layer's type."""


def options_for(graph: bytes) -> dict[str, bool]:
    """ncnn's options for a network: `OPTIONS`, and INT8 where layers of it are in INT8.

    The other three options of INT8 are Vulkan's.

    Raises:
        ValueError: see `layer_lines`.
    """
    return {**OPTIONS, "use_int8_inference": any(in_int8(line) for line in layer_lines(graph))}


def network(graph: bytes, weights: bytes, threads: int) -> Any:
    """Load an `ncnn.Net` with `options_for` it.

    Args:
        graph: the .param file, text.
        weights: the .bin file.

    Raises:
        ValueError: ncnn would not load it, or the weights are of another graph; says why in one line.
        MissingLayerError: the installed ncnn lacks a layer.
    """
    import ncnn

    for line in layer_lines(graph):
        if ncnn.create_layer(line[0]) is None:
            raise MissingLayerError(line[0])
    net = ncnn.Net()
    for name, value in options_for(graph).items():
        if hasattr(net.opt, name):  # an older release lacks what it cannot do
            setattr(net.opt, name, value)
    net.opt.num_threads = threads
    if (code := net.load_param_mem(graph.decode("ascii"))) != 0:
        raise ValueError(f"its .param file is damaged: ncnn answers {code}")
    if list(net.input_names()) != [INPUT] or list(net.output_names()) != [OUTPUT]:
        found = f"{', '.join(net.input_names())} and {', '.join(net.output_names())}"
        raise ValueError(f"its input and output are {found or 'none'}; expected {INPUT} and {OUTPUT}")
    reader = reader_of(weights)
    code = net.load_model(reader)
    if code != 0 or reader.place != len(weights):
        told = "ends before the last weight" if code != 0 else f"has {len(weights) - reader.place} bytes too many"
        raise ValueError(f"its .bin file {told}: it is cut or of another model")
    return net


def picture_of(graph: bytes) -> tuple[int, int]:
    """Height and width of the pictures that a network takes, from the line of its input.

    Raises:
        ValueError: see `layer_lines`; or its input names no picture of three colours.
    """
    for kind, _, *words in layer_lines(graph):
        if kind == "Input":
            sizes = dict(word.split("=", 1) for word in words[3:] if "=" in word)
            if sizes.keys() == {"0", "1", "2"} and sizes["0"] == "3" and all(size.isdigit() for size in sizes.values()):
                return int(sizes["2"]), int(sizes["1"])
    raise ValueError("its .param file has no input `0=3 1=WIDTH 2=HEIGHT`; make it by `edgepress compile`")


def answer(net: Any, image: np.ndarray) -> np.ndarray:
    """The logits float32 `[C]` of a picture uint8 `[H, W, 3]`.

    Raises:
        RuntimeError: ncnn cannot compute them, as without memory.
    """
    return values(net, image, [OUTPUT])[OUTPUT].reshape(-1)


def values(net: Any, given: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Tensors of a network by their names, float32, each with one dimension of one picture fewer than in ONNX.

    Args:
        given: what the network's input takes: a picture `[H, W, 3]`, or any tensor of at most three dimensions.

    Raises:
        RuntimeError: see `answer`.
    """
    import ncnn

    # A matrix of numpy's memory would be read with ncnn's gaps between channels, which numpy does not have.
    filled = ncnn.Mat(*reversed(given.shape))
    np.asarray(filled)[...] = given
    run = net.create_extractor()
    run.set_light_mode(len(names) == 1)  # or a tensor that is asked for second may be gone
    code, found = run.input(INPUT, filled), {}
    for name in names:
        if code == 0:
            code, tensor = run.extract(name)
        if code != 0:
            raise RuntimeError(f"ncnn answers {code} instead of {'logits' if name == OUTPUT else name}")
        found[name] = np.array(tensor, np.float32)
    return found
