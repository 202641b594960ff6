"""Shards: what is written reads back the same, and every verb takes it."""

from __future__ import annotations

import json
import shutil
import tarfile

import numpy as np

from edgepress.multilabel.datasets import detect_format, list_splits, load_dataset, refuse_leaks
from edgepress.multilabel.inspection import inspect_dataset
from edgepress.multilabel.pictures import picture_hash, read_picture
from tests.multilabel.tars import NAMES, SMALL, assert_same, refusal, shard, stamps


def test_a_data_set_comes_back_the_same(source, out):
    assert detect_format(out) == "webdataset"
    assert list_splits(out) == ["test", "train"]
    for split in ("train", "test"):
        folder, sharded = load_dataset(source, split), load_dataset(out, split)
        assert_same(sharded, folder)
        below = [path.relative_to(source).as_posix() for path in folder.paths]
        assert [path.name for path in sharded.paths] == below
        for path, original in zip(sharded.paths, folder.paths, strict=True):
            assert picture_hash(path) == picture_hash(original)
            np.testing.assert_array_equal(read_picture(path), read_picture(original))
        sharded.check_pictures()
        # A stage is not made again because its pictures moved into shards.
        assert sharded.fingerprint() == folder.fingerprint()
        kept = np.array([1, 0])
        assert sharded.subset(kept).fingerprint() == folder.subset(kept).fingerprint()
    assert load_dataset(out, "train").ignore.sum() > 0


def test_the_tars_follow_the_convention(source, out):
    assert len(list(out.glob("train-*.tar"))) > 3
    keys = []
    index = json.loads((out / "train.index.json").read_text())
    for entry, path in zip(index["tars"], sorted(out.glob("train-*.tar")), strict=True):
        assert entry["name"] == path.name
        assert entry["size"] == path.stat().st_size <= SMALL
        with tarfile.open(path, "r:") as tar:
            members = tar.getmembers()
            for picture, text, item in zip(members[::2], members[1::2], entry["pictures"], strict=True):
                key, suffix = picture.name.split(".")
                keys.append(key)
                assert text.name == f"{key}.json"
                data = tar.extractfile(picture).read()
                assert path.read_bytes()[item["offset"] :][: item["size"]] == data
                # By content, for readers that go by suffixes: wrong.png is a JPEG.
                signature = {"jpg": b"\xff\xd8", "png": b"\x89PNG", "webp": b"RIFF", "bmp": b"BM", "gif": b"GIF8"}
                assert data.startswith(signature.get(suffix, (b"II*\0", b"MM\0*")))
                said = json.load(tar.extractfile(text))
                assert {name: item[name] for name in said} == said
                assert list(said) == ["file_name", "labels", "ignore"]
    assert len(set(keys)) == len(keys) == len(NAMES)
    assert sorted(path.name for path in out.iterdir() if path.suffix != ".tar") == [
        "labels.txt", "test.index.json", "train.index.json"
    ]  # fmt: skip


def test_a_picture_larger_than_a_shard_has_one_of_its_own(source, tmp_path):
    out = shard(source, tmp_path / "tiny", shard_bytes=1)
    assert len(list(out.glob("train-*.tar"))) == len(NAMES)
    assert_same(load_dataset(out, "train"), load_dataset(source, "train"))


def test_shards_are_sharded_again(source, out, tmp_path):
    again = shard(out, tmp_path / "again", shard_bytes=10**6)
    assert len(list(again.glob("train-*.tar"))) == 1
    assert_same(load_dataset(again, "train"), load_dataset(source, "train"))
    assert load_dataset(again, "train").paths[2].name == "train/deep/er/c.webp"


def test_without_its_index_a_tar_says_the_same(source, out):
    before = load_dataset(out, "train")
    (out / "train.index.json").unlink()
    after = load_dataset(out, "train")
    assert_same(after, before)
    assert [str(path) for path in after.paths] == [str(path) for path in before.paths]
    after.check_pictures()


def test_shards_may_be_links_to_other_disks(source, out, tmp_path):
    elsewhere = tmp_path / "disk2"
    elsewhere.mkdir()
    for path in out.glob("train-*.tar"):
        path.rename(elsewhere / path.name)
        path.symlink_to(elsewhere / path.name)
    assert_same(load_dataset(out, "train"), load_dataset(source, "train"))
    (out / "train.index.json").unlink()
    assert_same(load_dataset(out, "train"), load_dataset(source, "train"))
    (elsewhere / "train-000001.tar").unlink()  # a disk that is not mounted is never a smaller data set
    assert "train-000001.tar: cannot be read" in refusal(load_dataset, out, "train")


def test_the_data_report_and_the_search_for_leaks_take_shards(source, out):
    folder, sharded = (
        inspect_dataset({name: load_dataset(root, name) for name in ("train", "test")}) for root in (source, out)
    )
    assert sharded.splits == folder.splits
    leaking = load_dataset(out, "train")
    assert "train-000000.tar:train/b.jpg is the same picture as" in refusal(refuse_leaks, leaking, [leaking])


def test_the_verb_shards_and_the_other_verbs_read_it(edgepress, tiny_data, tmp_path):
    out = tmp_path / "out"
    answer = edgepress("shard", tiny_data, "--out", out)
    assert answer.code == 0, answer.err
    assert answer.out == f"{out}\n"
    assert "train  shard 1/1  picture 24/24  written train-000000.tar" in answer.err
    assert "val: 12 pictures in 1 shard, complete" in answer.err
    before = stamps(out, "*")
    assert edgepress("shard", tiny_data, "--out", out).code == 0
    assert stamps(out, "*") == before
    reports = [edgepress("data", root, "--json").json for root in (tiny_data, out)]
    assert reports[0]["splits"] == reports[1]["splits"]


def test_the_verb_takes_splits_and_refuses_in_one_line(edgepress, tiny_data, tmp_path):
    out = tmp_path / "out"
    assert edgepress("shard", tiny_data, "--out", out, "--splits", "val,test", "--shard-size", 1).code == 0
    assert list_splits(out) == ["test", "val"]
    for arguments, said in (
        ((tiny_data, "--out", out, "--splits", "nope"), "no split 'nope'"),
        ((tiny_data, "--out", out, "--splits", ""), "--splits is empty"),
        ((tiny_data, "--out", out, "--difficult", "positive"), "is for Pascal VOC"),
        ((tiny_data, "--out", tiny_data), "holds other files (test)"),
        ((tiny_data, "--out", out, "--shard-size", 0), "--shard-size"),
        ((tmp_path / "absent", "--out", out), "no such folder"),
    ):
        answer = edgepress("shard", *arguments)
        assert answer.code == 2, arguments
        assert answer.out == ""
        assert answer.err.startswith("edgepress: ")
        assert answer.err.count("\n") == 1
        assert said in answer.err


def test_the_verb_names_a_broken_picture(edgepress, tiny_data, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(tiny_data, root)
    broken = root / "val" / "00003.jpg"
    broken.write_bytes(broken.read_bytes()[:-100])
    answer = edgepress("shard", root, "--out", tmp_path / "out", "--splits", "val")
    assert answer.code == 2
    assert f"edgepress: {broken}: truncated JPEG" in answer.err
