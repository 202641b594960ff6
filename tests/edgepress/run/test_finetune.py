"""INT8 that misses the allowed drop: a run fine-tunes the student, quantises again, and takes the better of both."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgepress.compress.reading import Reading
from edgepress.multilabel.bundle import Bundle, write_bundle
from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.judgement import Reason
from edgepress.run import finetune
from edgepress.run.build import Built
from edgepress.run.finetune import FINETUNED, FineTuning, within_allowed
from edgepress.run.prove import prove_engine
from edgepress.run.recipe import Recipe
from edgepress.run.run_report import read_report

INT8 = "onnx-int8-onnxruntime"


@pytest.fixture(scope="module")
def tuned_run(edgepress, tiny_data, micro, run_folder, tmp_path_factory) -> tuple[Path, list[Any]]:
    """A run of the finished teacher whose INT8 counts as missed, twice: its folder and both answers."""
    folder = tmp_path_factory.mktemp("tuned")
    settings = {**micro, "engines": [INT8], "teacher": str(run_folder / "teacher")}
    settings |= {"data": str(tiny_data), "out": str(folder / "run"), "finetune": {"epochs": 1, "pictures": 8}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(settings))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune, "missed_on_val", lambda _: Reason(kind="drop", text="misses its budget"))
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
    assert Bundle.open(folder / f"student{FINETUNED}").manifest.facts.quantize_aware.config["pictures"] == 8


def test_the_better_of_both_on_val_is_the_engine_of_the_report(tuned_run):
    folder, _ = tuned_run
    plain, tuned = (Bundle.open(folder / name) for name in (INT8, f"{INT8}{FINETUNED}"))
    better = tuned if tuned.manifest.calibration.val_mAP > plain.manifest.calibration.val_mAP else plain
    rows = {row["engine"]: row for row in json.loads((folder / "report.json").read_text())["engines"]}
    assert rows[INT8]["digest"] == better.digest
    assert rows[INT8]["finetuned"] == (better is tuned)


def test_a_second_run_keeps_all_of_it(tuned_run):
    _, (first, second) = tuned_run
    assert f"{INT8}: misses its budget" in first.err
    assert "epoch 1/1" in first.err
    assert "epoch 1/1" not in second.err
    assert f"student{FINETUNED}: unchanged, kept" in second.err


def made(folder: Path, parent: Bundle, name: str, drop: float | None, flips: float = 0.0) -> Bundle:
    """A bundle whose INT8 loses so many points of val mAP, of a budget of half a point, and so many flips of 0.2."""
    calibration = Bundle.open(parent.path.parent / INT8).manifest.calibration
    changes = {} if drop is None else {"val_mAP_float": 0.5, "val_mAP": 0.5 - drop / 100, "budget": 0.5}
    changes |= {"val_flips": flips, "allowed_flips": 0.2} if changes else {}
    fields = {name: getattr(parent.manifest, name) for name in ("labels", "preprocess")}
    with write_bundle(
        folder / name,
        kind="onnx",
        precision="int8" if changes else "fp32",
        model="model.onnx",
        calibration=calibration.model_copy(update=changes) if changes else None,
        **fields,
    ) as inside:
        (inside / "model.onnx").write_bytes(b"none")
    return Bundle.open(folder / name)


@pytest.fixture
def tuning(run_folder, tmp_path) -> FineTuning:
    def never(*_: object) -> Bundle:
        raise AssertionError("nothing is to be fine-tuned")

    return FineTuning(
        student=Bundle.open(run_folder / "student"),
        teachers=[],
        reading=Reading(),
        splits=None,  # type: ignore[arg-type]
        config=None,  # type: ignore[arg-type]
        export=never,
        folder=tmp_path,
        processes=2,
    )


@pytest.mark.parametrize("drop", [0.2, 0.8])
def test_within_the_budget_and_under_a_launcher_nothing_is_fine_tuned(run_folder, tmp_path, tuning, drop, caplog):
    onnx = Bundle.open(run_folder / "onnx-fp32")
    # The level is asked for because NNCF, once imported, sets that of every handler there is to ERROR.
    with caplog.at_level(logging.WARNING, logger="edgepress"):
        engine, finetuned = within_allowed(
            lambda source, ending: made(tmp_path, source, f"int8{ending}", drop), onnx, tuning
        )
    assert (engine.name, finetuned) == ("int8", False)
    assert ("in one process fine-tunes" in caplog.text) == (drop > 0.5)


class Tuned(FineTuning):
    """A fine-tuning that is done already."""

    def onnx(self) -> Bundle:
        return self.student


@pytest.mark.parametrize(
    ("drop", "flips", "taken"),
    [(0.4, 0.1, "int8-finetuned"), (0.9, 0.9, "int8"), (0.1, 0.31, "int8"), (0.9, 0.29, "int8-finetuned")],
)
def test_too_many_changed_decisions_are_fine_tuned_as_well(run_folder, tmp_path, tuning, drop, flips, taken):
    """What is allowed is better than less of a drop with too many flips; where neither is, fewer flips are."""
    onnx, done = Bundle.open(run_folder / "onnx-fp32"), Tuned(**{**vars(tuning), "processes": 1})
    lost = {"": (0.2, 0.3), FINETUNED: (drop, flips)}
    engine, finetuned = within_allowed(
        lambda source, ending: made(tmp_path, onnx, f"int8{ending}", *lost[ending]), onnx, done
    )
    assert (engine.name, finetuned) == (taken, taken != "int8")


def test_a_run_holds_the_engine_that_it_took_to_the_student(tuned_run, tiny_data):
    folder, _ = tuned_run
    report = read_report(folder)
    (student,) = (one for one in report.engines if one.role == "student")
    bundle, test = Bundle.open(folder / f"{INT8}{FINETUNED}"), load_dataset(tiny_data, "test")
    recipe = Recipe.parse({"data": str(tiny_data), "bench": {"seconds": 0.05}}, "recipe")
    pictures = [path.read_bytes() for path in test.paths[:2]]
    built = Built(name=INT8, precision="int8", required=False, held_to=(), bundle=bundle, finetuned=True)
    found = prove_engine(built, Bundle.open(folder / "onnx-fp32"), test, recipe, pictures, {})
    assert (found.engine, found.bundle) == (INT8, bundle.name)
    assert found.student_drop.points == pytest.approx(100 * (student.mAP - found.mAP))
    assert found.student_drop.points != pytest.approx(found.drop_points)  # its own float model is another
