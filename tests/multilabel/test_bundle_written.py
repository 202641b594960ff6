"""Bundles: they are written whole or not at all, and only what may be replaced is replaced."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from edgepress.multilabel.bundle import (
    MANIFEST,
    Bundle,
    named_digest,
    rewrite_bundle,
    write_atomically,
    write_bundle,
)
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.facts import Facts
from tests.multilabel.test_bundle import FIELDS, make


def write_badly(path, fault: str) -> None:
    fields = FIELDS | {"opset": "many"} if fault == "bad field" else FIELDS
    with write_bundle(path, **fields) as folder:
        assert list(folder.iterdir()) == []
        if fault != "no model":
            (folder / "model.onnx").write_bytes(b"half")
        if fault == "interrupted":
            raise KeyboardInterrupt


FAULTS = [("interrupted", KeyboardInterrupt), ("no model", AssertionError), ("bad field", ValidationError)]


@pytest.mark.parametrize(("fault", "error"), FAULTS)
def test_a_failed_write_leaves_nothing_behind(tmp_path, fault, error):
    with pytest.raises(error):
        write_badly(tmp_path / "b", fault)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("fault", "error"), FAULTS)
def test_a_failed_write_keeps_the_older_bundle(tmp_path, fault, error):
    old = make(tmp_path / "b")
    with pytest.raises(error):
        write_badly(old.path, fault)
    assert Bundle.open(old.path).digest == old.digest
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_a_new_bundle_replaces_the_older_one_whole(tmp_path):
    make(tmp_path / "b")
    (tmp_path / ".b.partial").mkdir()  # what a killed writer leaves
    (tmp_path / ".b.partial" / "stale").write_bytes(b"s")
    with write_bundle(tmp_path / "b", **FIELDS | {"opset": 21}) as folder:
        (folder / "model.onnx").write_bytes(b"new")
        assert (tmp_path / "b" / "extra").is_dir()  # the older one stands until the new one is complete
    bundle = Bundle.open(tmp_path / "b")
    assert bundle.manifest.opset == 21
    assert sorted(p.name for p in bundle.path.iterdir()) == [MANIFEST, "model.onnx"]
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_what_a_killed_process_left_of_a_file_is_written_over(tmp_path, monkeypatch):
    (tmp_path / ".state.json.partial").write_bytes(b"much more than what is written now")
    write_atomically(tmp_path / "state.json", b"one")
    assert [p.name for p in tmp_path.iterdir()] == ["state.json"]
    assert (tmp_path / "state.json").read_bytes() == b"one"

    def full(_: int) -> None:
        assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == [".state.json.partial"]
        assert (tmp_path / ".state.json.partial").read_bytes() == b"two"  # flushed before it is synchronised
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space left"):
        write_atomically(tmp_path / "state.json", b"two")
    assert [p.name for p in tmp_path.iterdir()] == ["state.json"]
    assert (tmp_path / "state.json").read_bytes() == b"one"


def test_the_error_is_told_where_the_half_written_file_is_gone_as_well(tmp_path, monkeypatch):
    def unplugged(_: int) -> None:
        (tmp_path / ".x.partial").unlink()
        raise OSError("no such device")

    monkeypatch.setattr("os.fsync", unplugged)
    with pytest.raises(OSError, match="no such device"):
        write_atomically(tmp_path / "x", b"one")


def test_write_atomically_replaces_and_leaves_no_trace(tmp_path):
    file = tmp_path / "very" / "deep" / "state.json"
    for data in (b"one", b"two"):
        write_atomically(file, data)
        assert file.read_bytes() == data
    assert [p.name for p in file.parent.iterdir()] == ["state.json"]


def test_a_persons_own_folder_or_file_is_never_replaced(tmp_path):
    (tmp_path / "home").mkdir()
    precious = tmp_path / "home" / "precious.txt"
    precious.write_text("mine")
    for path in (tmp_path / "home", precious):
        with pytest.raises(InputError, match=r": is a file|: a folder with other files in it"):
            make(path)
    assert precious.read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["home"]


def test_an_empty_folder_and_what_a_killed_process_left_beside_are_replaced(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / ".b.old").mkdir()
    (tmp_path / ".b.old" / "stale").write_bytes(b"s")
    make(tmp_path / "b")
    assert [p.name for p in tmp_path.iterdir()] == ["b"]
    (tmp_path / ".b.old").mkdir()
    (tmp_path / ".b.old" / "stale").write_bytes(b"s")
    make(tmp_path / "b")
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


TORCH = {"kind": "torch", "precision": "fp32"}
TEACHER, STUDENT = (TORCH | {"facts": Facts(role=role)} for role in ("teacher", "student"))


@pytest.mark.parametrize(
    ("standing", "made", "words"),
    [
        (STUDENT, TEACHER, "a student, and a teacher would replace it"),
        (TEACHER, STUDENT, "a teacher, and a student would replace it"),
        (STUDENT, {}, r"a student, and a bundle of kind onnx \(int8\) would replace it"),
        ({}, {"kind": "openvino"}, r"kind onnx \(int8\), and a bundle of kind openvino \(int8\) would replace it"),
        ({}, {"precision": "fp16"}, r"kind onnx \(int8\), and a bundle of kind onnx \(fp16\) would replace it"),
    ],
)
def test_a_bundle_of_another_kind_or_role_is_not_replaced(tmp_path, standing, made, words):
    old = make(tmp_path / "b", **standing)
    with pytest.raises(InputError, match=words):
        make(old.path, **made)
    assert Bundle.open(old.path).digest == old.digest
    assert [p.name for p in tmp_path.iterdir()] == ["b"]
    assert make(old.path, **standing, inputs="new").manifest.inputs == "new"  # its own kind is


def test_what_says_nothing_that_holds_is_made_again(tmp_path):
    bundle = make(tmp_path / "b", **TEACHER)
    (bundle.path / MANIFEST).write_bytes(b"damaged")
    assert make(bundle.path, **STUDENT).manifest.facts == Facts(role="student")


def test_a_rewritten_bundle_has_the_same_files_and_the_changed_fields_alone(tmp_path):
    with write_bundle(tmp_path / "b", **FIELDS) as folder:
        (folder / "model.onnx").write_bytes(b"model")
        (folder / "reports" / "val").mkdir(parents=True)
        (folder / "reports" / "val" / "plot.svg").write_bytes(b"<svg/>")
    bundle = Bundle.open(tmp_path / "b")
    again = rewrite_bundle(bundle, tmp_path / "deep" / "copy", inputs="other", opset=21)
    assert again.path == tmp_path / "deep" / "copy"
    assert (again.manifest.inputs, again.manifest.opset) == ("other", 21)
    same = {name: value for name, value in bundle.manifest if name not in ("created", "inputs", "opset")}
    assert {name: getattr(again.manifest, name) for name in same} == same  # the hashes of the files among them
    for name in bundle.manifest.files:
        assert (again.path / name).read_bytes() == (bundle.path / name).read_bytes()
    assert Bundle.open(bundle.path).digest == bundle.digest
    here = rewrite_bundle(bundle, bundle.path, inputs="third")
    assert (here.path, here.manifest.inputs, here.manifest.files) == (bundle.path, "third", bundle.manifest.files)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "deep"]


def test_the_digest_that_a_manifest_names_is_read_without_opening_the_bundle(tmp_path):
    bundle = make(tmp_path / "b")
    file = bundle.path / MANIFEST
    assert named_digest(file) == bundle.digest
    (bundle.path / "model.onnx").unlink()
    assert named_digest(file) == bundle.digest
    for text in (b"{", b"[]", b'"digest"', b"{}", b"\xff\xfe", b"[" * 100_000):
        file.write_bytes(text)
        assert named_digest(file) is None
    assert named_digest(tmp_path / "no such file") is None
