"""Shards: what is written reads back the same, what is damaged is refused by name, what was interrupted goes on."""

from __future__ import annotations

import gzip
import io
import json
import os
import resource
import shutil
import tarfile
import tempfile
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.loader import Augmentation, batches, make_loader
from multilabel import shards
from multilabel.datasets import detect_format, list_splits, load_dataset, refuse_leaks
from multilabel.errors import InputError
from multilabel.inspection import inspect_dataset
from multilabel.pictures import ShardPicture, check_picture, picture_hash, read_bytes, read_picture
from multilabel.preprocess import Preprocess
from multilabel.shards import write_shards

SMALL = 16_000
"""Bytes of a tar in most tests; it holds one to three pictures."""
LABELS = ("dog", "cat", "blue sky", "Straße")
NAMES = ("b.jpg", "a.png", "deep/er/c.webp", "d.bmp", "ü.tiff", "e.jpg", "f.GIF", "wrong.png", "none", "z.jpg")


def encoded(shade: int, suffix: str = ".jpg") -> bytes:
    noise = np.random.default_rng(shade).integers(0, 256, (24, 30, 3)).astype(np.uint8)
    return cv2.imencode(suffix, noise)[1].tobytes()


@pytest.fixture
def source(tmp_path) -> Path:
    """An imagefolder data set: ten pictures in every format in `train`, in no order of the alphabet; two in `test`."""
    root = tmp_path / "source"
    root.mkdir()
    (root / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS), encoding="utf-8")
    suffixes = {"wrong.png": ".jpg", "none": ".png", "f.GIF": ".gif"}
    for split, names in (("train", NAMES), ("test", ("b.jpg", "q.png"))):
        lines = []
        for number, name in enumerate(names):
            file = root / split / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encoded(number + 100 * (split == "test"), suffixes.get(name, file.suffix)))
            row = {"file_name": name, "labels": [label for i, label in enumerate(LABELS) if number >> i & 1]}
            if number % 3 == 0:
                row["ignore"] = [label for label in LABELS if label not in row["labels"]][:1]
            lines.append(json.dumps(row))
        (root / split / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return root


def shard(source: Path, out: Path, *splits: str, shard_bytes: int = SMALL) -> Path:
    names = splits or list_splits(source)
    write_shards([load_dataset(source, split) for split in names], out, shard_bytes=shard_bytes)
    return out


@pytest.fixture
def out(source, tmp_path) -> Path:
    return shard(source, tmp_path / "out")


def refusal(call, *arguments, **options) -> str:
    with pytest.raises(InputError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def assert_same(one, other) -> None:
    assert one.labels == other.labels
    np.testing.assert_array_equal(one.targets, other.targets)
    np.testing.assert_array_equal(one.ignore, other.ignore)
    assert one.targets.dtype == other.targets.dtype
    assert one.ignore.dtype == other.ignore.dtype
    assert [read_bytes(path) for path in one.paths] == [read_bytes(path) for path in other.paths]


def stamps(folder: Path, pattern: str = "*.tar") -> dict[str, tuple[int, int]]:
    """Inode and time of every file: differ where one was written again."""
    return {path.name: ((found := path.stat()).st_ino, found.st_mtime_ns) for path in folder.glob(pattern)}


# Round trip


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


# Tars of others


def write_tar(path: Path, members, format: int = tarfile.USTAR_FORMAT) -> Path:
    """Members are (name, bytes or an object for JSON), or a TarInfo that has no content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            name, content = member
            content = content if isinstance(content, bytes) else json.dumps(content).encode()
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def special(name: str, type: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = type, target
    return info


@pytest.fixture
def foreign(tmp_path) -> Path:
    root = tmp_path / "foreign"
    root.mkdir()
    (root / "labels.txt").write_text("dog\ncat\nsky\n")
    return root


GOOD = (("a.jpg", encoded(1)), ("a.json", {"labels": ["dog"]}))
MORE = (("b.png", encoded(2, ".png")), ("b.json", {"labels": ["cat"], "ignore": ["sky"]}))


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tars_of_others_are_read(foreign, format):
    deep = "deep/" * 30 + "ü" * 20
    members = [
        special("./", tarfile.DIRTYPE),
        ("./001.json", {"labels": ["sky", "dog"], "ignore": [], "url": "http://example.org"}),
        ("./001.txt", b"a caption"),
        ("./001.JPG", encoded(3)),
        ("./._001.jpg", b"what macOS leaves"),
        ("README", b"no extension"),
        ("about.md", b"neither picture nor json"),
        (f"{deep if format != tarfile.USTAR_FORMAT else 'deep'}.seg.png", b"not a picture of the key"),
        (f"{deep if format != tarfile.USTAR_FORMAT else 'deep'}.webp", encoded(4, ".webp")),
        (f"{deep if format != tarfile.USTAR_FORMAT else 'deep'}.json", {"labels": []}),
    ]
    write_tar(foreign / "train" / "00000.tar", members, format)
    data = load_dataset(foreign, "train")
    np.testing.assert_array_equal(data.targets, [[1, 0, 1], [0, 0, 0]])
    assert [read_bytes(path) for path in data.paths] == [encoded(3), encoded(4, ".webp")]
    assert str(data.paths[0]) == f"{foreign}/train/00000.tar:./001.JPG"
    assert not data.ignore.any()


@pytest.mark.parametrize(
    "names",
    [
        ["val-0.tar", "val-1.tar", "val-9.tar", "val-10.tar"],
        ["val_000.tar", "val_001.tar"],
        ["val-00000-of-00003.tar", "val-00001-of-00003.tar", "val-00002-of-00003.tar"],
        ["val/00000.tar", "val/00001.tar"],
        ["val/shard-00000.tar", "val/shard-00001.tar"],
    ],
)
def test_names_of_shards_and_their_order(foreign, names):
    for number, name in reversed(list(enumerate(names))):
        write_tar(foreign / name, [("a.jpg", encoded(number)), ("a.json", {"labels": ["cat"]})])
    write_tar(foreign / "tool.tar", GOOD)  # no number: nobody's shard
    write_tar(foreign / "._val-0.tar", [])  # what macOS leaves
    assert detect_format(foreign) == "webdataset"
    assert list_splits(foreign) == ["val"]
    data = load_dataset(foreign, "val")
    assert [read_bytes(path) for path in data.paths] == [encoded(number) for number in range(len(names))]


def test_a_split_lies_in_one_place(foreign):
    write_tar(foreign / "val-0.tar", GOOD)
    write_tar(foreign / "val" / "1.tar", MORE)
    assert "both beside labels.txt and in val/" in refusal(load_dataset, foreign, "val")


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([("a.jpg", encoded(1))], "the key 'a' has 'jpg'; expected key.jpg (or .png, .webp, ...) and key.json"),
        ([("a.jpg", encoded(1)), ("a.cls", b"3")], "the key 'a' has 'jpg, cls'; expected"),
        ([("a.json", {"labels": []})], "the key 'a' has 'json'; expected"),
        ([("a.png", encoded(1, ".png")), *GOOD], "the key 'a' has 'png, jpg, json'; expected"),
        ([*GOOD, GOOD[0]], "the member 'a.jpg' stands twice"),
        ([GOOD[0], ("a.json", {"label": ["dog"]})], "'a.json' (1 validation error"),
        ([GOOD[0], ("a.json", {"labels": "dog"})], 'key.json with {"labels": [names]}'),
        ([GOOD[0], ("a.json", {"labels": [3]})], 'key.json with {"labels": [names]}'),
        ([GOOD[0], ("a.json", b"{")], "Invalid JSON"),
        ([GOOD[0], ("a.json", b"[" * 100_000)], "Invalid JSON"),
        ([GOOD[0], ("a.json", b'{"labels": ["\\ud800"]}')], "Invalid JSON"),
        ([GOOD[0], ("a.json", b" " * (16 * 1024 * 1024 + 1))], "json is read up to"),
        ([GOOD[0], ("a.json", {"labels": ["fish"]})], "label 'fish' is not in labels.txt"),
        ([GOOD[0], ("a.json", {"labels": ["dog"], "ignore": ["dog"]})], "both in labels and in ignore"),
        ([*GOOD, ("/etc/b.jpg", b"x")], "'/etc/b.jpg' leaves the data set's folder"),
        ([*GOOD, ("c/../../b.jpg", b"x")], "'c/../../b.jpg' leaves the data set's folder"),
        ([*GOOD, ("b\\c.jpg", b"x")], "leaves the data set's folder"),
        ([*GOOD, ("b\udcff.jpg", b"x")], "is not valid text"),
        ([*GOOD, special("b.jpg", tarfile.SYMTYPE, "/etc/passwd")], "'b.jpg' is a link, a device or the like"),
        ([*GOOD, special("b.jpg", tarfile.LNKTYPE, "a.jpg")], "'b.jpg' is a link, a device or the like"),
        ([*GOOD, special("b.jpg", tarfile.CHRTYPE)], "'b.jpg' is a link, a device or the like"),
        ([*GOOD, special("b.jpg", tarfile.BLKTYPE)], "'b.jpg' is a link, a device or the like"),
        ([*GOOD, special("b\udcff.jpg", tarfile.FIFOTYPE)], "is a link, a device or the like"),
        ([*GOOD, special("b.jpg", tarfile.GNUTYPE_SPARSE)], "'b.jpg' is a link, a device or the like"),
        ([("a\n.jpg", encoded(1)), ("a\n.json", {"labels": ["fish"]})], ":'a\\n.jpg': label 'fish' is not in labels"),
        ([("README", b"nothing else")], "the split 'val' is empty"),
        ([], "the split 'val' is empty"),
    ],
)
def test_what_is_wrong_in_a_tar_is_named(foreign, members, said):
    path = write_tar(foreign / "val-0.tar", members)
    message = refusal(load_dataset, foreign, "val")
    assert said in message
    assert str(path) in message or "is empty" in message
    message.encode()  # whatever the tar says, the message can be printed


def test_a_cut_tar_is_refused_wherever_it_is_cut(foreign):
    path = write_tar(foreign / "val-0.tar", [*GOOD, *MORE])
    whole = path.read_bytes()
    with tarfile.open(path) as tar:
        end = max(member.offset_data + -(-member.size // 512) * 512 for member in tar)
    places = {0, 1, 511, 512, 600, end - 1, end, end + 511, *range(512, end, 512), *range(700, end, 397)}
    for place in sorted(places):
        path.write_bytes(whole[:place])
        assert str(path) in refusal(load_dataset, foreign, "val"), place
    path.write_bytes(whole[: end + 512])  # one block of zeros is an end
    assert len(load_dataset(foreign, "val")) == 2


def test_a_damaged_header_or_a_second_tar_does_not_end_a_tar_in_silence(foreign):
    path = write_tar(foreign / "val-0.tar", [*GOOD, *MORE])
    whole = path.read_bytes()
    with tarfile.open(path) as tar:
        second = tar.getmember("b.png").offset
    path.write_bytes(whole[:second] + b"?" + whole[second + 1 :])
    with tarfile.open(path) as tar:
        assert len(tar.getmembers()) == 2  # what tarfile makes of it: half the pictures, and no error
    assert f"no member and no end is at byte {second:,}" in refusal(load_dataset, foreign, "val")
    path.write_bytes(whole + whole)
    assert "several tars in one" in refusal(load_dataset, foreign, "val")
    path.write_bytes(gzip.compress(whole))
    assert "truncated or no plain tar" in refusal(load_dataset, foreign, "val")


def with_header(data: bytes, at: int, field: slice, value: bytes) -> bytes:
    """The tar with a field of the header at `at` changed, and the header's checksum made right."""
    header = bytearray(data[at : at + 512])
    header[field] = value.ljust(field.stop - field.start, b"\0")[: field.stop - field.start]
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return data[:at] + bytes(header) + data[at + 512 :]


SIZE = slice(124, 136)


@pytest.mark.parametrize(
    "size", [b"77777777777", b"\xff" * 11 + b"\x00", b"\xff" * 10 + b"\xfe\x00", b"\x80" + b"\xff" * 11, b"junk"]
)
def test_sizes_that_are_negative_or_beyond_the_tar_are_refused(foreign, size):
    path = write_tar(foreign / "val-0.tar", [*GOOD, *MORE])
    path.write_bytes(with_header(path.read_bytes(), 0, SIZE, size))
    assert str(path) in refusal(load_dataset, foreign, "val")


def block(type: bytes, size: bytes, content: bytes = b"", name: str = "x") -> bytes:
    """A member whose header says any type and size."""
    header = with_header(tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT), 0, slice(156, 157), type)
    return with_header(header, 0, SIZE, size) + content + b"\0" * (-len(content) % 512)


@pytest.mark.parametrize(
    "start",
    [
        block(b"L", b"\x80" + b"\xff" * 11),  # an OverflowError within tarfile
        block(b"L", b"\x80\0\0\0\x10" + b"\0" * 7),  # a MemoryError
        block(b"x", b"%011o" % 6, b"6 a=b\n") * 3000,  # a RecursionError
        block(b"x", b"%011o" % 25, b"25 GNU.sparse.realsize=x\n"),  # a ValueError
        block(b"0", b"\xff" * 10 + b"\xfe\0", name="README"),  # the same member for ever
    ],
    ids=["overflow", "memory", "recursion", "value", "endless"],
)
def test_headers_that_tarfile_trips_over_are_refused(foreign, start):
    path = write_tar(foreign / "val-0.tar", GOOD)
    path.write_bytes(start + path.read_bytes())
    assert f"{path}: truncated" in refusal(load_dataset, foreign, "val")


def test_what_stands_in_a_tars_place(foreign):
    (foreign / "val-0.tar").mkdir()
    assert "val-0.tar: not a file" in refusal(load_dataset, foreign, "val")
    (foreign / "val-0.tar").rmdir()
    os.mkfifo(foreign / "val-0.tar")
    assert "val-0.tar: not a file" in refusal(load_dataset, foreign, "val")
    (foreign / "val-0.tar").unlink()
    write_tar(foreign / "val-0.tar", GOOD)
    assert "splits here: val" in refusal(load_dataset, foreign, "train", format="webdataset")
    assert "leaves the data set's folder" in refusal(load_dataset, foreign, "../val", format="webdataset")
    (foreign / "labels.txt").unlink()
    assert "labels.txt: cannot be read" in refusal(load_dataset, foreign, "val")
    assert "difficult='positive' is for Pascal VOC" in refusal(load_dataset, foreign, "val", difficult="positive")


# An index and its tars


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


# Interrupted, continued, refused


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
    assert "a file stands there" in refusal(shard, source, out / name)


def test_splits_must_agree(source, out, tmp_path):
    train = load_dataset(source, "train")
    (source / "labels.txt").write_text("dog\ncat\nblue sky\nStraße\nmore\n", encoding="utf-8")
    message = refusal(write_shards, [train, load_dataset(source, "test")], tmp_path / "new", shard_bytes=SMALL)
    assert "labels of the split 'train' (4) and the split 'test' (5) differ" in message
    assert "no split to shard" in refusal(write_shards, [], tmp_path / "new", shard_bytes=SMALL)
    assert not (tmp_path / "new").exists()


def test_a_full_disk_is_told_and_the_call_goes_on(source, tmp_path):
    """A bound on the size of files stands for the disk."""
    out = tmp_path / "out"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    try:
        message = refusal(shard, source, out, "train")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "train-000000.tar: cannot be written" in message
    assert "run the same command again" in message
    shard(source, out, "train")
    assert_same(load_dataset(out, "train"), load_dataset(source, "train"))


# Training

PREPROCESS = [Preprocess(size=32), Preprocess(size=48)]
AUGMENTATION = Augmentation(augment="randaugment", flip=0.5, cutout=0.5, seed=3)


def epoch_of(data, epoch: int, **options):
    loader = make_loader(data, PREPROCESS, batch_size=5, workers=0, augmentation=AUGMENTATION, **options)
    return list(batches(loader, epoch, loader))


def order_of(found) -> list[int]:
    return torch.cat([batch.index for batch in found]).tolist()


def assert_equal_batches(some, others) -> None:
    for one, other in zip(some, others, strict=True):
        for field in ("images", "teacher_images", "targets", "ignore", "index"):
            assert torch.equal(getattr(one, field), getattr(other, field)), field


def test_batches_from_shards_are_those_from_the_folder(tiny_data, tmp_path):
    few = shard(tiny_data, tmp_path / "few", "train", shard_bytes=40_000)
    many = shard(tiny_data, tmp_path / "many", "train", shard_bytes=1)
    assert 1 < len(list(few.glob("*.tar"))) <= 8 < len(list(many.glob("*.tar")))
    data = load_dataset(tiny_data, "train")
    for epoch in (0, 1):
        # As many shards as are shuffled together at most: the whole training is the same, order and all.
        assert_equal_batches(epoch_of(load_dataset(few, "train"), epoch), epoch_of(data, epoch))
        # More: the same in the same order, and the same picture by picture in any other.
        in_order = (epoch_of(load_dataset(root, "train"), epoch, in_order=True) for root in (tiny_data, many))
        assert_equal_batches(*in_order)
        pixels = [
            {index: image for batch in found for index, image in zip(batch.index.tolist(), batch.images, strict=True)}
            for found in (epoch_of(data, epoch), epoch_of(load_dataset(many, "train"), epoch))
        ]
        common = pixels[0].keys() & pixels[1].keys()
        assert len(common) > 10
        assert all(torch.equal(pixels[0][index], pixels[1][index]) for index in common)


def sampled(data, epoch: int, seed: int = 3) -> list[int]:
    augmentation = Augmentation(augment="none", flip=0, cutout=0, seed=seed)
    sampler = make_loader(data, PREPROCESS, batch_size=1, workers=0, augmentation=augmentation).sampler
    sampler.set_epoch(epoch)
    return [index for _, index in sampler]


def test_an_epoch_reads_a_few_shards_at_a_time(foreign):
    for number in range(20):
        members = []
        for key in "abcde":
            members += [(f"{key}.jpg", b"never read"), (f"{key}.json", {"labels": []})]
        write_tar(foreign / f"train-{number}.tar", members)
    data = load_dataset(foreign, "train")
    orders = [sampled(data, epoch) for epoch in range(3)]
    for order in orders:
        assert sorted(order) == list(range(100))
        windows = [[data.paths[i].shard.path for i in order[start : start + 40]] for start in range(0, 100, 40)]
        assert [len(set(window)) for window in windows] == [8, 8, 4]
        for window in windows:  # shuffled within: not one shard after the other
            assert sum(one != other for one, other in pairwise(window)) > len(window) / 2
    assert orders[0] != orders[1] != orders[2]
    assert [{data.paths[i].shard for i in order[:40]} for order in orders[:1]] != [
        {data.paths[i].shard for i in order[:40]} for order in orders[1:2]
    ]
    assert sampled(load_dataset(foreign, "train"), 1) == orders[1]
    assert sampled(data, 1, seed=4) != orders[1]


def test_a_folders_order_is_as_it_always_was(tiny_data):
    expected = np.arange(24)
    np.random.default_rng((3, 5)).shuffle(expected)
    assert sampled(load_dataset(tiny_data, "train"), 5) == expected.tolist()


# Fuzz


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("fuzz")
    (root / "labels.txt").write_text("dog\ncat\nsky\n")
    deep = "long/" * 30  # so that headers follow which say the name of the next
    members = [*GOOD, *((deep + name, content) for name, content in MORE)]
    write_tar(root / "val-0.tar", members, tarfile.PAX_FORMAT)
    write_shards([load_dataset(root, "val")], root / "out", shard_bytes=10**6)
    return root


def only_input_errors(labels: Path, files: dict[str, bytes]) -> bool:
    """Load and read everything; was it taken?"""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        shutil.copyfile(labels, root / "labels.txt")
        for file, content in files.items():
            (root / file).write_bytes(content)
        try:
            data = load_dataset(root, "val", format="webdataset")
            data.check_pictures()
            data.fingerprint()
            for path in data.paths:
                read_picture(path)
        except InputError as error:
            message = str(error)
        else:
            return True
    message.encode()  # it can be printed
    assert "\n" not in message
    return False


def splice(data: bytes, cuts: list[tuple[int, int, bytes]]) -> bytes:
    for place, length, content in cuts:
        place %= len(data) + 1
        data = data[:place] + content + data[place + length :]
    return data


CUTS = st.lists(
    st.tuples(st.integers(0, 2**20), st.sampled_from([0, 1, 2, 8, 512, 2**20]), st.binary(max_size=16)), max_size=3
)
HEADER_FIELDS = (slice(0, 100), slice(100, 108), SIZE, slice(136, 148), slice(156, 157), slice(157, 257),
                 slice(257, 265), slice(265, 345), slice(345, 500))  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(cuts=CUTS)
def test_no_tar_without_index_raises_anything_else(fuzzed, cuts):
    whole = (fuzzed / "val-0.tar").read_bytes()
    taken = only_input_errors(fuzzed / "labels.txt", {"val-0.tar": splice(whole, cuts)})
    assert taken or splice(whole, cuts) != whole


@settings(max_examples=400, deadline=None)
@given(
    block=st.integers(0, 2**10),
    changes=st.lists(
        st.tuples(
            st.sampled_from(HEADER_FIELDS),
            st.one_of(st.binary(max_size=100), st.sampled_from([b"", b"x", b"g", b"L", b"K", b"S", b"5", b"V", b"2"])),
        ),
        min_size=1,
        max_size=3,
    ),
)
def test_no_header_with_a_right_checksum_raises_anything_else(fuzzed, block, changes):
    data = (fuzzed / "val-0.tar").read_bytes()
    headers = [at for at in range(0, len(data), 512) if data[at + 257 : at + 262] == b"ustar"]
    at = headers[block % len(headers)]
    for field, value in changes:
        data = with_header(data, at, field, value)
    only_input_errors(fuzzed / "labels.txt", {"val-0.tar": data})


@settings(max_examples=300, deadline=None)
@given(cuts=CUTS, of_index=st.booleans())
def test_no_index_and_no_tar_beside_it_raises_anything_else(fuzzed, cuts, of_index):
    out = fuzzed / "out"
    files = {name: (out / name).read_bytes() for name in ("val-000000.tar", "val.index.json")}
    name = "val.index.json" if of_index else "val-000000.tar"
    changed = splice(files[name], cuts)
    taken = only_input_errors(out / "labels.txt", {**files, name: changed})
    if changed == files[name]:
        assert taken
    elif not of_index:
        assert not taken  # not one changed byte of a tar passes


@settings(max_examples=300, deadline=None)
@given(
    key=st.sampled_from(["offset", "size", "file_name", "labels", "ignore", "name", "sha256", "source", "pictures"]),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=5,
    ),
)
def test_no_value_in_an_index_raises_anything_else(fuzzed, key, value):
    out = fuzzed / "out"
    index = json.loads((out / "val.index.json").read_bytes())
    tar = index["tars"][0]
    (tar if key in tar else tar["pictures"][0])[key] = value
    files = {"val-000000.tar": (out / "val-000000.tar").read_bytes(), "val.index.json": json.dumps(index).encode()}
    only_input_errors(out / "labels.txt", files)


# The verb


def test_the_verb_shards_and_the_other_verbs_read_it(edgepress, tiny_data, tmp_path):
    out = tmp_path / "out"
    answer = edgepress("shard", tiny_data, "--out", out)
    assert answer.code == 0, answer.err
    assert answer.out == f"{out}\n"
    assert "train  shard 1/1  picture 24/24  written train-000000.tar" in answer.err
    assert "val: 12 pictures in 1 shards, complete" in answer.err
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
        ((tiny_data, "--out", out, "--splits", ""), "split ''"),
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
