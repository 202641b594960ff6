"""INT8 that misses its budget: a run fine-tunes the student, quantises again, and takes the better of both."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from edgepress.deploy.build.reference import REFERENCE, Reference
from edgepress.deploy.verify.confidence import Scored, drop_interval
from edgepress.multilabel.bundle import Bundle, write_bundle
from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.metrics import mean_average_precision
from edgepress.run import finetune
from edgepress.run.finetune import FINETUNED, FineTuning, held_to_student, missed, within_budget
from edgepress.run.prove import engine_row
from edgepress.run.recipe import Recipe

INT8 = "onnx-int8-onnxruntime"
ROW = {"mAP": 0.40, "budget_points": 1.0, "verdict": "pass", "reasons": []}


@pytest.fixture(scope="module")
def tuned_run(edgepress, tiny_data, micro, run_folder, tmp_path_factory) -> tuple[Path, list[Any]]:
    """A run of the finished teacher whose INT8 counts as missed, twice: its folder and both answers."""
    folder = tmp_path_factory.mktemp("tuned")
    settings = {**micro, "engines": [INT8], "teacher": str(run_folder / "teacher")}
    settings |= {"data": str(tiny_data), "out": str(folder / "run"), "finetune": {"epochs": 1, "pictures": 8}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(settings))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune, "missed", lambda bundle: not bundle.name.endswith(FINETUNED))
        answers = [edgepress("run", "--recipe", folder / "recipe.yaml") for _ in range(2)]
    return folder / "run", answers


def test_the_student_is_fine_tuned_exported_and_quantised_again(tuned_run):
    folder, answers = tuned_run
    assert all(answer.code in (0, 1) for answer in answers), answers[0].err
    names = {f"{name}{FINETUNED}" for name in ("student", "onnx-fp32", INT8)}
    assert names <= {path.name for path in folder.iterdir()}
    chain = {name: Bundle.open(folder / name).open_parent().name for name in names}
    assert chain == {
        f"{INT8}{FINETUNED}": f"onnx-fp32{FINETUNED}",
        f"onnx-fp32{FINETUNED}": f"student{FINETUNED}",
        f"student{FINETUNED}": "student",
    }
    assert Bundle.open(folder / f"student{FINETUNED}").manifest.facts["quantize_aware"]["config"]["pictures"] == 8


def test_the_better_of_both_on_val_is_the_engine_of_the_report(tuned_run):
    folder, _ = tuned_run
    plain, tuned = (Bundle.open(folder / name) for name in (INT8, f"{INT8}{FINETUNED}"))
    better = tuned if tuned.manifest.calibration.val_mAP > plain.manifest.calibration.val_mAP else plain
    rows = {row["engine"]: row for row in json.loads((folder / "report.json").read_text())["engines"]}
    assert rows[INT8]["digest"] == better.digest
    assert rows[INT8].get("finetuned", False) == (better is tuned)


def test_a_second_run_keeps_all_of_it(tuned_run):
    _, (first, second) = tuned_run
    assert f"{INT8}: misses its budget" in first.err
    assert "epoch 1/1" in first.err
    assert "epoch 1/1" not in second.err
    assert f"student{FINETUNED}: unchanged, kept" in second.err


def made(folder: Path, parent: Bundle, name: str, drop: float | None) -> Bundle:
    """A bundle whose INT8 loses so many points of val mAP, of a budget of half a point."""
    calibration = Bundle.open(parent.path.parent / INT8).manifest.calibration
    changes = {} if drop is None else {"val_mAP_float": 0.5, "val_mAP": 0.5 - drop / 100, "budget": 0.5}
    fields = {name: getattr(parent.manifest, name) for name in ("labels", "preprocess")}
    with write_bundle(
        folder / name,
        kind="onnx",
        precision="int8" if changes else "fp32",
        model="model.onnx",
        calibration=calibration.model_copy(update=changes) if changes else None,
        **fields,
    ) as (inside, _):
        (inside / "model.onnx").write_bytes(b"none")
    return Bundle.open(folder / name)


@pytest.fixture
def tuning(run_folder, tmp_path) -> FineTuning:
    def never(*_: object) -> Bundle:
        raise AssertionError("nothing is to be fine-tuned")

    return FineTuning(
        student=Bundle.open(run_folder / "student"),
        teachers=[],
        splits=None,  # type: ignore[arg-type]
        config=None,  # type: ignore[arg-type]
        export=never,
        folder=tmp_path,
        processes=2,
    )


@pytest.mark.parametrize(("drop", "over"), [(None, False), (-1.0, False), (0.49, False), (0.51, True)])
def test_missed_is_more_than_the_budget_it_was_quantised_with(run_folder, tmp_path, drop, over):
    assert missed(made(tmp_path, Bundle.open(run_folder / "onnx-fp32"), "engine", drop)) == over


@pytest.mark.parametrize("drop", [0.2, 0.8])
def test_within_the_budget_and_under_a_launcher_nothing_is_fine_tuned(run_folder, tmp_path, tuning, drop, caplog):
    onnx = Bundle.open(run_folder / "onnx-fp32")
    # The level is asked for because NNCF, once imported, sets that of every handler there is to ERROR.
    with caplog.at_level(logging.WARNING, logger="edgepress"):
        engine = within_budget(lambda source, ending: made(tmp_path, source, f"int8{ending}", drop), onnx, tuning)
    assert engine.name == "int8"
    assert ("in one process fine-tunes" in caplog.text) == (drop > 0.5)


def test_a_fine_tuned_engine_is_held_to_the_student_it_stands_for(run_folder, tiny_data, tmp_path):
    """By the drop and by its interval, as verify holds an engine to what it was made from."""
    onnx, test = Bundle.open(run_folder / "onnx-fp32"), load_dataset(tiny_data, "test")
    plain, tuned = (made(tmp_path, onnx, name, 0.2) for name in ("int8", f"int8{FINETUNED}"))
    student = Reference.load(onnx.path / REFERENCE).logits
    logits = student + np.random.default_rng(0).normal(0, np.ptp(student), student.shape).astype(np.float32)
    scored = [Scored(test.targets, one, test.ignore) for one in (student, logits)]
    before, after = (mean_average_precision(*one) for one in scored)
    drop, interval = 100 * (before - after), drop_interval(*scored)
    assert drop < interval[1]

    def held(budget: float, bundle: Bundle = tuned, **changes: Any) -> dict[str, Any]:
        return held_to_student(bundle, {**ROW, "budget_points": budget, **changes}, logits, onnx, test)

    assert held(drop - 0.01, plain) == {**ROW, "budget_points": drop - 0.01}
    proven = held(interval[1] + 0.01)
    assert (proven["verdict"], proven["reasons"], proven["bundle"]) == ("pass", [], tuned.name)
    assert (proven["student_drop_points"], proven["student_drop_interval"]) == (pytest.approx(drop), interval)
    unproven = held(interval[1] - 0.01)
    assert unproven["verdict"] == "unproven"
    (reason,) = unproven["reasons"]
    assert reason.startswith(f"mAP is {drop:.2f} points below the student's own, but on 12 pictures the true drop may")
    worse = held(drop - 0.01)
    assert worse["verdict"] == "fail"
    assert worse["reasons"] == [f"mAP is {drop:.2f} points below the student's own; the budget is {drop - 0.01:g}"]
    assert held(interval[1] - 0.01, verdict="fail", reasons=["slow"])["verdict"] == "fail"


def test_a_run_holds_the_engine_that_it_took_to_the_student(tuned_run, tiny_data):
    folder, _ = tuned_run
    rows = {row["engine"]: row for row in json.loads((folder / "report.json").read_text())["engines"]}
    bundle, test = Bundle.open(folder / f"{INT8}{FINETUNED}"), load_dataset(tiny_data, "test")
    recipe = Recipe.parse({"data": str(tiny_data), "bench": {"seconds": 0.05}}, "recipe")
    pictures = [path.read_bytes() for path in test.paths[:2]]
    row = engine_row(bundle, Bundle.open(folder / "onnx-fp32"), test, recipe, pictures, {})
    assert row["finetuned"]
    assert row["student_drop_points"] == pytest.approx(100 * (rows["student (torch)"]["mAP"] - row["mAP"]))
    assert row["student_drop_points"] != pytest.approx(row["drop_points"])  # its own float model is another
