"""The nodes that lose most to INT8: the noise in the logits if only that node is quantised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgepress.calibration.int8.qdq import OnnxQuantizer
from edgepress.calibration.int8.ranges import Method
from edgepress.calibration.int8.subset import spread
from edgepress.multilabel.manifest import NodeNoise
from edgepress.multilabel.noise import signal_to_noise
from edgepress.multilabel.onnx_session import cpu_session

PICTURES = 24
"""Number of pictures: it suffices to rank nodes by noise, because every logit of every picture shows it."""


def rank_nodes(
    quantizer: OnnxQuantizer, method: Method, advance: Any = lambda: None, nodes: Sequence[str] | None = None
) -> list[NodeNoise]:
    """Every quantised product, worst first.

    Args:
        advance: a function that is called after each node.
        nodes: if given, only these products are considered.
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
    """The worst nodes, at most `count`, whose constants are together at most `room`; a node that is too large is
    skipped."""
    chosen: list[str] = []
    for noise in ranked:
        if len(chosen) < count and weights[noise.node] <= room:
            chosen.append(noise.node)
            room -= weights[noise.node]
    return tuple(sorted(chosen))


def _run(model: bytes, images: np.ndarray) -> np.ndarray:
    session = cpu_session(model)
    return session.run(None, {session.get_inputs()[0].name: images})[0]
