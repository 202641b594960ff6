"""reference.npz: the logits of torch's model, or of an adopted one, for every picture of the verified split.

It travels with every artifact, so that a device without torch can prove an engine against the model it came from.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepress.multilabel.cells import CellWriter, all_finite, row_parts
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import one_form

REFERENCE = "reference.npz"
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
TORCH = "torch"
"""The source of a reference whose model torch ran, and of those from before the source was stored."""


@dataclass(frozen=True, eq=False)
class Reference:
    """A model's logits for a split, identified by the content hashes of its pictures."""

    hashes: list[str]
    """sha256 of each picture file."""
    logits: np.ndarray
    """float32 `[N, C]`."""
    targets: np.ndarray
    """uint8 `[N, C]`, the labels as they were when the reference was made."""
    ignore: np.ndarray
    """bool `[N, C]`."""
    labels: tuple[str, ...]
    """The names of the C columns."""
    source: str = TORCH
    """Whose logits they are: torch's, or, in words, an adopted model's."""

    @classmethod
    def of(cls, data: MultiLabelDataset, logits: np.ndarray, source: str = TORCH) -> Reference:
        """The reference of a split whose logits `[N, C]` are in the split's order."""
        return cls(data.hashes(), logits.astype(np.float32), data.targets, data.ignore, data.labels.names, source)

    def save(self, path: Path) -> None:
        """Write an .npz file without pickled objects."""
        np.savez_compressed(
            path,
            hashes=np.array(self.hashes),
            logits=self.logits,
            targets=self.targets,
            ignore=self.ignore,
            labels=np.array(self.labels),
            source=np.array(self.source),
        )

    @classmethod
    def load(cls, path: Path, folder: Path | None = None) -> Reference:
        """Read what `save` wrote; arrays that are large are inflated into files.

        Args:
            folder: where these files are; see `multilabel.cells`.

        Raises:
            InputError: the file is not what `save` writes.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                hashes, labels = file["hashes"], file["labels"]
                logits, targets, ignore = (_cells(file.zip, name, folder) for name in ("logits", "targets", "ignore"))
                source = file["source"] if "source" in file else np.array(TORCH)
            if hashes.dtype.kind != "U" or labels.dtype.kind != "U" or hashes.ndim != 1 or labels.ndim != 1:
                raise ValueError("hashes and labels are not lists of text")
            if source.dtype.kind != "U" or source.ndim:
                raise ValueError("source is no text")
            for name, cells, kind in (("logits", logits, "f"), ("targets", targets, "u"), ("ignore", ignore, "b")):
                if cells.dtype.kind != kind or cells.shape != (len(hashes), len(labels)):
                    found = f"{cells.dtype} {list(cells.shape)}"
                    raise ValueError(f"{name}: {found} for {len(hashes)} pictures and {len(labels)} labels")
            if not all_finite(logits) or not all((targets[part] <= 1).all() for part in row_parts(targets)):
                raise ValueError("logits that are not finite, or targets other than 0 and 1")
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{path}: not a reference that edgepress made ({error})") from None
        return cls(hashes.tolist(), logits, targets, ignore, tuple(map(one_form, labels.tolist())), str(source))

    def rows(self, hashes: list[str]) -> np.ndarray | None:
        """int64 `[N]`, the row of each picture in the reference; None unless all pictures are in it."""
        # Copies of one file are matched in their order, because their labels may differ.
        places: dict[str, list[int]] = {}
        for row, name in enumerate(self.hashes):
            places.setdefault(name, []).append(row)
        turns: Counter[str] = Counter()
        rows = []
        for name in hashes:
            if name not in places:
                return None
            rows.append(places[name][min(turns[name], len(places[name]) - 1)])
            turns[name] += 1
        return np.array(rows, dtype=np.int64)


def _cells(archive: zipfile.ZipFile, name: str, folder: Path | None) -> np.ndarray:
    """An array `[N, C]` of an .npz file, some rows at a time.

    Raises:
        KeyError: there is none of this name.
        ValueError: it has another form, or is shorter than it says.
    """
    with archive.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"{name}: version {version} of the .npy format")
        shape, fortran, dtype = _HEADERS[version](file)
        if len(shape) != 2 or dtype.hasobject:
            raise ValueError(f"{name}: {dtype} {list(shape)}; expected numbers [pictures, labels]")
        # An adopted model's answers may lie label by label, as its graph left them.
        stored = shape[::-1] if fortran else shape
        made = CellWriter(stored, dtype, folder)
        for part in row_parts(np.broadcast_to(np.zeros(1, dtype), stored)):
            count = (part.stop - part.start) * stored[1]
            data = file.read(count * dtype.itemsize)
            if len(data) < count * dtype.itemsize:
                raise ValueError(f"{name}: it ends before {list(shape)} cells")
            made.append(np.frombuffer(data, dtype).reshape(-1, stored[1]))
        return made.done().T if fortran else made.done()
