"""AnswerFiles: a teacher's answers on disk, a row per picture, found by the picture's content and read without a copy.

A set of files has raw rows and no header: `.pictures` (the first 16 bytes of the sha256 of each picture's file),
`.logits`, with label maps `.maps`, with what lies inside the teacher `.inside`, and with label-wise embeddings `.cells`
(which of a picture's labels have one) and `.embeddings` (one after another). They only grow. A row counts from the
moment when its picture's hash is on the disk, which is written last: what a killed process left after that is cut off.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from edgepress.multilabel.durable import sync

_HASH_BYTES = 16
MOST = 6e4
"""Largest score that float16 holds; larger ones are kept as this."""


class AnswerFiles:
    """The answers for one augmentation of pictures.

    Args:
        stem: the path of the files without their suffixes; its folder exists.
        labels: number of logits per picture.
        embedding_dim: width of the label-wise embeddings; None where none are kept.
        dtype: of the logits. Embeddings are float32, because the terms between them compare small differences of
            large values, which half precision rounds away. Label maps are float16.
        regions: number of values of each label's map; None where no maps are kept.
        inside: number of values of what lies inside the teacher; None where none are kept. They are float16.
    """

    def __init__(
        self,
        stem: Path,
        labels: int,
        embedding_dim: int | None,
        dtype: type[np.floating] = np.float16,
        regions: int | None = None,
        inside: int | None = None,
    ) -> None:
        self.pictures = _Rows(stem.with_name(f"{stem.name}.pictures"), np.uint8, _HASH_BYTES)
        self.logits = _Rows(stem.with_name(f"{stem.name}.logits"), dtype, labels)
        self.cells = _Rows(stem.with_name(f"{stem.name}.cells"), np.bool_, labels)
        self.embeddings = _Rows(stem.with_name(f"{stem.name}.embeddings"), np.float32, embedding_dim or 0)
        self.maps = _Rows(stem.with_name(f"{stem.name}.maps"), np.float16, labels * (regions or 0))
        self.inside = _Rows(stem.with_name(f"{stem.name}.inside"), np.float16, inside or 0)
        self.with_embeddings, self.with_maps = embedding_dim is not None, regions is not None
        self.with_inside = inside is not None

    def __len__(self) -> int:
        return self.pictures.count()

    def find(self, hashes: Sequence[str]) -> np.ndarray:
        """int64 `[N]`, the last row of each picture, or -1 where it has none.

        Args:
            hashes: sha256 of the pictures' files.
        """
        known = self.pictures.mapped().tobytes()
        rows = {known[at : at + _HASH_BYTES]: at // _HASH_BYTES for at in range(0, len(known), _HASH_BYTES)}
        return np.array([rows.get(_key(name), -1) for name in hashes], dtype=np.int64)

    def repair(self) -> None:
        """Cut off what was written without its picture's hash; nobody else may write meanwhile."""
        count = len(self)
        self.pictures.cut(count)
        self.logits.cut(count)
        if self.with_embeddings:
            self.cells.cut(count)
            self.embeddings.cut(int(self.cells.mapped()[:count].sum()))
        if self.with_maps:
            self.maps.cut(count)
        if self.with_inside:
            self.inside.cut(count)

    def append(
        self,
        hashes: Iterable[str],
        logits: np.ndarray,
        cells: np.ndarray | None = None,
        embeddings: np.ndarray | None = None,
        maps: np.ndarray | None = None,
        inside: np.ndarray | None = None,
    ) -> None:
        """Add rows, which are on the disk when it returns.

        Args:
            hashes: sha256 of `[N]` pictures' files.
            logits: `[N, C]`.
            cells: bool `[N, C]`, the labels with an embedding.
            embeddings: `[P, dim]`, those of the true cells, in their order.
            maps: `[N, C, regions]`.
            inside: float16 `[N, values]`.
        """
        self.logits.append(np.clip(logits, -MOST, MOST))
        if self.with_embeddings:
            assert cells is not None
            assert embeddings is not None
            assert len(embeddings) == cells.sum()
            self.cells.append(cells)
            self.embeddings.append(embeddings)
        if self.with_maps:
            assert maps is not None
            self.maps.append(np.clip(maps, -MOST, MOST).reshape(len(maps), -1))
        if self.with_inside:
            assert inside is not None
            self.inside.append(inside)
        names = b"".join(map(_key, hashes))
        self.pictures.append(np.frombuffer(names, np.uint8).reshape(-1, _HASH_BYTES))


class _Rows:
    """A file of rows of one width."""

    def __init__(self, path: Path, dtype: type, width: int) -> None:
        self.path, self.dtype, self.width = path, np.dtype(dtype), width

    def count(self) -> int:
        """Number of whole rows; 0 where there is no file."""
        size = self.path.stat().st_size if self.path.is_file() else 0
        return size // (self.dtype.itemsize * self.width) if self.width else 0

    def mapped(self) -> np.ndarray:
        """`[rows, width]`, read from the disk as it is used."""
        if not (count := self.count()):
            return np.zeros((0, self.width), self.dtype)
        return np.memmap(self.path, self.dtype, mode="r", shape=(count, self.width))

    def append(self, rows: np.ndarray) -> None:
        assert rows.ndim == 2
        assert rows.shape[1] == self.width
        new = not self.path.exists()
        with self.path.open("ab") as file:
            file.write(np.ascontiguousarray(rows, self.dtype).tobytes())
            file.flush()
            os.fsync(file.fileno())
        if new:  # its name must be on the disk before a later file counts its rows
            sync(self.path.parent)

    def cut(self, count: int) -> None:
        if self.path.is_file() and self.path.stat().st_size > (size := count * self.dtype.itemsize * self.width):
            os.truncate(self.path, size)


def _key(name: str) -> bytes:
    return bytes.fromhex(name[: 2 * _HASH_BYTES])
