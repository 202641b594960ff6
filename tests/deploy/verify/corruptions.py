"""Graphs that pretend to be an honest bundle's: each is wrong in one way."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgepress.deploy.build.reference import REFERENCE
from edgepress.multilabel.bundle import Bundle, write_bundle


def wrap(path: Path, graph: onnx.ModelProto, like: Bundle, **fields: Any) -> Bundle:
    """A changed graph as the bundle that it pretends to be, with the honest one's labels and reference."""
    manifest = like.manifest
    given = {name: getattr(manifest, name) for name in ("precision", "labels", "preprocess", "parent")} | fields
    with write_bundle(path, kind="onnx", model=manifest.model, **given) as folder:
        onnx.save(graph, folder / manifest.model)
        shutil.copyfile(like.path / REFERENCE, folder / REFERENCE)
    return Bundle.open(path)


def gathered(graph: onnx.ModelProto, order: list[int]) -> None:
    """The head's rows in another order: column i of the logits becomes column order[i]."""
    after(graph, "Gather", [numpy_helper.from_array(np.array(order), "order")], axis=1)


def scaled(graph: onnx.ModelProto, factor: float) -> None:
    after(graph, "Mul", [numpy_helper.from_array(np.array(factor, np.float32), "factor")])


def after(graph: onnx.ModelProto, operator: str, constants: list[onnx.TensorProto], **attributes: Any) -> None:
    """One more operator between the logits and the output."""
    (output,) = graph.graph.output
    for node in graph.graph.node:
        for place, name in enumerate(node.output):
            if name == output.name:
                node.output[place] = "honest"
    graph.graph.initializer.extend(constants)
    inputs = ["honest", *(tensor.name for tensor in constants)]
    graph.graph.node.append(helper.make_node(operator, inputs, [output.name], **attributes))


def other_normalisation(graph: onnx.ModelProto, what: str) -> None:
    """ImageNet's mean or std in the place of the model's (or the other way round), as numbers of 0 to 255."""
    operator, value = {"mean": ("Sub", [103.53, 116.28, 123.675]), "std": ("Mul", [1 / 127.5] * 3)}[what]
    (node,) = [node for node in graph.graph.node if node.op_type == operator][:1]
    (constant,) = [tensor for tensor in graph.graph.initializer if tensor.name in node.input]
    before = numpy_helper.to_array(constant)
    new = np.array(value, np.float32).reshape(before.shape)
    assert np.abs(new - before).max() > 1e-4
    constant.CopyFrom(numpy_helper.from_array(new, constant.name))


def perturbed_weights(graph: onnx.ModelProto, share: float) -> None:
    """Noise on every convolution's weights, a share of their own spread."""
    rng = np.random.default_rng(0)
    names = {node.input[1] for node in graph.graph.node if node.op_type == "Conv"}
    for tensor in graph.graph.initializer:
        if tensor.name in names:
            weight = numpy_helper.to_array(tensor)
            noise = rng.normal(0, share * weight.std(), weight.shape).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(weight + noise, tensor.name))


def not_finite(graph: onnx.ModelProto, value: float) -> None:
    """One label's bias is NaN or infinite."""
    offset = np.zeros(5, np.float32)
    offset[2] = value
    after(graph, "Add", [numpy_helper.from_array(offset, "offset")])


CORRUPTIONS: dict[str, tuple[Callable[[onnx.ModelProto], None], str]] = {
    "head rows permuted": (lambda graph: gathered(graph, [1, 2, 3, 4, 0]), "mAP drops"),
    "two head rows swapped": (lambda graph: gathered(graph, [1, 0, 2, 3, 4]), "a logit differs"),
    "wrong mean": (lambda graph: other_normalisation(graph, "mean"), "a logit differs"),
    "wrong std": (lambda graph: other_normalisation(graph, "std"), "a logit differs"),
    "weights perturbed": (lambda graph: perturbed_weights(graph, 0.3), "a logit differs"),
    "weights perturbed a little": (lambda graph: perturbed_weights(graph, 0.03), "a logit differs"),
    "logits doubled": (lambda graph: scaled(graph, 2), "a logit differs by"),
    "logits negated": (lambda graph: scaled(graph, -1), "decisions changed per predicted positive"),
    "NaN": (lambda graph: not_finite(graph, np.nan), "12 logits are not finite"),
    "infinity": (lambda graph: not_finite(graph, np.inf), "12 logits are not finite"),
}
