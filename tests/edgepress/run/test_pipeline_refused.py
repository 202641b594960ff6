"""run: what is wrong is told before hours of training, and an engine that is not possible here does not pass."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgepress.multilabel.errors import EngineUnavailableError
from edgepress.run import ready


def test_a_budget_below_zero_or_without_end_is_refused(edgepress, recipe, tmp_path):
    for flag, value in (("--verify-int8", "-1"), ("--verify-fp16", "inf"), ("--verify-fp32", "nan")):
        answer = edgepress("--quiet", "run", "--recipe", recipe, "--out", tmp_path / "run", flag, value)
        assert answer.code == 2
        assert f"{flag} {float(value):g}" in answer.err.replace("-1.0", "-1")


def impossible_engine() -> str:
    from edgepress.deploy.machine.cuda import cuda_compute_capability

    if cuda_compute_capability() is not None:
        pytest.skip("a GPU is present here: a TensorRT engine may be possible")
    return "tensorrt-fp16"


@pytest.mark.parametrize(("required", "code"), [(True, 1), (False, 0)])
def test_an_engine_that_is_not_possible_here_fails_only_where_it_is_required(
    edgepress, recipe, run_folder, tmp_path, required, code
):
    engine = impossible_engine()
    copy = Path(shutil.copytree(run_folder, tmp_path / "run"))
    flags = ["--engines", "onnx-fp32", "--engines", engine, *(["--required", engine] if required else [])]
    answer = edgepress("run", "--recipe", recipe, "--out", copy, *flags)
    assert answer.code == code, answer.err
    report = json.loads((copy / "report.json").read_text())
    assert report["verdict"] == ("fail" if required else "pass")
    (row,) = [row for row in report["engines"] if row["engine"] == f"{engine}-sm86"]
    assert row["verdict"] in ("not run", "not built")
    assert row["required"] == required
    assert row["judgement"]["reasons"][0]["text"] in " ".join(answer.out.split())


def test_a_run_in_which_nothing_could_run_does_not_pass(edgepress, recipe, run_folder, tmp_path):
    copy = Path(shutil.copytree(run_folder, tmp_path / "run"))
    answer = edgepress("run", "--recipe", recipe, "--out", copy, "--engines", "tensorrt-fp32", "--compile-sm", "87")
    report = json.loads((copy / "report.json").read_text())
    assert report["engines"][-1]["verdict"] in ("not built", "not run")
    assert (report["verdict"], answer.code) == ("fail", 1)


def test_what_is_wrong_with_the_student_is_told_before_the_teacher_is_taught(edgepress, recipe, tmp_path):
    for flags, said in (
        (("--distill-backbone", "nosuchnet"), "nosuchnet"),
        (("--distill-weights", "nowhere.safetensors"), "nowhere.safetensors"),
        (("--distill-resize", "crop"), "resize"),
    ):
        answer = edgepress("--quiet", "run", "--recipe", recipe, "--out", tmp_path / "run", *flags)
        assert answer.code == 2
        assert said in answer.err
        assert not (tmp_path / "run" / "teacher").exists()


def test_what_cannot_come_to_a_good_end_is_refused_before_the_teacher_is_taught(edgepress, bad, recipe, tmp_path):
    out = tmp_path / "run"
    (out / "onnx-fp32").mkdir(parents=True)
    (out / "onnx-fp32" / "mine.txt").write_text("a person's own")
    assert "onnx-fp32: a folder with other files in it" in bad("run", "--recipe", recipe, "--out", out)
    assert [path.name for path in out.iterdir()] == ["onnx-fp32"]
    both = ["--engines", "onnx-fp32", "--required", "onnx-fp16,openvino-fp32"]
    assert "onnx-fp16, openvino-fp32" in bad("run", "--recipe", recipe, "--out", tmp_path / "other", *both)
    assert not (tmp_path / "other").exists()


def test_a_calibration_set_that_cannot_show_every_label_is_refused_first(bad, recipe, tmp_path):
    labels = [f"label-{number}" for number in range(12)]
    data = tmp_path / "data"
    for split in ("train", "val", "test"):
        (data / split).mkdir(parents=True)
        rows = []
        for number, label in enumerate(labels):
            picture = np.full((16, 16, 3), 20 * number + ("train", "val", "test").index(split), np.uint8)
            cv2.imwrite(str(data / split / f"{number}.png"), picture)
            rows.append(json.dumps({"file_name": f"{number}.png", "labels": [label]}))
        (data / split / "metadata.jsonl").write_text("\n".join(rows))
    (data / "labels.txt").write_text("\n".join(labels))
    said = bad("run", "--recipe", recipe, "--data", data, "--out", tmp_path / "run")
    assert "8 calibration pictures cannot show every label; at least 12 are needed" in said
    assert not (tmp_path / "run" / "teacher").exists()


def test_an_engine_whose_package_is_missing_is_told_at_the_start(
    bad, edgepress, recipe, run_folder, tmp_path, monkeypatch
):
    def missing(engine: str) -> None:
        if engine.startswith("openvino"):
            raise EngineUnavailableError("openvino is not installed here (pip install 'edgepress[openvino]')")

    monkeypatch.setattr(ready, "require_buildable", missing)
    need = ["--required", "openvino-fp32", "--out", tmp_path / "run"]
    assert "required, but cannot be built here: openvino-fp32: openvino is not" in bad("run", "--recipe", recipe, *need)
    alone = ["--engines", "openvino-fp32", "--out", tmp_path / "run"]
    assert "no engine can be built here: openvino-fp32" in bad("run", "--recipe", recipe, *alone)
    assert not (tmp_path / "run").exists()
