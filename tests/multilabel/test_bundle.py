"""Bundles: complete or refused, whatever happens to a byte, a file or the writer."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from edgepress.multilabel.bundle import (
    MANIFEST,
    Bundle,
    file_sha256,
    inputs_hash,
    up_to_date,
    write_atomically,
    write_bundle,
)
from edgepress.multilabel.decisions import Decisions
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.manifest import Calibration, Parent
from edgepress.multilabel.preprocess import Preprocess

FIELDS = {
    "kind": "onnx",
    "precision": "int8",
    "model": "model.onnx",
    "labels": ("dog", "Straße"),
    "preprocess": Preprocess(size=32, std=(0.1, 0.2, 0.3)),
    "decisions": Decisions.plain(("dog", "Straße"), (0.25, 1 / 3)),
    "opset": 20,
    "calibration": Calibration(pictures=3, sha256="ab", split="train", method="min-max", kept_float=("conv1",)),
    "facts": {"val_mAP": [0.1, 0.7], "by": {"epoch": 3}},
    "tools": {"onnx": "1.0"},
    "inputs": "abc",
}
MODEL = bytes(range(256))
PLAN = {
    "runtime": "tensorrt",
    "version": "10.3.0",
    "onnx_sha256": "ab",
    "platform": "linux-x86_64",
    "compute_capability": "SM86",
    "max_batch": "16",
}


def make(path, **changes) -> Bundle:
    with write_bundle(path, **{**FIELDS, **changes}) as (folder, _):
        (folder / "model.onnx").write_bytes(MODEL)
        (folder / "extra").mkdir()
        (folder / "extra" / "reference.bin").write_bytes(b"reference" * 20)
    return Bundle.open(path)


def reseal(path, **changes) -> None:
    """Rewrite the manifest with a digest that fits, as someone who knows the format could."""
    fields = json.loads((path / MANIFEST).read_bytes())
    del fields["digest"]
    fields |= changes
    sealed = {**fields, "digest": inputs_hash(fields)}
    (path / MANIFEST).write_bytes(json.dumps(sealed, indent=2, ensure_ascii=False).encode() + b"\n")


def test_what_is_written_is_what_is_opened(tmp_path):
    bundle = make(tmp_path / "deep" / "student")
    for name, value in FIELDS.items():
        assert getattr(bundle.manifest, name) == value, name
    assert bundle.manifest.files == {
        "model.onnx": file_sha256(bundle.path / "model.onnx"),
        "extra/reference.bin": file_sha256(bundle.path / "extra" / "reference.bin"),
    }
    assert bundle.name == "student"
    assert bundle.labels.names == ("dog", "Straße")
    assert bundle.preprocess == FIELDS["preprocess"]
    assert bundle.model_path.read_bytes() == MODEL
    assert bundle.size_bytes == 256 + 180
    assert bundle.manifest.created
    assert [p.name for p in bundle.path.parent.iterdir()] == ["student"]
    assert Bundle.open(str(bundle.path)).digest == bundle.digest


def test_fields_may_be_added_while_it_is_made_and_the_reference_is_not_the_models_size(tmp_path):
    with write_bundle(tmp_path / "b", **FIELDS) as (folder, fields):
        (folder / "model.onnx").write_bytes(MODEL)
        (folder / "reference.npz").write_bytes(b"r" * 1000)
        fields["facts"] = {"seen": 1}
    bundle = Bundle.open(tmp_path / "b")
    assert bundle.manifest.facts == {"seen": 1}
    assert bundle.size_bytes == 256


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


def test_a_missing_file_and_a_missing_manifest_are_refused_by_name(tmp_path):
    bundle = make(tmp_path / "b")
    (bundle.path / "model.onnx").unlink()
    with pytest.raises(InputError, match=r"model\.onnx: missing"):
        Bundle.open(bundle.path)
    (bundle.path / "model.onnx").write_bytes(MODEL)
    (bundle.path / MANIFEST).unlink()
    for path in (bundle.path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match=r"not a finished bundle \(no manifest\.json\)"):
            Bundle.open(path)


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
        ({"labels": ["a", "a"], "decisions": None}, "stands twice"),
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
    with write_bundle(tmp_path / "copy", **fields) as (folder, _):
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


def test_a_folder_of_bundles_names_them(tmp_path):
    with pytest.raises(InputError, match=r"no manifest\.json\); expected a folder that edgepress made$"):
        Bundle.open(tmp_path)
    for name in ("student", ".hidden", "onnx"):
        make(tmp_path / name)
    with pytest.raises(InputError, match=r"; expected one of the bundles in it: onnx, student$"):
        Bundle.open(tmp_path)
    for number in range(12):
        make(tmp_path / f"b{number:02d}")
    with pytest.raises(InputError, match=r"in it: b00, b01, .*, b11$"):
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
    assert "(kind: Input should be 'torch', 'onnx', 'openvino' or 'tensorrt'); make the bundle again" in said
    assert "xxx" not in said


def test_another_kind_than_asked_for_is_refused(tmp_path):
    bundle = make(tmp_path / "b")
    assert Bundle.open(bundle.path, kind="onnx").digest == bundle.digest
    with pytest.raises(InputError, match="a bundle of kind onnx; expected torch"):
        Bundle.open(bundle.path, kind="torch")


def write_badly(path, fault: str) -> None:
    with write_bundle(path, **FIELDS) as (folder, fields):
        assert list(folder.iterdir()) == []
        if fault != "no model":
            (folder / "model.onnx").write_bytes(b"half")
        if fault == "bad field":
            fields["precision"] = "int3"
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
    with write_bundle(tmp_path / "b", **FIELDS | {"opset": 21}) as (folder, _):
        (folder / "model.onnx").write_bytes(b"new")
        assert (tmp_path / "b" / "extra").is_dir()  # the older one stands until the new one is complete
    bundle = Bundle.open(tmp_path / "b")
    assert bundle.manifest.opset == 21
    assert sorted(p.name for p in bundle.path.iterdir()) == [MANIFEST, "model.onnx"]
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_the_parent_is_found_beside_its_child_only_unchanged(tmp_path):
    parent = make(tmp_path / "teacher")
    assert parent.open_parent() is None
    child = make(tmp_path / "student", parent=parent.as_parent)
    assert child.manifest.parent == Parent(name="teacher", digest=parent.digest)
    found = child.open_parent()
    assert found is not None
    assert (found.path.resolve(), found.digest) == (parent.path.resolve(), parent.digest)
    make(tmp_path / "teacher", facts={"made": "again"})
    assert child.open_parent() is None
    (tmp_path / "teacher").rename(tmp_path / "away")
    assert child.open_parent() is None


def test_a_parents_name_cannot_lead_elsewhere(tmp_path):
    elsewhere = make(tmp_path / "elsewhere" / "teacher")
    child = make(tmp_path / "here" / "student", parent=Parent(name="../elsewhere/teacher", digest=elsewhere.digest))
    assert child.open_parent() is None


def test_up_to_date_is_what_is_whole_and_of_the_same_inputs(tmp_path):
    path = tmp_path / "b"
    assert up_to_date(path, "abc") is None
    made = make(path)
    assert up_to_date(path, "abc") == made
    assert up_to_date(path, "abd") is None
    (path / "model.onnx").write_bytes(MODEL[::-1])
    assert up_to_date(path, "abc") is None


def test_inputs_hash_depends_on_content_not_on_order(tmp_path):
    assert inputs_hash({"a": 1, "b": [1, 2]}) == inputs_hash({"b": [1, 2], "a": 1})
    different = [{"a": 1}, {"a": 2}, {"a": "1"}, {"b": 1}, {"a": [1]}, {"a": 1, "b": None}]
    assert len({inputs_hash(inputs) for inputs in different}) == len(different)


def test_the_hash_of_inputs_is_that_of_their_json_and_stays_from_version_to_version(tmp_path):
    canonical = b'{"a": [1, null], "path": "x/y", "\\u00df": 0.5}'
    assert inputs_hash({"ß": 0.5, "path": Path("x/y"), "a": (1, None)}) == hashlib.sha256(canonical).hexdigest()


def test_a_manifest_is_json_that_a_person_can_read(tmp_path):
    text = (make(tmp_path / "b").path / MANIFEST).read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n"
    assert '\n  "labels": [\n    "dog",\n    "Straße"\n  ],\n' in text


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (2 << 20) + 5])
def test_the_hash_of_a_file_is_of_all_its_bytes(tmp_path, size):
    data = bytes(range(251)) * (size // 251 + 1)
    (tmp_path / "x").write_bytes(data[:size])
    assert file_sha256(tmp_path / "x") == hashlib.sha256(data[:size]).hexdigest()


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
        with pytest.raises(InputError, match=r": a file stands there|: a folder with other files in it"):
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
TEACHER, STUDENT = (TORCH | {"facts": {"role": role}} for role in ("teacher", "student"))


@pytest.mark.parametrize(
    ("standing", "made", "words"),
    [
        (STUDENT, TEACHER, "a student stands there and a teacher was to be written"),
        (TEACHER, STUDENT, "a teacher stands there and a student was to be written"),
        (STUDENT, {}, r"a student stands there and a bundle of kind onnx \(int8\) was to be written"),
        ({}, {"kind": "openvino"}, r"kind onnx \(int8\) stands there and a bundle of kind openvino \(int8\)"),
        ({}, {"precision": "fp16"}, r"kind onnx \(int8\) stands there and a bundle of kind onnx \(fp16\)"),
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
    assert make(bundle.path, **STUDENT).manifest.facts == {"role": "student"}


def test_a_manifest_of_an_earlier_version_opens(tmp_path):
    """As 0.1's last commit wrote it: a plan's numbers as strings, and fields that are gone, without a value."""
    made = make(tmp_path / "b")
    fields = json.loads((made.path / MANIFEST).read_bytes())
    written = {**PLAN, "cuda_graph": "yes", "dla": "1", "driver_cuda": "13.0", "flags": "TF32"}
    calibration = fields["calibration"] | {
        "convolutions": None,
        "latency": {"ratio": 0.5, "low": 0.4, "high": 0.6},
        "tried": [
            {
                "candidate": "min-max",
                "val_mAP": 0.5,
                "drop_points": 0.1,
                "sqnr": 20.0,
                "latency": {"ratio": 0.5, "low": 0.4, "high": 0.6},
                "int8_share": 1.0,
                "kept": 0,
            }
        ],
        "sensitivity": [{"node": "conv1", "sqnr": 30.0, "macs": 0.5}],
    }
    reseal(made.path, thresholds=None, kind="tensorrt", built_for=written, calibration=calibration)
    opened = Bundle.open(made.path).manifest
    assert (opened.built_for.max_batch, opened.built_for.cuda_graph, opened.built_for.dla) == (16, True, 1)
    assert opened.calibration.tried[0].latency == opened.calibration.latency
    reseal(made.path, convolutions=7)  # a field that another version may have is passed over
    assert Bundle.open(made.path).manifest.labels == opened.labels
