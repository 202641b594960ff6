"""run: labelled pictures to a distilled student and its engines, each verified and timed, in one report."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from edgepress.calibration.decide.thresholds import fit_decisions
from edgepress.multilabel.bundle import MANIFEST, Bundle, inputs_hash, require_replaceable
from edgepress.multilabel.datasets import Difficult, Format, load_dataset, refuse_leaks
from edgepress.multilabel.datasets.unlabelled import load_unlabelled
from edgepress.multilabel.durable import make_folder
from edgepress.multilabel.errors import EngineUnavailableError, InputError
from edgepress.multilabel.metrics import labels_counted
from edgepress.report.cards import CARDS, write_cards
from edgepress.report.summary import read_report, telling, write_report
from edgepress.report.write import write_documents
from edgepress.run.build import Splits, build_engine, folder_of
from edgepress.run.finetune import FineTuning, within_budget
from edgepress.run.flips import shown_flips
from edgepress.run.latency_limit import choose_engine, choose_student
from edgepress.run.prove import earlier_rows, engine_row, half_of, header, torch_row, verdict_of
from edgepress.run.recipe import EngineName, Recipe, TrainRecipe

log = logging.getLogger("edgepress")


def run(recipe: Recipe) -> dict[str, Any]:
    """Every stage of a recipe; what is finished and unchanged is kept. Returns the report, also written to report.json,
    report.html and report.md, with a model card a bundle.

    Raises:
        InputError: see the stages.
        OverBudgetError: see `choose_student`.
        DataChangedError: a picture changed since the splits were loaded, whatever the stage; what is finished is kept.
    """
    splits = splits_of(recipe)
    out = Path(recipe.out)
    if (out / MANIFEST).is_file():
        raise InputError(f"{out}: is a bundle; name another folder for the run")
    make_folder(out)
    recipe, students = choose_student(recipe, splits, out)
    teachers, student = _train(recipe, splits, out)
    if not _is_main_process():  # the other processes of a launch were here to train
        return {}
    onnx = _export(student, splits, recipe, out / "onnx-fp32")
    if recipe.attention:
        _export(student, splits, recipe, out / "onnx-fp32-attention", attention=True)
    earlier = earlier_rows(read_report(out))
    report = header(recipe, splits, teachers, student)
    pictures = [splits.test.stored(row) for row in range(min(64, len(splits.test)))]
    for role, bundle in (*((teacher.name, teacher) for teacher in teachers), ("student", student)):
        report["engines"].append(torch_row(role, bundle, onnx, splits.test, recipe, pictures, earlier))
    tuning = FineTuning(
        student=student,
        teachers=teachers if recipe.distill.taught else [],
        splits=splits,
        config=recipe.finetune,
        export=lambda tuned, folder: _export(tuned, splits, recipe, folder),
        folder=out,
        processes=_processes(),
    )
    built: dict[str, Bundle] = {}
    for engine in recipe.engines:
        name = folder_of(engine, recipe.compile)
        try:
            built[name] = _build(engine, onnx, out, splits, recipe, tuning)
        except EngineUnavailableError as error:
            row: dict[str, Any] = {"verdict": "not built", "reasons": [str(error)]}
        except InputError as error:
            # One target's refusal must not cost the others their results.
            row = {"verdict": "fail", "reasons": [str(error)]}
        else:
            half = half_of(engine, built, report["engines"], recipe)
            row = engine_row(built[name], onnx, splits.test, recipe, pictures, earlier, half)
        row = {"engine": name, "precision": engine.split("-")[1], **row, "required": engine in recipe.required}
        report["engines"].append(row)
        log.info("%s: %s%s", name, row["verdict"], "".join(f" ({reason})" for reason in row.get("reasons", [])))
        # Until the end the rows that are still to come are kept from the last time, and nothing is claimed.
        done = {row["engine"] for row in report["engines"]}
        later = [row for row in earlier.values() if row["engine"] not in done]
        write_report(out, {**report, "engines": [*report["engines"], *later], "verdict": "incomplete"})
    report["verdict"] = verdict_of(report["engines"], recipe)
    if recipe.latency_budget is not None:
        chosen = choose_engine(recipe, report["engines"], built, student, splits.test)
        report["latency_budget"] = {**chosen, "students": students}
        if chosen["ship"] is None:
            report["verdict"] = "fail"
    report["flips"] = shown_flips(telling(report), splits.test)
    write_report(out, report)
    write_documents(out, report)
    write_cards(out / CARDS, [*teachers, student, *built.values()], report)
    return report


def splits_of(recipe: TrainRecipe) -> Splits:
    """The splits that a recipe names; see `load_splits`.

    Raises:
        InputError: also where an unlabelled picture stands in val or test.
    """
    splits = load_splits(
        recipe.data, recipe.train, recipe.val, recipe.test, format=recipe.format, difficult=recipe.difficult
    )
    if recipe.distill.unlabelled is not None:
        refuse_leaks(load_unlabelled(recipe.distill.unlabelled, splits.train.labels), [splits.val, splits.test])
    return splits


def load_splits(
    data: str, train: str, val: str, test: str, *, format: Format = "auto", difficult: Difficult = "ignore"
) -> Splits:
    """Load the three splits and read every picture once.

    Raises:
        InputError: see `load_dataset`; names the first broken picture, and one that stands in two of them.
    """
    loaded = [load_dataset(data, split, format, difficult=difficult) for split in (train, val, test)]
    for split in loaded:
        split.check_pictures()
        loaded[0].labels.require_equal(split.labels, f"the split {train!r}", f"the split {split.split!r}")
    for split in loaded[1:]:
        if labels_counted(split.targets, split.ignore) == 0:
            raise InputError(f"{data}, split {split.split!r}: no label has a positive picture: mAP is not defined")
    refuse_leaks(loaded[0], loaded[1:])
    refuse_leaks(loaded[1], loaded[2:])  # what val chose, thresholds among it, test would find good
    return Splits(train=loaded[0], val=loaded[1], test=loaded[2])


def _train(recipe: Recipe, splits: Splits, out: Path) -> tuple[list[Bundle], Bundle]:
    from edgepress.compress.distill import distill, require_makeable

    # What can be known to be wrong is told before hours are spent on a teacher.
    require_makeable(recipe.distill)
    require_replaceable(out / "student", "torch", "fp32", "student")
    if not recipe.teacher and recipe.teach.resize != recipe.distill.resize:
        raise InputError(
            f"resize is {recipe.teach.resize} in teach and {recipe.distill.resize} in distill: set them alike"
        )
    first, *others = teachers = teachers_of(recipe, splits)
    return teachers, distill(splits.train, splits.val, first, recipe.distill, out / "student", ensemble=others)


def teachers_of(recipe: TrainRecipe, splits: Splits) -> list[Bundle]:
    """The finished teachers that a recipe names, brought into its folder, or the one that it teaches there.

    Raises:
        InputError: see `adopt_teachers` and `teach`.
    """
    from edgepress.compress.adopt import adopt_teachers
    from edgepress.compress.distill import teach

    out = Path(recipe.out)
    if recipe.teacher:
        return adopt_teachers(recipe.teacher, out, splits.train.labels)
    return [teach(splits.train, splits.val, recipe.teach, out / "teacher")]


def _is_main_process() -> bool:
    from edgepress.compress.gather import process_state

    return process_state().is_main_process


def _processes() -> int:
    from edgepress.compress.gather import process_state

    return process_state().num_processes


def _export(student: Bundle, splits: Splits, recipe: Recipe, out: Path, *, attention: bool = False) -> Bundle:
    from edgepress.compress.checkpoint import load_model
    from edgepress.deploy.build.export import export_onnx

    val, wanted = splits.val, recipe.decisions
    return export_onnx(
        load_model(student.path),
        splits.test,
        out,
        parent=student.as_parent,
        identity=inputs_hash(
            {"weights": student.digest, "decisions": wanted.model_dump(), "val": val.fingerprint()},
        ),
        decisions=lambda logits: fit_decisions(logits(val), val, wanted.thresholds, wanted.probabilities),
        attention=attention,
    )


def _build(engine: EngineName, onnx: Bundle, out: Path, splits: Splits, recipe: Recipe, tuning: FineTuning) -> Bundle:
    def build(source: Bundle, ending: str) -> Bundle:
        return build_engine(engine, source, out, splits, recipe.quantize, recipe.compile, ending)

    return within_budget(build, onnx, tuning)
