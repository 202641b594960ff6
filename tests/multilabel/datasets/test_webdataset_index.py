"""An index and its tars: what does not fit, or has changed, is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.inspection import inspect_dataset
from edgepress.multilabel.pictures import ShardPicture, check_picture, picture_hash, read_bytes, read_picture
from tests.multilabel.tars import GOOD, MORE, encoded, refusal, write_tar


def edit(out: Path, change) -> None:
    index = json.loads((out / "train.index.json").read_text())
    change(index)
    (out / "train.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda index: index["tars"][0].update(size=5), "train-000000.tar: "),
        (lambda index: index["tars"][0]["pictures"][0].update(offset=-512), "has 'train/b.jpg' at byte -512"),
        (lambda index: index["tars"][0]["pictures"][0].update(offset=0), "has 'train/b.jpg' at byte 0"),
        (lambda index: index["tars"][0]["pictures"][0].update(offset=10**30), "outside the tar's"),
        (lambda index: index["tars"][0]["pictures"][0].update(size=10**6), "outside the tar's"),
        (lambda index: index["tars"][0]["pictures"][0].update(size=0), "outside the tar's"),
        (lambda index: index["tars"][0]["pictures"][0].update(size=-1), "outside the tar's"),
        (lambda index: index["tars"][0]["pictures"][0].update(size=1.5), "not an index this version reads"),
        (lambda index: index["tars"][0]["pictures"][0].update(labels="dog"), "not an index this version reads"),
        (lambda index: index["tars"][0]["pictures"][0].update(labels=["fish"]), "label 'fish' is not in labels.txt"),
        (
            lambda index: index["tars"][0]["pictures"][0].update(labels=["dog"], ignore=["dog"]),
            "both in labels and in ignore",
        ),
        (lambda index: index["tars"][0].update(name="../out/train-000000.tar"), "leaves the data set's folder"),
        (lambda index: index["tars"][0].update(name="/etc/passwd"), "leaves the data set's folder"),
        (lambda index: index["tars"][0].update(name="other.tar"), "train-000000.tar: not in train.index.json"),
        (lambda index: index["tars"].append(index["tars"][0]), "names a tar twice"),
        (lambda index: index["tars"].pop(), "not in train.index.json"),
        (lambda index: index.update(format=2), "not an index this version reads"),
        (lambda index: index.update(more=1), "not an index this version reads"),
        (lambda index: index.clear(), "not an index this version reads"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(out, change, said):
    edit(out, change)
    assert said in refusal(load_dataset, out, "train")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 200_000, b'{"tars": ' + b"9" * 5000 + b"}"])
def test_an_index_that_is_no_json_is_refused(out, content):
    (out / "train.index.json").write_bytes(content)
    assert "train.index.json: not an index this version reads" in refusal(load_dataset, out, "train")


def test_a_tar_of_another_size_is_refused_when_the_split_is_loaded(out):
    tar = out / "train-000001.tar"
    whole = tar.read_bytes()
    for content in (whole[:-1], whole[:600], b"", whole + b"\0"):
        tar.write_bytes(content)
        message = refusal(load_dataset, out, "train")
        assert message.startswith(f"{tar}: {len(content):,} bytes, and {len(whole):,} in train.index.json")
    tar.unlink()
    assert "train-000001.tar: cannot be read" in refusal(load_dataset, out, "train")
    assert len(load_dataset(out, "test")) == 2


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("what", ["picture", "labels", "padding"])
def test_a_changed_byte_is_noticed_before_anything_is_made(out, what):
    before = load_dataset(out, "train")
    fingerprint = before.fingerprint()
    picture = before.paths[0]
    assert isinstance(picture, ShardPicture)
    tar = picture.shard.path
    text = tar.read_bytes().index(b'{"file_name"')
    flip(
        tar,
        {"picture": picture.offset + picture.size // 2, "labels": text + 20, "padding": picture.shard.size - 1}[what],
    )
    after = load_dataset(out, "train")  # nothing of a tar is read yet
    assert f"{tar}: changed since it was made" in refusal(after.check_pictures)
    # The index's labels and the picture's bytes are what counts.
    assert (after.fingerprint() != fingerprint) == (what == "picture")


def test_a_tar_that_changes_after_loading_is_refused_when_it_is_read(out):
    data = load_dataset(out, "train")
    data.paths[0].shard.path.write_bytes(b"x" * 5000)
    for call in (read_bytes, read_picture, check_picture, picture_hash):
        assert "its size has changed since the data set was loaded" in refusal(call, data.paths[0])
    data.paths[0].shard.path.unlink()
    assert "cannot be read" in refusal(read_bytes, data.paths[0])
    assert "cannot be read" in refusal(data.check_pictures)


def test_a_broken_picture_in_a_tar_without_index_is_named(foreign):
    path = write_tar(foreign / "val-0.tar", [("a.jpg", encoded(1)[:-50]), GOOD[1], ("b.png", b""), MORE[1]])
    data = load_dataset(foreign, "val")
    assert refusal(data.check_pictures).startswith(f"{path}:a.jpg: truncated JPEG")
    assert f"{path}:b.png: the file is empty" in refusal(check_picture, data.paths[1])
    report = inspect_dataset({"val": data}).splits["val"].broken
    assert [broken.path for broken in report] == [f"{path}:a.jpg", f"{path}:b.png"]
    assert report[0].reason.startswith("truncated JPEG")
