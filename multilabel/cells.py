"""Cells: arrays `[N, C]` of pictures by labels that may be too large for memory, and how they are gone through.

10,000 labels of 50,000 pictures are 500 million cells: 2 GB of logits. An array of that size is a file without a name,
which is mapped into memory and which the system deletes with the process, however that ends. It is an ndarray like any
other. What goes through it by `row_parts` or `columns_of` keeps no more of it in memory than a part.
"""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from edgepress.multilabel.errors import InputError

LARGE = 1 << 27
"""Bytes from which on an array is a file: 128 MB."""
_ROW_CELLS = 1 << 22
"""Number of cells that are computed with at once, a few float64 copies of which are 100 MB."""
_COLUMN_CELLS = 1 << 23
"""Number of cells of some labels that are copied at once."""


class CellWriter:
    """Takes the rows of an array `[N, C]` in their order, into memory or, where it is large, into a file.

    Args:
        folder: where the file is; by default the system's folder for temporary files.
    """

    def __init__(self, shape: tuple[int, int], dtype: np.dtype | type, folder: Path | None = None) -> None:
        self._shape, self._dtype, self._rows = shape, np.dtype(dtype), 0
        self._file: IO[bytes] | None = None
        if is_large(shape, self._dtype):
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        else:
            self._kept = np.empty(shape, self._dtype)

    def append(self, rows: np.ndarray) -> None:
        """Add rows `[n, C]`."""
        if self._file is None:
            self._kept[self._rows : self._rows + len(rows)] = rows
        else:
            self._file.write(np.ascontiguousarray(rows, self._dtype).data)
        self._rows += len(rows)

    def done(self) -> np.ndarray:
        """The array, which must be complete; one that is a file cannot be written to."""
        assert self._rows == self._shape[0], "rows are missing"
        if self._file is None:
            return self._kept
        self._file.flush()
        return np.memmap(self._file, self._dtype, "r", shape=self._shape)


def is_large(shape: tuple[int, ...], dtype: np.dtype | type) -> bool:
    """Whether an array of this size is kept in a file."""
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize >= LARGE


def row_parts(*arrays: np.ndarray) -> Iterator[slice]:
    """Some rows at a time of arrays `[N, C]`, the sizes of which are those of the first; all at once where they are
    few. After each part, what was read of files is let go."""
    for part in _row_slices(*arrays[0].shape):
        yield part
        _let_go(*arrays)


def column_parts(shape: tuple[int, ...]) -> Iterator[slice]:
    """Some labels at a time of arrays `[N, C]`; all at once where they are few."""
    rows, labels = shape
    step = max(_COLUMN_CELLS // max(rows, 1), 1)
    for start in range(0, labels, step):
        yield slice(start, min(start + step, labels))


def columns_of(array: np.ndarray, columns: slice) -> np.ndarray:
    """A copy of some columns of `[N, C]` in which each label's cells lie together in memory."""
    rows, labels = len(array), len(range(*columns.indices(array.shape[1])))
    found = np.empty((labels, rows), array.dtype)
    for part in row_parts(array):
        found[:, part] = array[part, columns].T
    return found.T


def reordered(
    array: np.ndarray, rows: np.ndarray, columns: list[int] | np.ndarray, folder: Path | None = None
) -> np.ndarray:
    """`array[rows][:, columns]`; the same array where that changes nothing."""
    if np.array_equal(rows, np.arange(len(array))) and np.array_equal(columns, np.arange(array.shape[1])):
        return array
    made = CellWriter((len(rows), len(columns)), array.dtype, folder)
    for part in _row_slices(len(rows), len(columns)):
        made.append(array[rows[part]][:, columns])
        _let_go(array)
    return made.done()


def all_finite(array: np.ndarray) -> bool:
    """Whether no cell is NaN or infinite."""
    return all(bool(np.isfinite(array[part]).all()) for part in row_parts(array))


def scratch_folder(beside: Path) -> Path:
    """Where large arrays are kept while something beside `beside` is worked on: there, or where that folder cannot be
    written to, in the system's folder for temporary files."""
    return beside.parent if os.access(beside.parent, os.W_OK) else Path(tempfile.gettempdir())


def require_space(folder: Path, cells: int, bytes_a_cell: int, what: str) -> None:
    """Refuse work whose arrays would fill the disk.

    Raises:
        InputError: `folder` has less room; says how much is needed.
    """
    needed, free = cells * bytes_a_cell, shutil.disk_usage(folder).free
    if needed >= LARGE and needed > free:
        raise InputError(
            f"{folder}: {free / 1e9:.1f} GB are free, and {what} keeps {needed / 1e9:.1f} GB there while it runs: "
            "free some space, or copy the bundle to a larger disk"
        )


def _row_slices(rows: int, labels: int) -> Iterator[slice]:
    step = max(_ROW_CELLS // max(labels, 1), 1)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def _let_go(*arrays: np.ndarray) -> None:
    for array in arrays:
        mapped = _file_of(array)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)


def _file_of(array: np.ndarray | None) -> mmap.mmap | None:
    """The file that an array or a view of one is mapped from, if it is only read: `np.asarray` of a memmap is a view
    that does not know its file, but its base does."""
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap) and array.mode == "r" and isinstance(array._mmap, mmap.mmap):
            return array._mmap
        array = array.base if isinstance(array.base, np.ndarray) else None
    return None
