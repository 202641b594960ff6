"""No tar and no index raises anything but an InputError."""

from __future__ import annotations

import json
import shutil
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.pictures import read_picture
from edgepress.multilabel.shards import write_shards
from tests.multilabel.tars import GOOD, MORE, SIZE, with_header, write_tar


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
