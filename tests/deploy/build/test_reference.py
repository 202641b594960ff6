"""reference.npz: what is inflated into files is what is inflated into memory, and another file is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgepress.deploy.build.reference import Reference
from edgepress.multilabel import cells
from edgepress.multilabel.errors import InputError

RNG = np.random.default_rng(0)
SHAPE = (13, 5)
STORED = Reference(
    hashes=[f"{row:064x}" for row in range(13)],
    logits=RNG.normal(size=SHAPE).astype(np.float32),
    targets=(RNG.random(SHAPE) < 0.4).astype(np.uint8),
    ignore=RNG.random(SHAPE) < 0.2,
    labels=tuple("abcde"),
)
CELLS = ("logits", "targets", "ignore")


def test_large_arrays_are_inflated_into_files(monkeypatch, tmp_path: Path):
    STORED.save(tmp_path / "r.npz")
    monkeypatch.setattr(cells, "LARGE", 1)
    monkeypatch.setattr(cells, "_ROW_CELLS", 20)
    found = Reference.load(tmp_path / "r.npz", tmp_path)
    for name in CELLS:
        assert isinstance(getattr(found, name), np.memmap)
        np.testing.assert_array_equal(getattr(found, name), getattr(STORED, name))
    assert (found.hashes, found.labels, found.source) == (STORED.hashes, STORED.labels, "torch")
    assert [file.name for file in tmp_path.iterdir()] == ["r.npz"]


@pytest.mark.parametrize("large", [False, True])
def test_cells_that_lie_label_by_label_are_read(monkeypatch, tmp_path: Path, large: bool):
    if large:
        monkeypatch.setattr(cells, "LARGE", 1)
        monkeypatch.setattr(cells, "_ROW_CELLS", 20)
    turned = {name: np.asfortranarray(getattr(STORED, name)) for name in CELLS}
    np.savez_compressed(tmp_path / "r.npz", hashes=np.array(STORED.hashes), labels=np.array(STORED.labels), **turned)
    found = Reference.load(tmp_path / "r.npz", tmp_path)
    for name in CELLS:
        np.testing.assert_array_equal(getattr(found, name), getattr(STORED, name))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"logits": STORED.logits[:12]}, r"logits: float32 \[12, 5\] for 13 pictures and 5 labels"),
        ({"logits": STORED.logits.ravel()}, r"expected numbers \[pictures, labels\]"),
        ({"logits": np.full(SHAPE, np.nan, np.float32)}, "logits that are not finite"),
        ({"targets": STORED.targets + 1}, "targets other than 0 and 1"),
        ({"ignore": STORED.targets}, "ignore: uint8"),
        ({"logits": np.array([["a"] * 5] * 13, dtype=object)}, "r.npz: not a reference"),
    ],
)
def test_another_file_is_refused(tmp_path, changed, said):
    arrays = {"hashes": np.array(STORED.hashes), "labels": np.array(STORED.labels)}
    arrays |= {name: getattr(STORED, name) for name in CELLS} | changed
    np.savez(tmp_path / "r.npz", **arrays)
    with pytest.raises(InputError, match=said):
        Reference.load(tmp_path / "r.npz")
