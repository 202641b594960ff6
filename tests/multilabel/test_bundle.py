"""Bundles: complete or refused, whatever happens to a byte, a file or the writer."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from edgepress.multilabel.bundle import (
    MANIFEST,
    Bundle,
    file_sha256,
    inputs_hash,
    up_to_date,
    write_bundle,
)
from edgepress.multilabel.decisions import Decisions
from edgepress.multilabel.facts import Facts, Parent
from edgepress.multilabel.manifest import Quantization
from edgepress.multilabel.preprocess import Preprocess

FIELDS = {
    "kind": "onnx",
    "precision": "int8",
    "model": "model.onnx",
    "labels": ("dog", "Straße"),
    "preprocess": Preprocess(size=32, std=(0.1, 0.2, 0.3)),
    "decisions": Decisions.plain(("dog", "Straße"), (0.25, 1 / 3)),
    "opset": 20,
    "calibration": Quantization(pictures=3, sha256="ab", split="train", method="min-max", kept_float=("conv1",)),
    "facts": Facts(val_mAP=0.7, history=({"loss": 0.1, "val_mAP": 0.7, "seconds": 1.0},), by={"epoch": 3}),
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
    with write_bundle(path, **{**FIELDS, **changes}) as folder:
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


def test_the_reference_is_not_the_models_size(tmp_path):
    with write_bundle(tmp_path / "b", **FIELDS) as folder:
        (folder / "model.onnx").write_bytes(MODEL)
        (folder / "reference.npz").write_bytes(b"r" * 1000)
    bundle = Bundle.open(tmp_path / "b")
    assert bundle.size_bytes == 256


def test_the_parent_is_found_beside_its_child_only_unchanged(tmp_path):
    parent = make(tmp_path / "teacher")
    assert parent.open_parent() is None
    child = make(tmp_path / "student", parent=parent.as_parent)
    assert child.manifest.parent == Parent(name="teacher", digest=parent.digest)
    found = child.open_parent()
    assert found is not None
    assert (found.path.resolve(), found.digest) == (parent.path.resolve(), parent.digest)
    make(tmp_path / "teacher", facts=Facts(pictures=2))
    assert child.open_parent() is None
    (tmp_path / "teacher").rename(tmp_path / "away")
    assert child.open_parent() is None


def test_a_parents_name_cannot_lead_elsewhere(tmp_path):
    elsewhere = make(tmp_path / "elsewhere" / "teacher")
    child = make(tmp_path / "here" / "student", parent=Parent(name="../elsewhere/teacher", digest=elsewhere.digest))
    assert child.open_parent() is None


def test_up_to_date_is_what_is_whole_and_of_the_same_inputs(tmp_path, caplog):
    path = tmp_path / "b"
    caplog.set_level("INFO", logger="edgepress")
    assert up_to_date(path, "abc") is None
    made = make(path)
    assert caplog.messages == []
    assert up_to_date(path, "abc") == made
    assert caplog.messages == [f"{path}: unchanged, kept"]
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
