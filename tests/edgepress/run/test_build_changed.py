"""A data set that changes underneath a run: the file is named, exit code 2, and what is finished is kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edgepress.multilabel.bundle import Bundle
from edgepress.run import pipeline

KEPT = ("teacher", "student", "onnx-fp32", "openvino-fp32")


@pytest.mark.parametrize(
    ("stage", "split", "what"),
    [("build_all", "val", "gone"), ("prove_engine", "test", "replaced")],
)
def test_a_picture_changed_between_stages_is_named(
    bad, recipe, run_folder, data, tmp_path, monkeypatch, stage, split, what
):
    copy = Path(shutil.copytree(run_folder, tmp_path / "run"))
    before = {name: Bundle.open(copy / name).digest for name in KEPT}
    path = data / split / "00003.jpg"
    original = getattr(pipeline, stage)

    def change(*arguments):
        path.unlink(missing_ok=True)
        if what == "replaced":
            shutil.copyfile(data / split / "00004.jpg", path)
        return original(*arguments)

    monkeypatch.setattr(pipeline, stage, change)
    # Of the run in which everything was done the engine that the stage is about is made or measured again.
    again = ["--quantize-pictures", "9"] if stage == "build_all" else ["--verify-int8", "99"]
    line = bad("run", "--recipe", recipe, "--data", data, "--out", copy, "--engines", "onnx-int8-onnxruntime", *again)
    assert line.startswith(f"edgepress: {path}: ")
    assert ("it was there when the data set was loaded" if what == "gone" else "another picture than when") in line
    assert {name: Bundle.open(copy / name).digest for name in KEPT} == before
    report = json.loads((copy / "report.json").read_text())
    assert str(path) not in json.dumps([row["refusal"] for row in report["engines"]])
