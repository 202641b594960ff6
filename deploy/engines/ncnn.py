"""ncnn on a CPU, for boards and phones: one picture at a time, in float32."""

from __future__ import annotations

import ctypes
import threading
from importlib.metadata import version
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from edgepress.deploy.engines.base import Engine, Proof, by_precision, require, require_shape, require_threads, summary
from edgepress.deploy.engines.lifetime import tell_threads_stay
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import EngineUnavailableError, InputError
from edgepress.multilabel.manifest import BuiltForNcnn

INPUT, OUTPUT = "in0", "out0"
MAGIC = "7767517"
"""First line of every .param file."""
_HALF = ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_packed", "use_bf16_storage")
_INT8 = ("use_int8_inference", "use_int8_packed", "use_int8_storage", "use_int8_arithmetic")
_FAST = ("use_winograd_convolution", "use_sgemm_convolution", "use_packing_layout")
OPTIONS = {**dict.fromkeys((*_HALF, *_INT8, "use_vulkan_compute"), False), **dict.fromkeys(_FAST, True)}
"""ncnn's options that change answers. By default it computes in half precision where the processor can, and rounds the
weights of products to it; the fast forms of convolutions change a logit by less than 1e-5 of the largest."""
_PRODUCTS = {"Convolution", "ConvolutionDepthWise", "Deconvolution", "InnerProduct", "Gemm", "MatMul"}
_NO_LAYERS = {"Input", "MemoryData", "Split"}


class MissingLayerError(ValueError):
    """A network has a layer that the installed ncnn lacks; the message is the layer's type."""


class NcnnEngine(Engine):
    """An ncnn bundle in one network, which computes one call at a time and in it one picture after the other.

    Its two files are read into memory, where they cannot change under it.
    """

    def __init__(self, bundle: Bundle, device: str = "cpu", threads: int | None = None) -> None:
        super().__init__(bundle, device)
        if device != "cpu":
            raise InputError(f"device {device!r}: ncnn takes cpu")
        require_threads(threads)
        require("ncnn", "ncnn")
        self._version = version("ncnn")
        # Its threads wait for each other by spinning, as OpenMP's do: where other processes want the cores as well, an
        # answer takes many times as long with two as with one.
        self._threads = threads or 1
        self._turn = threading.Lock()
        file = bundle.model_path
        graph, weights = bundle.read(bundle.manifest.model), bundle.read(_weights_of(bundle))
        try:
            height, width = picture_of(graph)
            require_shape(bundle, [None, height, width, 3], "uint8")
            self._network = network(graph, weights, self._threads)
            if self._threads > 1:  # OpenMP keeps them for the next engine
                tell_threads_stay("ncnn")
            # ncnn says nothing about the shape of an answer before there is one.
            count = answer(self._network, np.zeros((height, width, 3), np.uint8)).size
        except MissingLayerError as error:
            built = bundle.manifest.built_for
            recorded = built.version if isinstance(built, BuiltForNcnn) else "unknown"
            raise EngineUnavailableError(
                f"{file}: recorded: ncnn {recorded}; found: ncnn {self._version}, which has no layer {error}; install "
                "a newer ncnn, or take another engine"
            ) from error
        except (ValueError, RuntimeError) as error:
            raise InputError(f"{file}: ncnn cannot load it: {error}") from error
        if count != len(self.labels):
            raise InputError(f"{file}: gives {count} logits; by its manifest {len(self.labels)}")

    @property
    def runtime_version(self) -> str:
        return f"ncnn {self._version}"

    def _proof(self) -> Proof:
        kinds = [layer.type for layer in self._network.layers() if layer.type not in _NO_LAYERS]
        precisions = by_precision("f32" for kind in kinds if kind in _PRODUCTS)
        options = {name: str(getattr(self._network.opt, name, False)).lower() for name in OPTIONS}
        return Proof(
            runtime="ncnn",
            version=self._version,
            provider="CPU",
            precision=summary(precisions),
            products=precisions,
            layers=by_precision("f32" for _ in kinds),
            source="the layers of ncnn's network, and its options, none of which allows less than f32",
            settings={"threads": str(self._network.opt.num_threads), **options},
        )

    def _run(self, images: np.ndarray) -> np.ndarray:
        with self._turn:
            return np.stack([answer(self._network, image) for image in images])

    def _release(self) -> None:
        del self._network


