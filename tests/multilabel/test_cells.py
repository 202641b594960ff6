"""Arrays that are kept in files have the cells that they would have in memory, whatever the parts are."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from edgepress.multilabel import cells
from edgepress.multilabel.errors import InputError


@pytest.fixture
def small_parts(monkeypatch):
    """Files and parts of arrays that tests can make."""
    monkeypatch.setattr(cells, "LARGE", 1)
    monkeypatch.setattr(cells, "_ROW_CELLS", 20)
    monkeypatch.setattr(cells, "_COLUMN_CELLS", 30)


def filed(array: np.ndarray, folder: Path) -> np.ndarray:
    made = cells.CellWriter(array.shape, array.dtype, folder)
    for row in array:
        made.append(row[None])
    return made.done()


def test_a_large_array_is_a_file_without_a_name(small_parts, tmp_path):
    array = np.random.default_rng(0).normal(size=(11, 7)).astype(np.float32)
    kept = filed(array, tmp_path)
    assert isinstance(kept, np.memmap)
    assert not kept.flags.writeable
    assert list(tmp_path.iterdir()) == []  # nothing is left, however the process ends
    np.testing.assert_array_equal(kept, array)


def test_a_small_array_stays_in_memory(tmp_path):
    assert type(filed(np.ones((3, 2), bool), tmp_path)) is np.ndarray


def test_parts_cover_each_cell_once(small_parts, tmp_path):
    array = np.arange(77).reshape(11, 7)
    kept = filed(array, tmp_path)
    np.testing.assert_array_equal(np.concatenate([kept[part] for part in cells.row_parts(kept)]), array)
    parts = [cells.columns_of(kept, part) for part in cells.column_parts(kept.shape)]
    assert len(parts) > 1
    assert all(part.flags.f_contiguous for part in parts)
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), array)


def test_another_order_is_a_new_array_and_the_same_order_is_not(small_parts, tmp_path):
    kept = filed(np.arange(77).reshape(11, 7), tmp_path)
    assert cells.reordered(kept, np.arange(11), list(range(7))) is kept
    rows, columns = np.array([10, 3, 3, 0]), [6, 0, 5]
    found = cells.reordered(kept, rows, columns, tmp_path)
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, np.array(kept)[rows][:, columns])
    assert cells.reordered(kept, np.arange(5), list(range(7)), tmp_path).shape == (5, 7)


def test_one_cell_in_the_last_part_that_is_not_finite_is_found(small_parts):
    array = np.zeros((11, 7))
    assert cells.all_finite(array)
    array[-1, -1] = np.inf
    assert not cells.all_finite(array)


def test_work_that_would_fill_the_disk_is_refused(tmp_path):
    cells.require_space(tmp_path, 10**6, 12, "verify")
    with pytest.raises(InputError, match=r"GB are free, and verify keeps 12000000\.0 GB there"):
        cells.require_space(tmp_path, 10**15, 12, "verify")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to_holds_nothing(tmp_path):
    (tmp_path / "b").mkdir()
    tmp_path.chmod(0o500)
    assert cells.scratch_folder(tmp_path / "b") != tmp_path
    tmp_path.chmod(0o700)
    assert cells.scratch_folder(tmp_path / "b") == tmp_path


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="the system does not say what is in memory")
@pytest.mark.parametrize("seen", [lambda array: array, np.asarray, lambda array: np.asarray(array)[:, ::-1].T.T])
def test_what_was_read_of_a_file_leaves_the_memory_after_each_part_whatever_the_view(monkeypatch, tmp_path, seen):
    monkeypatch.setattr(cells, "LARGE", 1)
    array = seen(filed(np.ones((64, 1 << 20), np.uint8), tmp_path))

    def mapped() -> int:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) << 10 for line in file if line.startswith("RssFile"))

    before = mapped()
    assert array.sum(dtype=np.int64) == array.size
    assert mapped() - before > 48 << 20
    assert sum(int(array[part].sum()) for part in cells.row_parts(array)) == array.size
    assert mapped() - before < 16 << 20
