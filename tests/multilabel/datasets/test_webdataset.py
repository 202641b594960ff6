"""Tars that others made: what is read, and how each refusal reads."""

from __future__ import annotations

import gzip
import os
import tarfile

import numpy as np
import pytest

from edgepress.multilabel.datasets import detect_format, list_splits, load_dataset
from edgepress.multilabel.pictures import read_bytes
from tests.multilabel.tars import GOOD, MORE, SIZE, encoded, refusal, special, with_header, write_tar


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
        ([*GOOD, GOOD[0]], "the member 'a.jpg' occurs twice"),
        ([GOOD[0], ("a.json", {"label": ["dog"]})], "'a.json' (labels is missing among label)"),
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


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([("a.jpg", encoded(0)), ("a.json", {"labels": [3]})],
         "labels.0 is the number 3, not the name of a label); expected key.jpg"),
        ([("a.jpg", encoded(0)), ("a.json", {"labels": 3})], "labels is the number 3, not the name of a label"),
        ([("a.jpg", encoded(0)), ("a.json", ["dog"])], "'a.json' (list: Input should be an object); expected key.jpg"),
        ([("a.jpg", encoded(0)), ("a.json", {"label": "dog", "id": 1})], "labels is missing among label, id"),
        ([("a.jpg", encoded(0)), ("a.cls", b"3")], "a .cls holds the number of a label, whose name nothing says here"),
    ],
)  # fmt: skip
def test_numbers_for_labels_are_refused_with_what_is_expected(foreign, members, said):
    write_tar(foreign / "val-0.tar", members)
    message = refusal(load_dataset, foreign, "val")
    assert said in message
    assert 'key.json with {"labels": [names]}' in message


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
    assert "labels.txt: cannot be read (no such file); shards need it: write the names of all" in refusal(
        load_dataset, foreign, "val"
    )
    assert "difficult='positive' is for Pascal VOC" in refusal(load_dataset, foreign, "val", difficult="positive")
