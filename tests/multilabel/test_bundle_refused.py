"""Bundles: a changed byte, a missing file, or a manifest that makes no sense is refused."""

from __future__ import annotations

import json
import re
from importlib.metadata import version

import pytest

from edgepress.multilabel.bundle import (
    MANIFEST,
    Bundle,
    file_sha256,
    write_bundle,
)
from edgepress.multilabel.errors import InputError
from tests.multilabel.test_bundle import MODEL, PLAN, make, reseal


@pytest.mark.parametrize("name", ["model.onnx", "extra/reference.bin", MANIFEST])
@pytest.mark.parametrize("mask", [0x01, 0x20, 0x80])
def test_any_changed_byte_is_refused(tmp_path, name, mask):
    bundle = make(tmp_path / "b")
    file = bundle.path / name
    whole = file.read_bytes()
    for position in {*range(0, len(whole), max(1, len(whole) // 60)), len(whole) - 1}:
        changed = bytearray(whole)
        changed[position] ^= mask
        file.write_bytes(changed)
        with pytest.raises(InputError) as caught:
            Bundle.open(bundle.path)
        assert str(file) in str(caught.value), position
    for changed in (whole[:-1], whole + b"\n", b"", whole[len(whole) // 2 :]):
        file.write_bytes(changed)
        with pytest.raises(InputError):
            Bundle.open(bundle.path)
    file.write_bytes(whole)
    assert Bundle.open(bundle.path).digest == bundle.digest


@pytest.mark.parametrize(
    "text", [b"", b"null", b"[]", b'"x"', b"{}", b'{"digest": "x"}', b"\xff\xfe{", b"[" * 100_000, b'{"a": NaN}']
)
def test_what_is_no_manifest_is_refused_in_one_line(tmp_path, text):
    bundle = make(tmp_path / "b")
    (bundle.path / MANIFEST).write_bytes(text)
    with pytest.raises(InputError, match="not a manifest ") as caught:
        Bundle.open(bundle.path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [b"null", b"[]", b'"x"'])
def test_a_manifest_that_is_no_object_is_told_as_that(tmp_path, text):
    bundle = make(tmp_path / "b")
    (bundle.path / MANIFEST).write_bytes(text)
    with pytest.raises(InputError, match=r"\(it holds no object\); make the bundle again"):
        Bundle.open(bundle.path)


def test_a_missing_file_and_a_missing_manifest_are_refused_by_name(tmp_path):
    bundle = make(tmp_path / "b")
    (bundle.path / "model.onnx").unlink()
    with pytest.raises(InputError, match=r"model\.onnx: missing"):
        Bundle.open(bundle.path)
    (bundle.path / "model.onnx").write_bytes(MODEL)
    (bundle.path / MANIFEST).unlink()
    with pytest.raises(InputError, match=r"not a finished bundle \(no manifest\.json\)"):
        Bundle.open(bundle.path)


def test_what_is_no_folder_of_a_bundle_is_told(tmp_path):
    bundle = make(tmp_path / "b")
    with pytest.raises(InputError, match=r"nowhere: no such folder; expected a bundle"):
        Bundle.open(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"model\.onnx: is a file of a bundle; give the bundle's folder: .*b$"):
        Bundle.open(bundle.path / "model.onnx")
    (tmp_path / "x.jpg").touch()
    with pytest.raises(InputError, match=r"x\.jpg: is a file; expected a bundle"):
        Bundle.open(tmp_path / "x.jpg")


@pytest.mark.parametrize("name", ["../x", "/etc/hostname", "a/../../x", "..\\x", ".", "", MANIFEST])
def test_a_manifest_that_names_a_file_outside_is_refused(tmp_path, name):
    bundle = make(tmp_path / "b")
    (tmp_path / "x").write_bytes(MODEL)
    reseal(bundle.path)
    assert Bundle.open(bundle.path).digest == bundle.digest  # resealing alone is not what is refused
    reseal(bundle.path, files={**bundle.manifest.files, name: file_sha256(tmp_path / "x")})
    with pytest.raises(InputError, match="leaves the bundle"):
        Bundle.open(bundle.path)


def test_a_link_that_leads_outside_is_refused(tmp_path):
    bundle = make(tmp_path / "b")
    (tmp_path / "x").write_bytes(MODEL)
    (bundle.path / "model.onnx").unlink()
    (bundle.path / "model.onnx").symlink_to(tmp_path / "x")
    with pytest.raises(InputError, match=r"model\.onnx"):
        Bundle.open(bundle.path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "other.onnx"}, "the model 'other.onnx' is not among the bundle's files"),
        ({"model": "../x"}, "not among the bundle's files"),
        ({"format": 2}, r"a bundle of format 2; edgepress [\d.]+ reads 1; make the bundle again"),
        (
            {"format": 2, "tools": {"edgepress": "9.1.0"}},
            r"of format 2; edgepress [\d.]+ reads 1; install edgepress 9\.1\.0, which wrote it, or newer",
        ),
        ({"kind": "coreml"}, r"not a manifest that edgepress [\d.]+ reads \(kind: Input should be 'torch'"),
        (
            {"kind": "coreml", "tools": {"edgepress": "9.1.0"}},
            r"kind: .*; install edgepress 9\.1\.0, which wrote it, or newer",
        ),
        # A field of these changes the answers, so one that is not known is not passed over.
        ({"preprocess": {"size": 64, "letterbox": True}}, r"preprocess\.letterbox: Extra inputs are not permitted"),
        ({"labels": ["a", "a"], "decisions": None}, "occurs twice"),
        ({"labels": [], "decisions": None}, "no labels"),
        ({"kind": "tensorrt"}, "built_for: a TensorRT engine must say what it was built for"),
        ({"built_for": {**PLAN, "runtime": "cuda"}}, "'cuda' found using 'runtime' does not match"),
        ({"built_for": {**PLAN, "max_batch": "0"}}, "max_batch"),
        ({"built_for": {**PLAN, "max_batch": "many"}}, "max_batch"),
        ({"built_for": {**PLAN, "runtime": "openvino", "version": "new"}}, "version"),
    ],
)
def test_a_sealed_manifest_that_makes_no_sense_is_refused(tmp_path, changes, message):
    bundle = make(tmp_path / "b")
    reseal(bundle.path, **changes)
    with pytest.raises(InputError, match=message):
        Bundle.open(bundle.path)


def test_a_field_of_a_newer_version_is_passed_over_and_kept(tmp_path):
    """A device with an older edgepress opens what a newer one made, and what it copies still says it."""
    bundle = make(tmp_path / "b")
    reseal(bundle.path, surprise={"deep": [1]})
    newer = Bundle.open(bundle.path)
    assert newer.labels == bundle.labels
    fields = {name: value for name, value in newer.manifest if name not in ("files", "created")}
    with write_bundle(tmp_path / "copy", **fields) as folder:
        for name in newer.manifest.files:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(newer.read(name))
    assert json.loads((tmp_path / "copy" / MANIFEST).read_text())["surprise"] == {"deep": [1]}
    Bundle.open(tmp_path / "copy")


def test_what_is_read_of_an_open_bundle_is_what_was_checked(tmp_path):
    bundle = make(tmp_path / "b")
    assert bundle.read("model.onnx") == MODEL
    (bundle.path / "model.onnx").write_bytes(MODEL[::-1])
    with pytest.raises(InputError, match=r"model\.onnx: replaced since the bundle was opened; open it again"):
        bundle.read("model.onnx")
    (bundle.path / "model.onnx").unlink()
    with pytest.raises(InputError, match=r"model\.onnx: gone since the bundle was opened"):
        bundle.read("model.onnx")


@pytest.mark.parametrize(
    ("tools", "mend"),
    [
        (
            {"edgepress": "9.1"},
            "; install edgepress 9.1, which wrote it, or newer, or make the bundle again with this version",
        ),
        ({"edgepress": version("edgepress")}, "; make the bundle again"),
        ({"edgepress": "9.1; rm -r /"}, "; make the bundle again"),
        ({"edgepress": 9.1}, "; make the bundle again"),
        ({"onnx": "9.1"}, "; make the bundle again"),
        ("edgepress 9.1", "; make the bundle again"),
    ],
)
def test_a_manifest_that_is_not_understood_says_which_version_wrote_it(tmp_path, tools, mend):
    bundle = make(tmp_path / "b")
    reseal(bundle.path, kind="hologram", tools=tools)
    with pytest.raises(InputError) as stopped:
        Bundle.open(bundle.path)
    assert str(stopped.value).endswith(mend)


def test_a_folder_of_bundles_names_them(tmp_path):
    with pytest.raises(InputError, match=r"no manifest\.json\); expected a folder that edgepress made$"):
        Bundle.open(tmp_path)
    for name in ("student", ".hidden", "onnx"):
        make(tmp_path / name)
    with pytest.raises(InputError, match=r"; expected one of the bundles in it: onnx, student$"):
        Bundle.open(tmp_path)
    for number in range(12):
        make(tmp_path / f"b{number:02d}")
    with pytest.raises(InputError, match=r"in it: b00, b01, .*, b11, … \(14 in all\)$"):
        Bundle.open(tmp_path)


def test_a_manifest_is_read_up_to_a_bound(tmp_path, monkeypatch):
    bundle = make(tmp_path / "b")
    size = (bundle.path / MANIFEST).stat().st_size
    monkeypatch.setattr("edgepress.multilabel.bundle._MAX_MANIFEST_BYTES", size)
    assert Bundle.open(bundle.path).digest == bundle.digest
    monkeypatch.setattr("edgepress.multilabel.bundle._MAX_MANIFEST_BYTES", size - 1)
    with pytest.raises(InputError, match="larger than any manifest"):
        Bundle.open(bundle.path)


def test_why_a_manifest_is_not_read_is_its_first_cause(tmp_path):
    bundle = make(tmp_path / "b")
    reseal(bundle.path, kind="x" * 1000, precision=7)
    with pytest.raises(InputError) as caught:
        Bundle.open(bundle.path)
    said = str(caught.value)
    assert re.search(r"\(kind: Input should be 'torch', [^)]*\); make the bundle again", said)
    assert "xxx" not in said


def test_another_kind_than_asked_for_is_refused(tmp_path):
    bundle = make(tmp_path / "b")
    assert Bundle.open(bundle.path, kind="onnx").digest == bundle.digest
    with pytest.raises(InputError, match="a bundle of kind onnx; expected torch"):
        Bundle.open(bundle.path, kind="torch")
