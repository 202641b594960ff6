"""Where a label's query looks: the head's attention over the picture, for an ONNX bundle exported with it."""

from __future__ import annotations

import numpy as np

from edgepress.deploy.engines.base import Engine
from edgepress.deploy.engines.onnxruntime import OnnxRuntimeEngine
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import InputError

ATTENTION = "attention"
"""Name of the graph's second output, and of the fact in the manifest that records it."""


def has_attention(bundle: Bundle) -> bool:
    """Whether a bundle was exported with `--attention`."""
    return bundle.manifest.facts.attention


def attention_of(engine: Engine, images: np.ndarray) -> np.ndarray:
    """What each label looks at: float32 `[B, num_classes, h, w]`, at least 0; the map of each label sums to 1.

    For an ML-Decoder head it is the softmax of the label's query over the positions of the last feature map, averaged
    over the attention heads; for a linear head it is the softmax over positions of the label's score there.

    Args:
        images: prepared pixels uint8 RGB `[B, size, size, 3]`.

    Raises:
        InputError: the engine's bundle has no such output; says how to make one.
    """
    if not (has_attention(engine.bundle) and isinstance(engine, OnnxRuntimeEngine)):
        raise InputError(
            f"{engine.bundle.path}: has no attention; expected an ONNX bundle that shows it "
            "(edgepress export STUDENT --data DIR --attention --out onnx-fp32-attention)"
        )
    return engine.output(ATTENTION, images)


def require_logits_alone(parent: Bundle) -> None:
    """Stop before another engine is made from a graph with two outputs, because the engine would compute both.

    Raises:
        InputError: the graph has two outputs; names the bundle to take instead.
    """
    if has_attention(parent):
        raise InputError(
            f"{parent.path}: has attention as a second output, which only the demo reads; "
            "expected the bundle that export writes without --attention"
        )
