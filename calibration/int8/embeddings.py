"""The features that a float model computes from pictures: the last convolution's output, averaged over positions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from edgepress.calibration.int8.graphs import part_of, run_in_chunks
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.pictures import Picture

BLOCK = 64
"""Number of pictures that are held at once."""


def embed(model: Path, pictures: Sequence[Picture], load: Callable[[Picture], np.ndarray]) -> np.ndarray:
    """Embeddings `[N, D]`, float32, of unit length.

    Args:
        model: a float ONNX file that takes uint8 pictures.
        load: turns a picture into uint8 `[size, size, 3]`.

    Raises:
        InputError: the graph has no convolution.
    """
    import onnx

    loaded = onnx.load(str(model))
    convolutions = [node for node in loaded.graph.node if node.op_type == "Conv"]
    if not convolutions:
        raise InputError(f"{model}: no convolution to take embeddings from; choose --choice covering or random")
    part = part_of(loaded, [convolutions[-1].output[0]])
    parts = []
    for start in range(0, len(pictures), BLOCK):
        images = np.stack([load(picture) for picture in pictures[start : start + BLOCK]])
        parts += [values.mean(axis=(2, 3)) for (values,) in run_in_chunks(part, {loaded.graph.input[0].name: images})]
    found = np.concatenate(parts)
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def k_centre(embeddings: np.ndarray, count: int, first: int) -> list[int]:
    """Greedy k-centre: each next row is the one farthest from all rows chosen so far.

    Gonzalez, "Clustering to minimize the maximum intercluster distance" (1985): its radius is at most twice the best.

    Args:
        embeddings: `[N, D]`.
        count: number of rows to choose, at most N.
        first: the row to begin with.
    """
    chosen = [first]
    distance = np.linalg.norm(embeddings - embeddings[first], axis=1)
    while len(chosen) < count:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(embeddings - embeddings[chosen[-1]], axis=1))
        distance[chosen] = -1.0  # duplicates of a chosen picture are at 0, and no row is chosen twice
    return chosen
