"""Which nodes INT8 costs most: the noise in the logits with only that node quantised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgepress.calibration.int8.qdq import OnnxQuantizer
from edgepress.calibration.int8.ranges import Method
from edgepress.calibration.int8.subset import spread
from edgepress.multilabel.manifest import NodeNoise
from edgepress.multilabel.noise import signal_to_noise

PICTURES = 24
"""Enough to rank nodes by noise, which every logit of every picture shows."""


def rank_nodes(
    quantizer: OnnxQuantizer, method: Method, advance: Any = lambda: None, nodes: Sequence[str] | None = None
) -> list[NodeNoise]:
    """Every product that is quantised, worst first.

    Args:
        advance: called after each node.
        nodes: only these products.
    """
    images = spread(quantizer.images, PICTURES)
    reference = _run(quantizer.prepared.read_bytes(), images)
    total = sum(quantizer.macs.values())
    ranked = []
    for node in quantizer.products if nodes is None else nodes:
        logits = _run(quantizer.only(node, method).SerializeToString(), images)
        ranked.append(NodeNoise(node=node, sqnr=signal_to_noise(reference, logits), macs=quantizer.macs[node] / total))
        advance()
    return sorted(ranked, key=lambda noise: noise.sqnr)


def worst_within(ranked: list[NodeNoise], weights: dict[str, int], count: int, room: float) -> tuple[str, ...]:
    """The worst nodes, at most `count`, whose constants are together at most `room`; a node that is too large is passed
    over."""
    chosen: list[str] = []
    for noise in ranked:
        if len(chosen) < count and weights[noise.node] <= room:
            chosen.append(noise.node)
            room -= weights[noise.node]
    return tuple(sorted(chosen))


def _run(model: bytes, images: np.ndarray) -> np.ndarray:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(
        model, options, providers=["CPUExecutionProvider"], disabled_optimizers=["WeightBiasQuantization"]
    )
    return session.run(None, {session.get_inputs()[0].name: images})[0]
