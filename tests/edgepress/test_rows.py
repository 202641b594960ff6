"""Rows of a report that a run keeps from an earlier one say only what holds for this run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgepress.latency_budget import OVER
from edgepress.recipe import Recipe
from edgepress.rows import earlier_rows, engine_row
from multilabel.bundle import Bundle
from multilabel.datasets import load_dataset


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
