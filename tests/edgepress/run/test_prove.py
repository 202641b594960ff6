"""Rows of a report that a run keeps from an earlier one say only what holds for this run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edgepress.deploy.build.compile import compile_fp16
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.errors import EngineUnavailableError
from edgepress.multilabel.ratio import Ratio
from edgepress.run import prove
from edgepress.run.finetune import FINETUNED
from edgepress.run.latency_limit import OVER
from edgepress.run.prove import earlier_rows, engine_row, half_of, held_to_half, torch_row
from edgepress.run.recipe import Recipe


def test_a_row_is_kept_without_what_a_latency_budget_said():
    kept = {"key": "a", "engine": "onnx-fp32", "verdict": "fail", "reasons": ["mAP drops"], "bench": {"cells": []}}
    told = {**kept, "there": {"verdict": "pass"}, "reasons": ["mAP drops", f"{OVER}p50 is 9 ms"]}
    assert earlier_rows({"engines": [told]}) == {"a": kept}
    assert told["reasons"] == ["mAP drops", f"{OVER}p50 is 9 ms"]  # the report that was read is left as it is


@pytest.mark.parametrize("row", [{"verdict": "fail", "reasons": ["cannot load it"]}, {"verdict": "not run"}, {}])
def test_a_row_that_was_not_measured_whole_is_not_kept(row):
    assert earlier_rows({"engines": [{"key": "a", **row}, {"engine": "x", "verdict": "not built"}]}) == {}
    assert earlier_rows({}) == {}


def test_an_engine_that_was_refused_is_tried_again(run_folder: Path, tiny_data: Path):
    """What refused it may be another runtime by now, or may not have been the engine at all."""
    test = load_dataset(tiny_data, "test")
    recipe = Recipe.parse({"data": str(tiny_data), "bench": {"seconds": 0.05}}, "recipe")
    onnx, pictures = Bundle.open(run_folder / "onnx-fp32"), [path.read_bytes() for path in test.paths[:2]]
    first = engine_row(onnx, onnx, test, recipe, pictures, {})
    written = json.loads(json.dumps(first))
    assert engine_row(onnx, onnx, test, recipe, pictures, earlier_rows({"engines": [written]})) == written
    refused = {"key": first["key"], "verdict": "fail", "reasons": ["onnxruntime cannot load it"]}
    again = engine_row(onnx, onnx, test, recipe, pictures, earlier_rows({"engines": [refused]}))
    assert (again["verdict"], again["reasons"]) == (first["verdict"], first["reasons"])
    assert again["p50_ms"] > 0


def test_a_kept_torch_row_has_the_name_of_its_place_now(run_folder: Path, tiny_data: Path):
    """Two adopted teachers may change places, and a student may become a teacher."""
    test = load_dataset(tiny_data, "test")
    recipe = Recipe.parse({"data": str(tiny_data), "bench": {"seconds": 0.05}}, "recipe")
    onnx, teacher = Bundle.open(run_folder / "onnx-fp32"), Bundle.open(run_folder / "teacher")
    pictures = [path.read_bytes() for path in test.paths[:2]]
    first = torch_row("teacher-2", teacher, onnx, test, recipe, pictures, {})
    kept = earlier_rows({"engines": [first]})
    again = torch_row("teacher", teacher, onnx, test, recipe, pictures, kept)
    assert (first["engine"], again["engine"]) == ("teacher-2 (torch)", "teacher (torch)")
    assert again == {**first, "engine": "teacher (torch)"}  # and nothing was timed again
    assert torch_row("student", teacher, onnx, test, recipe, pictures, kept)["verdict"] == "reference"


def test_a_fine_tuned_engine_that_cannot_run_here_is_still_called_as_its_bundle(
    run_folder, tiny_data, monkeypatch, tmp_path
):
    """A host may run it, and then its bundle is the one to ship."""
    test = load_dataset(tiny_data, "test")
    tuned = Bundle.open(shutil.copytree(run_folder / "onnx-fp32", tmp_path / f"onnx-fp32{FINETUNED}"))

    def refused(*_, **__):
        raise EngineUnavailableError("not here")

    monkeypatch.setattr(prove, "verify", refused)
    row = engine_row(tuned, tuned, test, Recipe.parse({"data": str(tiny_data)}, "recipe"), [], {})
    assert (row["verdict"], row["bundle"], row["finetuned"]) == ("not run", tuned.name, True)


@pytest.fixture(scope="module")
def int8(run_folder: Path) -> Bundle:
    return Bundle.open(run_folder / "onnx-int8-onnxruntime")


@pytest.fixture(scope="module")
def half(run_folder: Path, tmp_path_factory) -> Bundle:
    return compile_fp16(Bundle.open(run_folder / "onnx-fp32"), tmp_path_factory.mktemp("half") / "onnx-fp16")


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(1.4, 1.6, "fail"), (0.98, 1.6, "pass"), (0.5, 0.6, "pass"), (1.01, 1.02, "pass")]
)
def test_int8_that_is_slower_than_fp16_beyond_chance_fails(int8, half, tiny_data, monkeypatch, low, high, verdict):
    pictures = [path.read_bytes() for path in load_dataset(tiny_data, "test").paths[:2]]
    asked = []

    def measured(one, other, images):
        asked.append((one.name, other.name, images.shape))
        return Ratio(ratio=(low + high) / 2, low=low, high=high)

    monkeypatch.setattr(prove, "compare_latency", measured)
    row = held_to_half(int8, half, {"verdict": "pass", "reasons": []}, pictures)
    size = int8.preprocess.size
    assert asked == [("onnx-int8-onnxruntime", "onnx-fp16", (2, size, size, 3))]
    assert row["verdict"] == verdict
    assert row["against_fp16"] == {"engine": "onnx-fp16", "ratio": (low + high) / 2, "low": low, "high": high}
    assert [reason.startswith("slower than onnx-fp16") for reason in row["reasons"]] == [True] * (verdict == "fail")


def test_int8_is_timed_against_the_fp16_engine_of_its_runtime_where_that_ran(int8, half, run_folder, tiny_data):
    test = load_dataset(tiny_data, "test")
    recipe = Recipe.parse({"data": str(tiny_data), "bench": {"seconds": 0.05}}, "recipe")
    onnx, pictures = Bundle.open(run_folder / "onnx-fp32"), [path.read_bytes() for path in test.paths[:2]]
    row = engine_row(int8, onnx, test, recipe, pictures, {}, half)
    assert row["against_fp16"]["engine"] == "onnx-fp16"
    assert 0 < row["against_fp16"]["low"] <= row["against_fp16"]["ratio"] <= row["against_fp16"]["high"]
    assert row["key"] != engine_row(int8, onnx, test, recipe, pictures, {})["key"]
    built = {"onnx-fp16": half}
    assert half_of("onnx-int8-onnxruntime", built, [{"engine": "onnx-fp16", "p50_ms": 1.0}], recipe) is half
    assert half_of("onnx-int8-onnxruntime", built, [{"engine": "onnx-fp16", "verdict": "not run"}], recipe) is None
    assert half_of("openvino-int8", built, [{"engine": "onnx-fp16", "p50_ms": 1.0}], recipe) is None
    assert half_of("onnx-fp32", built, [{"engine": "onnx-fp16", "p50_ms": 1.0}], recipe) is None
