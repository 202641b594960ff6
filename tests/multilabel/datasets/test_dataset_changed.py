"""A picture that changes after its data set was loaded is never taken for the one that was hashed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from edgepress.multilabel import shards
from edgepress.multilabel.datasets import MultiLabelDataset, load_dataset
from edgepress.multilabel.errors import DataChangedError
from edgepress.multilabel.pictures import read_picture


@pytest.fixture
def data(tiny_data: Path, tmp_path: Path) -> MultiLabelDataset:
    """A checked split whose files a test may change."""
    loaded = load_dataset(shutil.copytree(tiny_data, tmp_path / "data"), "val")
    loaded.check_pictures()
    return loaded


def replaced(data: MultiLabelDataset, row: int) -> Path:
    """Another whole picture of the split under this one's name."""
    path = data.paths[row]
    assert isinstance(path, Path)
    shutil.copyfile(data.paths[row + 1], path)
    return path


def test_what_was_checked_is_what_is_hashed(data):
    before = data.fingerprint()
    path = replaced(data, 3)
    assert data.fingerprint() == before  # of the bytes that were checked, not of those that came after
    with pytest.raises(DataChangedError) as caught:
        data.picture(3)
    assert str(caught.value).startswith(f"{path}: another picture than when the data set was loaded")
    np.testing.assert_array_equal(data.picture(2), read_picture(data.paths[2]))
    assert load_dataset(data.root, "val").fingerprint() != before


def test_a_picture_that_is_gone_or_cut_is_named(data):
    data.paths[1].unlink()
    data.paths[2].write_bytes(data.paths[2].read_bytes()[:-100])
    with pytest.raises(DataChangedError, match=r"cannot be read \(No such file or directory\).*it was there when"):
        data.picture(1)
    with pytest.raises(DataChangedError, match="another picture") as caught:
        data.stored(2)
    assert str(data.paths[2]) in str(caught.value)


def test_parts_and_joins_of_a_split_know_its_pictures(data, tiny_data):
    few, more = data.subset(np.array([5, 3])), load_dataset(tiny_data, "train").followed_by(data)
    path = replaced(data, 3)
    assert few.hashes() == [data.hashes()[5], data.hashes()[3]]
    few.picture(0)
    for part, row in ((few, 1), (more, 24 + 3)):
        with pytest.raises(DataChangedError, match=r"val/00003\.jpg"):
            part.picture(row)
    assert more.paths[24 + 3] == path


def test_a_picture_that_changes_while_its_shard_is_written_is_named(data, tmp_path, monkeypatch):
    add = shards._add

    def add_and_change(tar, name, content):
        add(tar, name, content)
        if name.startswith("000000000."):
            replaced(data, 4)

    monkeypatch.setattr(shards, "_add", add_and_change)
    with pytest.raises(DataChangedError, match=r"val/00004\.jpg: changed since"):
        shards.write_shards([data], tmp_path / "out", shard_bytes=1 << 20)
    monkeypatch.setattr(shards, "_add", add)
    again = load_dataset(data.root, "val")
    shards.write_shards([again], tmp_path / "out", shard_bytes=1 << 20)
    assert load_dataset(tmp_path / "out", "val").fingerprint() == again.fingerprint()
