"""Writing shards: what was interrupted goes on, what is finished is kept, anything else is refused."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from edgepress.multilabel import shards
from edgepress.multilabel.datasets import list_splits, load_dataset
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.shards import write_shards
from tests.disk import full_disk
from tests.multilabel.tars import SMALL, assert_same, refusal, shard, stamps


def test_a_broken_picture_stops_and_its_repair_goes_on(source, tmp_path):
    out, broken = tmp_path / "out", source / "train" / "e.jpg"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:-30])
    assert refusal(shard, source, out, "train").startswith(f"{broken}: truncated JPEG")
    assert "the shards of 'train' are unfinished; run the same edgepress shard again" in refusal(
        load_dataset, out, "train"
    )
    before = stamps(out)
    assert before
    broken.write_bytes(whole)
    shard(source, out, "train")
    assert {name: stamp for name, stamp in stamps(out).items() if name in before} == before
    assert len(stamps(out)) > len(before)
    assert_same(load_dataset(out, "train"), load_dataset(source, "train"))
    assert not list(out.glob(".*"))


@pytest.mark.parametrize("stop_at", range(0, 24, 3))
def test_a_call_interrupted_anywhere_goes_on(source, tmp_path, monkeypatch, stop_at):
    """Stopped at the n-th picture or write, as by a signal."""
    out, calls = tmp_path / "out", iter(range(1000))

    def interrupting(function):
        def call(*arguments):
            if next(calls) == stop_at:
                raise KeyboardInterrupt
            return function(*arguments)

        return call

    with monkeypatch.context() as patch:
        for name in ("read_bytes", "write_atomically"):
            patch.setattr(shards, name, interrupting(getattr(shards, name)))
        with pytest.raises(KeyboardInterrupt):
            shard(source, out, "train")
    if stop_at:
        with pytest.raises(InputError):
            load_dataset(out, "train")
    disk = tmp_path / "disk2"  # meanwhile what is finished is moved to another disk
    disk.mkdir()
    for path in out.glob("*.tar"):
        path.rename(disk / path.name)
        path.symlink_to(disk / path.name)
    before = stamps(disk)
    shard(source, out, "train")
    assert stamps(disk) == before
    assert all((out / name).is_symlink() for name in before)
    assert not list(out.glob(".*"))
    assert_same(load_dataset(out, "train"), load_dataset(source, "train"))
    load_dataset(out, "train").check_pictures()


def test_what_an_unfinished_call_left_of_other_pictures_is_made_again(source, tmp_path):
    out, broken = tmp_path / "out", source / "train" / "z.jpg"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:-30])
    refusal(shard, source, out, "train")
    broken.write_bytes(whole)
    left = len(stamps(out))
    listing = source / "train" / "metadata.jsonl"
    rows = listing.read_text().splitlines()
    rows[0] = json.dumps({**json.loads(rows[0]), "labels": ["Straße"], "ignore": []})
    listing.write_text("\n".join(rows[:3]))
    shard(source, out, "train")
    assert len(stamps(out)) < left
    assert_same(load_dataset(out, "train"), load_dataset(source, "train"))


def test_what_is_finished_is_kept_or_refused(source, out):
    before = stamps(out, "*")
    shard(source, out)
    assert stamps(out, "*") == before
    assert "train.index.json: from other pictures, labels or another shard size" in refusal(
        shard, source, out, "train", shard_bytes=2 * SMALL
    )
    tar = out / "train-000002.tar"
    content = tar.read_bytes()
    tar.write_bytes(content[:-512])
    assert f"{tar}: " in refusal(shard, source, out, "train")
    tar.write_bytes(content)
    shard(source, out, "train")
    os.utime(source / "train" / "a.png", ns=(1, 1))
    assert "name a new folder" in refusal(shard, source, out, "train")
    (source / "labels.txt").write_text("Straße\ndog\ncat\nblue sky\n", encoding="utf-8")
    assert "same names, other order" in refusal(shard, source, out, "test")
    assert all(stamp == before[name] for name, stamp in stamps(out, "*").items() if name != tar.name)


def test_a_split_is_added_to_a_folder_of_shards(source, tmp_path):
    out = shard(source, tmp_path / "out", "test")
    before = stamps(out)
    shard(source, out, "train")
    assert list_splits(out) == ["test", "train"]
    assert stamps(out, "test-*.tar") == before


@pytest.mark.parametrize("name", ["photo.jpg", "notes", "train-000000.tar", "val-000000.tar", ".hidden"])
def test_a_folder_with_anything_else_is_refused(source, tmp_path, name):
    out = tmp_path / "mine"
    out.mkdir()
    (out / name).write_bytes(b"mine")
    shutil.copyfile(source / "labels.txt", out / "labels.txt")
    assert f"holds other files ({name})" in refusal(shard, source, out)
    (out / "labels.txt").unlink()
    assert f"holds other files ({name})" in refusal(shard, source, out)
    assert (out / name).read_bytes() == b"mine"
    assert [path.name for path in out.iterdir()] == [name]
    assert "is a file" in refusal(shard, source, out / name)


def test_splits_must_agree(source, out, tmp_path):
    train = load_dataset(source, "train")
    (source / "labels.txt").write_text("dog\ncat\nblue sky\nStraße\nmore\n", encoding="utf-8")
    message = refusal(write_shards, [train, load_dataset(source, "test")], tmp_path / "new", shard_bytes=SMALL)
    assert "labels of the split 'train' (4) and the split 'test' (5) differ" in message
    assert "no split to shard" in refusal(write_shards, [], tmp_path / "new", shard_bytes=SMALL)
    assert not (tmp_path / "new").exists()


def test_a_full_disk_is_told_and_the_call_goes_on(source, tmp_path):
    out = tmp_path / "out"
    with full_disk(3000):
        message = refusal(shard, source, out, "train")
    assert "train-000000.tar: cannot be written" in message
    assert "run the same command again" in message
    shard(source, out, "train")
    assert_same(load_dataset(out, "train"), load_dataset(source, "train"))
