"""Where a label's query looks: the head's attention over the picture, of an ONNX bundle exported with it."""

from __future__ import annotations

import numpy as np

from edgepress.deploy.engines.base import Engine
from edgepress.deploy.engines.onnxruntime import OnnxRuntimeEngine
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import InputError

ATTENTION = "attention"
"""Name of the graph's second output, and of the fact in the manifest that tells of it."""


def has_attention(bundle: Bundle) -> bool:
    """Whether a bundle was exported with `--attention`."""
    return bundle.manifest.facts.get(ATTENTION) is True


def attention_of(engine: Engine, images: np.ndarray) -> np.ndarray:
    """What each label looks at: float32 `[B, num_classes, h, w]`, at least 0, a label's map with the sum 1.

    Of an ML-Decoder head it is the softmax of the label's query over the positions of the last feature map, as a mean
    over the attention's heads; of a linear head the softmax over positions of the label's score there.

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
    """Stop before another engine is made from a graph with two outputs, for which it would compute both.

    Raises:
        InputError: names the bundle to take instead.
    """
    if has_attention(parent):
        raise InputError(
            f"{parent.path}: has attention as a second output, which only the demo reads; "
            "expected the bundle that export writes without --attention"
        )
