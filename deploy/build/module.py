"""A finished torch module as a bundle: its graph with the front that every engine has, proven equal to the module."""

from __future__ import annotations

import copy
import hashlib
import inspect
import logging
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from edgepress.deploy.build.foreign import Foreign
from edgepress.deploy.build.front import forget_sources, normalised
from edgepress.deploy.build.golden_pictures import version_of
from edgepress.deploy.build.traced import INPUT, traced
from edgepress.deploy.build.wrap import Finished, wrap
from edgepress.deploy.engines.base import require
from edgepress.multilabel.bundle import Bundle, inputs_hash, up_to_date
from edgepress.multilabel.conventions import Activation, Colors
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.preprocess import Preprocess
from edgepress.multilabel.versions import package_version

log = logging.getLogger("edgepress")
_OUTPUT = "scores"
_TRIED = (2, 7)
"""Numbers of pictures that a module must take; it is traced with the last, which is no usual side of a tensor."""


def export(
    module: nn.Module,
    preprocess: Preprocess,
    labels: LabelSpace | Sequence[str],
    data: MultiLabelDataset,
    out: str | Path,
    *,
    activation: Activation | None = None,
    colors: Colors = "rgb",
    name: str | None = None,
    keep_labels: bool = False,
    generated_pictures: bool = False,
) -> Bundle:
    """Make a bundle of a torch module of your own, which every later stage takes.

    The module is exported to ONNX with uint8 pictures in, normalisation inside, logits out and a batch of any size.
    The graph's answers are compared with the module's own on pictures of `data`: in batches of 1, 2 and 5 no logit may
    differ by more than 1e-5 of the largest.

    Args:
        module: takes float32 pictures `[B, 3, size, size]`, normalised with `preprocess.mean` and `preprocess.std`,
            and gives one score per label, `[B, C]`. It is copied; the copy is on the CPU and in evaluation mode.
        preprocess: size, mean and std, and how a picture becomes square.
        labels: the names of the module's outputs, in their order; those that the data set lacks are dropped.
        data: the split that engines made from the bundle are verified on, at least five pictures.
        out: the bundle's folder.
        activation: what the scores have been through; `sigmoid` and `softmax` are undone. By default they are logits,
            and scores that are all within 0..1 are refused.
        colors: the order of the channels that the module takes.
        name: what messages and the model card call it; by default the name of its class.
        keep_labels: whether the bundle has all of the module's labels, as a teacher alone, and not those of `data`.
        generated_pictures: whether the bundle stores generated golden pictures, and not eight of `data`.

    Raises:
        InputError: an argument is of another kind or an unknown word; the module does not take such pictures, gives
            something else than a score per label, cannot be exported with a free batch size (the message says which
            line is in the way), or the graph answers otherwise; or labels of the data set are not among the module's.
        EngineUnavailableError: onnxruntime is not installed.

    Example:
        >>> import torch
        >>> from edgepress import Preprocess, export, load_dataset
        >>> data = load_dataset("my-pictures", "test")
        >>> own = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 8, 8), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        >>> made = export(own, Preprocess(size=64), data.labels, data, "runs/own/onnx-fp32")
        >>> made.manifest.kind
        'onnx'
    """
    require("onnxruntime", "onnxruntime")
    _require_sound(module, preprocess, labels, activation, colors)
    name = name or type(module).__name__
    names = labels if isinstance(labels, LabelSpace) else LabelSpace(tuple(labels))
    own = copy.deepcopy(module).cpu().eval()
    _try(own, name, preprocess.size)
    log.info("exporting %s to ONNX", name)
    graph = traced(own, torch.zeros(_TRIED[-1], 3, preprocess.size, preprocess.size), [_OUTPUT], name)
    foreign = Foreign(
        source=name,
        model=graph,
        input=INPUT,
        dtype="float32",
        layout="nchw",
        colors=colors,
        size=preprocess.size,
        batch=graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value or None,
        output=_OUTPUT,
        activation=activation,
    )

    @torch.inference_mode()
    def answers(pixels: np.ndarray) -> np.ndarray:
        return own(torch.from_numpy(normalised(pixels, foreign, preprocess))).numpy()

    model = Finished(
        name=name,
        foreign=foreign,
        preprocess=preprocess,
        labels=names,
        keep_labels=keep_labels,
        generated_pictures=generated_pictures,
        free_batch="Write x.shape[0] or -1 there: len(x), int(x.shape[0]) and a number are constants to the exporter",
        answers=answers,
    )
    model.columns(data)  # so that other labels are told before anything else
    tools = ("torch", "onnx", "onnxruntime", "edgepress")
    inputs = inputs_hash(
        {
            "graph": _digest(graph),
            "preprocess": preprocess.model_dump(mode="json"),
            "as": [names.names, activation, colors, name, keep_labels, version_of(generated_pictures)],
            "verified": data.fingerprint(),
            "tools": [package_version(tool) for tool in tools],
        }
    )
    return up_to_date(Path(out), inputs) or wrap(model, data, Path(out), inputs=inputs, tools=tools)


def _require_sound(module: object, preprocess: object, labels: object, activation: object, colors: object) -> None:
    if not isinstance(module, nn.Module):
        raise InputError(f"module is {type(module).__name__}; expected a torch.nn.Module")
    if not isinstance(preprocess, Preprocess):
        raise InputError(f"preprocess is {preprocess!r}; expected a Preprocess, such as Preprocess(size=224)")
    if isinstance(labels, str):
        raise InputError(f"labels is the text {labels[:40]!r}; expected a list of names")
    for argument, given, known in (
        ("colors", colors, get_args(Colors)),
        ("activation", activation, (None, *get_args(Activation))),
    ):
        if given not in known:
            raise InputError(f"{argument} is {given!r}; expected {' or '.join(map(repr, known))}")


def _digest(graph: onnx.ModelProto) -> str:
    """sha256 of a graph, whatever file its code is in."""
    bare = onnx.ModelProto()
    bare.CopyFrom(graph)
    forget_sources(bare)
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()


@torch.inference_mode()
def _try(module: nn.Module, name: str, size: int) -> None:
    """Call a module as it will be called, so that its own error is told and not the exporter's."""
    needed = [
        one.name
        for one in inspect.signature(module.forward).parameters.values()
        if one.default is one.empty and one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
    ]
    if len(needed) > 1:
        raise InputError(
            f"{name}: forward takes {', '.join(needed)}; expected the pictures alone: wrap it in a module whose "
            f"forward gives it the others as constants"
        )
    for count in _TRIED:
        shape = [count, 3, size, size]
        try:
            found = module(torch.zeros(shape))
        except Exception as error:  # whatever its code raises
            raise InputError(
                f"{name}: fails on float32 pictures {shape}: {type(error).__name__}: "
                f"{' '.join(str(error).split())[:200]}{_where(error)}"
            ) from error
        if not isinstance(found, Tensor):
            raise InputError(
                f"{name}: gives {type(found).__name__}; expected one tensor of scores [pictures, labels]: wrap it in a "
                f"module whose forward returns that tensor alone"
            )
        if not found.ndim or len(found) != count:
            raise InputError(
                f"{name}: gives the shape {list(found.shape)} for {count} pictures; expected [{count}, labels]"
            )


def _where(error: BaseException) -> str:
    """The innermost line of an error that is not torch's own."""
    own = Path(torch.__file__).parent
    frames = [one for one in traceback.extract_tb(error.__traceback__) if own not in Path(one.filename).parents]
    last = frames[-1]
    return "" if last.filename == __file__ else f" ({Path(last.filename).name}, line {last.lineno}: {last.line})"