def network(graph: bytes, weights: bytes, threads: int) -> Any:
    """Load an `ncnn.Net` with `OPTIONS`.

    ncnn writes to stderr what it dislikes and returns a number, so what may be wrong with a file is looked for first.

    Args:
        graph: the .param file, text.
        weights: the .bin file.

    Raises:
        ValueError: ncnn would not load it, or the weights are of another graph; says why in one line.
        MissingLayerError: the installed ncnn lacks a layer.
    """
    import ncnn

    lines = _layers(graph)
    for line in lines:
        if ncnn.create_layer(line[0]) is None:
            raise MissingLayerError(line[0])
    net = ncnn.Net()
    for name, value in OPTIONS.items():
        if hasattr(net.opt, name):  # an older release lacks what it cannot do
            setattr(net.opt, name, value)
    net.opt.num_threads = threads
    if (code := net.load_param_mem(graph.decode("ascii"))) != 0:
        raise ValueError(f"its .param file is damaged: ncnn answers {code}")
    if list(net.input_names()) != [INPUT] or list(net.output_names()) != [OUTPUT]:
        found = f"{', '.join(net.input_names())} and {', '.join(net.output_names())}"
        raise ValueError(f"its input and output are {found or 'none'}; expected {INPUT} and {OUTPUT}")
    reader = _reader(weights)
    code = net.load_model(reader)
    if code != 0 or reader.place != len(weights):
        told = "ends before the last weight" if code != 0 else f"has {len(weights) - reader.place} bytes too many"
        raise ValueError(f"its .bin file {told}: it is cut or of another model")
    return net


def _layers(graph: bytes) -> list[list[str]]:
    """The words of each layer's line of a .param file.

    Raises:
        ValueError: it is none, or is cut.
    """
    text = graph.decode("ascii", errors="replace").splitlines()
    if not text or text[0].strip() != MAGIC or "�" in "".join(text):
        raise ValueError(f"its .param file is not ncnn's text, whose first line is {MAGIC}")
    counts = text[1].split() if len(text) > 1 else []
    lines = [line.split() for line in text[2:] if line.strip()]
    if len(counts) != 2 or not counts[0].isdigit() or int(counts[0]) != len(lines) or not graph.endswith(b"\n"):
        told = f"has {len(lines)} layers, by its second line {counts[0] if counts else 'an unknown number'}"
        raise ValueError(f"its .param file is cut: it {told}, and the last line must end")
    return lines


def picture_of(graph: bytes) -> tuple[int, int]:
    """Height and width of the pictures that a network takes, from the line of its input.

    Raises:
        ValueError: see `_layers`; or its input names no picture of three colours.
    """
    for kind, _, *words in _layers(graph):
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
    import ncnn

    height, width, colours = image.shape
    # A matrix of numpy's memory would be read with ncnn's gaps between channels, which numpy does not have.
    pixels = ncnn.Mat(colours, width, height)
    np.asarray(pixels)[...] = image
    run = net.create_extractor()
    code = run.input(INPUT, pixels)
    if code == 0:
        code, logits = run.extract(OUTPUT)
    if code != 0:
        raise RuntimeError(f"ncnn answers {code} instead of logits")
    return np.array(logits, np.float32).reshape(-1)


def _reader(weights: bytes) -> Any:
    """An `ncnn.DataReader` of bytes in memory that knows how far it was read; ncnn's own reads past the end."""
    import ncnn

    class Weights(ncnn.DataReader):
        place = 0

        def read(self, buffer: Any, size: int) -> int:
            part = weights[self.place : self.place + size]
            ctypes.memmove(_pointer(buffer), part, len(part))
            self.place += len(part)
            return len(part)

    return Weights()


def _pointer(capsule: Any) -> int:
    """The address in a capsule, as which ncnn's binding gives the memory to fill."""
    name = ctypes.pythonapi.PyCapsule_GetName
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return int(pointer(capsule, name(capsule)))


def _weights_of(bundle: Bundle) -> str:
    """
    Raises:
        InputError: the bundle has no weights beside its graph.
    """
    name = str(PurePosixPath(bundle.manifest.model).with_suffix(".bin"))
    if name not in bundle.manifest.files:
        raise InputError(f"{bundle.path}: {name} is not among the bundle's files; make the bundle again")
    return name
