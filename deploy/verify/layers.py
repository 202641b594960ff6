"""Find the layer that went wrong: compare tensors in a bundle's graph with those of that name in its float ONNX graph.

The tensors of the float ONNX graph itself are compared with the outputs of the torch model's modules.

There are two numbers per tensor, both signal to noise in dB. `so_far_db` is for the graph as it runs: noise adds up
from layer to layer, so a low value does not show which layer is at fault. `alone_db` is for that layer alone, given the
float graph's values for all earlier tensors: the noise that it adds itself. A layer diverged if this is below
`ALONE_DB` for the bundle's precision.
"""

from __future__ import annotations

import importlib.util

import numpy as np
from pydantic import BaseModel, ConfigDict

from edgepress.deploy.engines.table import RUNTIMES
from edgepress.deploy.verify.graph_cuts import FloatGraph, Graph, OnnxGraph, OpenVinoGraph
from edgepress.deploy.verify.torch_graph import TorchGraph
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.noise import decibels
from edgepress.multilabel.versions import install_command

ALONE_DB = {"fp32": 60.0, "fp16": 40.0, "int8": 10.0}
"""Least signal to noise of a layer alone. Measured on the sample student: fp32 in OpenVINO 126 and above, fp16 58 and
above, INT8 31 and above by ONNX Runtime's quantiser and 14 and above by NNCF; noise on a layer's weights as large as
their own spread gives about 0."""
PICTURES = 8
"""A wrong layer is wrong on every picture."""


class LayerNoise(BaseModel):
    """One tensor that both graphs have."""

    model_config = ConfigDict(frozen=True)

    layer: str
    """The node that computes it in the bundle's graph; for a float ONNX graph the torch model's module. Everything
    between it and the earlier tensors is judged with it."""
    operator: str
    tensor: str
    so_far_db: float
    alone_db: float


class Inspection(BaseModel):
    """What `--layers` found."""

    model_config = ConfigDict(frozen=True)

    not_inspected: str | None = None
    """Why nothing was compared."""
    against: str | None = None
    """The float bundle."""
    pictures: int = 0
    threshold_db: float | None = None
    diverged_at: str | None = None
    """The first layer whose `alone_db` is below the threshold."""
    layers: tuple[LayerNoise, ...] = ()
    """The layers in the order of execution."""


def inspect_layers(bundle: Bundle, parent: Bundle | None, data: MultiLabelDataset) -> Inspection:
    """Compare a bundle's graph with the fp32 ONNX graph, or the torch model, that it was made from, on a CPU.

    Args:
        parent: that ONNX or torch bundle; None if it is not beside the bundle.
        data: its first `PICTURES` pictures are used, one at a time, which bounds memory.

    Raises:
        InputError: a picture cannot be read.
        DataChangedError: see `MultiLabelDataset.stored`.
    """
    reason = _why_not(bundle, parent)
    if reason is not None:
        return Inspection(not_inspected=reason)
    assert parent is not None
    images = [bundle.preprocess(data.picture(row))[None] for row in range(min(PICTURES, len(data)))]
    exact: FloatGraph | TorchGraph
    if parent.manifest.kind == "torch":
        exact = TorchGraph(parent, bundle.model_path, images[0])
    else:
        exact = FloatGraph(parent.model_path)
    kind = OpenVinoGraph if bundle.manifest.kind == "openvino" else OnnxGraph
    graph: Graph = kind(bundle.model_path, exact.tensors)
    if isinstance(exact, TorchGraph):
        graph.layers = [exact.named(layer) for layer in graph.layers]
    if not graph.layers:
        return Inspection(not_inspected=f"no tensor of its graph has a name that {parent.name}'s has")
    calibration = bundle.manifest.calibration
    # Channels of an equalised graph are scaled on purpose.
    gains = _gains(graph, exact, images) if calibration and "equalised" in calibration.method else {}
    layers = _noise(graph, exact, images, gains)
    threshold = ALONE_DB[bundle.manifest.precision]
    return Inspection(
        against=parent.name,
        pictures=len(images),
        threshold_db=threshold,
        diverged_at=next((one.layer for one in layers if one.alone_db < threshold), None),
        layers=layers,
    )


def _why_not(bundle: Bundle, parent: Bundle | None) -> str | None:
    """Why a bundle's layers cannot be compared here."""
    if bundle.manifest.kind == "tensorrt":
        return "a TensorRT plan shows no inner tensors; give --layers the ONNX bundle that it was built from"
    if bundle.manifest.kind in ("litert", "ncnn"):
        name = RUNTIMES[bundle.manifest.kind].name
        return f"{name}'s file is not cut at the tensors of an ONNX graph; inspect the bundle that it was made from"
    if parent is None:
        return "what it was made from, an fp32 ONNX or torch bundle, is not beside it, unchanged"
    if parent.manifest.kind == "torch" and importlib.util.find_spec("torch") is None:
        return "torch is not installed here, and the model that it was exported from is torch's"
    for module, extra in (("onnx", "quantize"), ("onnxruntime", "onnxruntime")):
        if importlib.util.find_spec(module) is None:
            return f"{module} is not installed here ({install_command(extra)})"
    return None


def _noise(
    graph: Graph, exact: FloatGraph | TorchGraph, images: list[np.ndarray], gains: dict[str, np.ndarray]
) -> tuple[LayerNoise, ...]:
    powers = np.zeros((len(graph.layers), 3))
    for image in images:
        given = {name: value * gains.get(name, np.float32(1)) for name, value in exact.values(image).items()}
        so_far, alone = graph.so_far(image), graph.alone(image, given)
        for row, layer in zip(powers, graph.layers, strict=True):
            wanted = given[layer.tensor]
            row += _power(wanted), _power(so_far[layer.tensor] - wanted), _power(alone[layer.tensor] - wanted)
    return tuple(
        LayerNoise(
            layer=layer.node,
            operator=layer.operator,
            tensor=layer.tensor,
            so_far_db=decibels(signal, noise),
            alone_db=decibels(signal, own),
        )
        for layer, (signal, noise, own) in zip(graph.layers, powers.tolist(), strict=True)
    )


def _gains(graph: Graph, exact: FloatGraph | TorchGraph, images: list[np.ndarray]) -> dict[str, np.ndarray]:
    """For each tensor `[B, C, H, W]`, the scale per channel `[1, C, 1, 1]` that brings the float graph's nearest.

    So in an equalised graph a layer that only scales whole channels is not found; any other fault is.
    """
    both: dict[str, np.ndarray] = {}
    for image in images:
        values, found = exact.values(image), graph.so_far(image)
        for name in found:
            if found[name].ndim == 4:
                pair = (found[name] * values[name], np.square(values[name]))
                sums = np.stack([part.sum(axis=(0, 2, 3), dtype=np.float64) for part in pair])
                both[name] = both.get(name, 0) + sums
    # A channel that is always 0 has no scale.
    return {
        name: np.divide(product, square, out=np.ones_like(square), where=square > 0)
        .astype(np.float32)
        .reshape(1, -1, 1, 1)
        for name, (product, square) in both.items()
    }


def _power(values: np.ndarray) -> float:
    return float(np.square(values, dtype=np.float64).sum())
