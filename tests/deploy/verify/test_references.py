"""verify: what an engine is compared with, and what happens where there is nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgepress.deploy.build.compile import derived_bundle
from edgepress.deploy.build.reference import REFERENCE, Reference
from edgepress.deploy.verify.verification import verify
from edgepress.multilabel.bundle import Bundle, write_bundle
from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.errors import InputError
from tests.deploy.verify.corruptions import wrap


@pytest.mark.parametrize(("name", "reference"), [("onnx-fp16", "onnx-fp32"), ("openvino-int8", "onnx-fp32")])
def test_pictures_without_a_reference_are_compared_with_the_float_onnx(build, edgepress, tiny_data, name, reference):
    answer = edgepress("verify", build(name).path, "--data", tiny_data, "--split", "val", "--json")
    assert answer.json["reference"] == reference
    assert reference in answer.err
    assert "does not cover these pictures" in answer.err
    assert answer.json["num_images"] == 12
    assert answer.json["max_abs_diff"] > 0
    if name == "onnx-fp16":
        assert (answer.code, answer.json["verdict"]) == (0, "pass")


def test_the_float_onnx_itself_is_then_compared_with_its_student(onnx_bundle, splits):
    result = verify(onnx_bundle, splits.val)
    assert (result.reference, result.verdict) == ("student", "pass")


def test_one_uncovered_picture_is_enough_for_the_parent(build, splits):
    both = splits.test.subset(np.arange(2)).followed_by(splits.val.subset(np.array([1])))
    assert verify(build("onnx-fp16"), both).reference == "onnx-fp32"


def test_no_reference_at_all_is_bad_input(build, edgepress, tiny_data, tmp_path):
    alone = Path(shutil.copytree(build("onnx-fp16").path, tmp_path / "alone"))
    assert edgepress("verify", alone, "--data", tiny_data, "--json").code == 0
    answer = edgepress("verify", alone, "--data", tiny_data, "--split", "val", "--json")
    assert (answer.code, answer.out) == (2, "")
    assert "onnx-fp32" in answer.err


def test_another_bundle_under_the_parents_name_is_no_reference(build, splits, tmp_path):
    alone = Path(shutil.copytree(build("onnx-fp16").path, tmp_path / "onnx-fp16"))
    wrap(tmp_path / "onnx-fp32", onnx.load(build("onnx-fp32").model_path), build("onnx-fp32"))
    with pytest.raises(
        InputError,
        match=r"is not beside it, unchanged: say the --data and --split that it was made with, or copy onnx-fp32",
    ):
        verify(Bundle.open(alone), splits.val)


def test_a_reference_file_that_is_none_is_one_line(onnx_bundle, splits, tmp_path):
    with write_bundle(
        tmp_path / "odd",
        kind="onnx",
        precision="fp32",
        model="model.onnx",
        labels=onnx_bundle.manifest.labels,
        preprocess=onnx_bundle.preprocess,
    ) as folder:
        shutil.copyfile(onnx_bundle.model_path, folder / "model.onnx")
        (folder / REFERENCE).write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(InputError, match="not a reference that edgepress made"):
        verify(Bundle.open(tmp_path / "odd"), splits.test)


@pytest.mark.parametrize(
    "change",
    [
        {"logits": lambda cells: cells[1:]},
        {"logits": lambda cells: cells.ravel()},
        {"logits": lambda cells: np.where(cells == cells[0, 0], np.nan, cells)},
        {"logits": lambda cells: cells.astype(str)},
        {"targets": lambda cells: cells + 2},
        {"ignore": lambda cells: cells.astype(np.uint8)},
        {"labels": lambda names: names[1:]},
        {"hashes": lambda names: np.arange(len(names))},
        {"source": lambda source: np.arange(3)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_reference_of_other_shapes_or_values_is_refused(onnx_bundle, tmp_path, change):
    with np.load(onnx_bundle.path / REFERENCE) as file:
        fields = dict(file)
    for name, changed in change.items():
        fields[name] = changed(fields[name])
    np.savez(tmp_path / "reference.npz", **fields)
    with pytest.raises(InputError, match=r"reference\.npz: not a reference that edgepress made"):
        Reference.load(tmp_path / "reference.npz")


def test_a_reference_is_read_back_as_it_was_written(splits, tmp_path):
    logits = np.random.default_rng(0).normal(size=splits.test.targets.shape)
    Reference.of(splits.test, logits).save(tmp_path / REFERENCE)
    again = Reference.load(tmp_path / REFERENCE)
    assert np.array_equal(again.logits, logits.astype(np.float32))
    hashes = splits.test.hashes()
    assert again.rows(hashes[5:2:-1]).tolist() == [5, 4, 3]
    assert again.rows([*hashes, "0" * 64]) is None
    assert again.source == "torch"
    Reference.of(splits.test, logits, "the adopted own.onnx").save(tmp_path / REFERENCE)
    assert Reference.load(tmp_path / REFERENCE).source == "the adopted own.onnx"


def test_a_reference_from_before_its_source_was_stored_is_torchs(onnx_bundle, tmp_path):
    with np.load(onnx_bundle.path / REFERENCE) as file:
        fields = {name: file[name] for name in file.files if name != "source"}
    np.savez(tmp_path / REFERENCE, **fields)
    assert Reference.load(tmp_path / REFERENCE).source == "torch"


def test_a_file_that_stands_twice_keeps_its_two_answers(tmp_path):
    reference = Reference(
        hashes=["a", "b", "a"],
        logits=np.array([[1.0], [2.0], [3.0]], np.float32),
        targets=np.array([[1], [0], [0]], np.uint8),
        ignore=np.zeros((3, 1), bool),
        labels=("x",),
    )
    reference.save(tmp_path / "reference.npz")
    loaded = Reference.load(tmp_path / "reference.npz")
    assert loaded.rows(["a", "b", "a"]).tolist() == [0, 1, 2]
    assert loaded.rows(["b", "a"]).tolist() == [1, 0]
    assert loaded.rows(["a", "c"]) is None


def test_an_int8_engine_without_its_float_parent_is_not_compared_with_itself(build, tmp_path, tiny_data):
    """As on a device to which only the INT8 graph was copied, and an engine compiled from it there."""
    source = build("onnx-int8-onnxruntime")
    parent = Bundle.open(shutil.copytree(source.path, tmp_path / source.name))
    with derived_bundle(parent, tmp_path / "engine", kind="onnx", precision="int8", model="model.onnx") as folder:
        shutil.copyfile(parent.model_path, folder / "model.onnx")
    engine = Bundle.open(tmp_path / "engine")
    assert engine.open_parent() is not None
    assert verify(engine, load_dataset(tiny_data, "test")).reference.startswith("torch")  # reference.npz came along
    with pytest.raises(InputError, match="does not cover these pictures"):
        verify(engine, load_dataset(tiny_data, "train"))
