"""run: go from labelled pictures to a distilled student and its engines, each verified and timed, in one report.

There are three passes over the engines: all are built, all are proven, and all are related to one another. Then each is
judged, and the report is written.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from edgepress.calibration.decide.thresholds import fit_decisions
from edgepress.deploy.machine.device import describe_machine, installed
from edgepress.multilabel.bundle import Bundle, inputs_hash
from edgepress.multilabel.durable import make_folder
from edgepress.multilabel.metrics import labels_counted, prevalence
from edgepress.report.cards import CARDS, write_cards
from edgepress.report.write import write_documents
from edgepress.run.build import Built, build_all
from edgepress.run.evidence import training_curves
from edgepress.run.finetune import FineTuning
from edgepress.run.flips import shown_flips
from edgepress.run.judge import judge_engine, judge_run
from edgepress.run.latency_budget import choose_engine, choose_student
from edgepress.run.prove import prove_engine, prove_torch
from edgepress.run.ready import require_ready
from edgepress.run.recipe import Recipe, TrainRecipe
from edgepress.run.relate import relate
from edgepress.run.result import (
    DataFacts,
    EngineResult,
    Machine,
    MadeWith,
    ModelFacts,
    RunReport,
    earlier_results,
    write_report,
)
from edgepress.run.splits import Splits, splits_of

log = logging.getLogger("edgepress")


def run(recipe: Recipe) -> RunReport | None:
    """Run every stage of a recipe; finished, unchanged stages are kept. Returns the report, also written to
    report.json, report.html and report.md, with a model card per bundle; None in all but a launch's first process.

    Raises:
        InputError: see `require_ready` and the stages.
        OverBudgetError: see `choose_student`.
        DataChangedError: a picture changed since the splits were loaded, in any stage; finished stages are kept.
    """
    splits = splits_of(recipe)
    require_ready(recipe, splits, [recipe.distill], recipe.engines)
    out = Path(recipe.out)
    make_folder(out)
    recipe, budget = choose_student(recipe, splits, out)
    teachers, student = _train(recipe, splits, out)
    if not _is_main_process():  # the other processes of a launch are only for training
        return None
    onnx = _export(student, splits, recipe, out / "onnx-fp32")
    if recipe.attention:
        _export(student, splits, recipe, out / "onnx-fp32-attention", attention=True)
    built = build_all(onnx, recipe, splits, out, _tuning(recipe, splits, teachers, student))
    report = _header(recipe, splits, teachers, student)
    pictures = [splits.test.stored(row) for row in range(min(64, len(splits.test)))]
    results = _proven(report, built, teachers, student, onnx, splits, pictures)
    results = relate(results, {one.name: one for one in built}, recipe, pictures, splits.test)
    results = [
        one.model_copy(update={"judgement": judge_engine(one, report.machine.processor, budget)})
        if one.role == "engine"
        else one
        for one in results
    ]
    for one in results:
        log.info("%s: %s%s", one.engine, one.verdict, "".join(f" ({reason})" for reason in one.reasons))
    if budget is not None:
        budget = choose_engine(results, budget, float(student.manifest.facts["val_mAP"]))
    found = {"engines": tuple(results), "latency_budget": budget, "verdict": judge_run(results, budget)}
    report = report.model_copy(update=found)
    report = report.model_copy(update={"flips": shown_flips(report.telling, splits.test)})
    write_report(out, report)
    write_documents(out, report)
    bundles = [one.bundle for one in built if one.bundle is not None]
    write_cards(out / CARDS, [*teachers, student, *bundles], report)
    return report


def _proven(
    report: RunReport,
    built: Sequence[Built],
    teachers: Sequence[Bundle],
    student: Bundle,
    onnx: Bundle,
    splits: Splits,
    pictures: list[bytes],
) -> list[EngineResult]:
    """The second pass. Until its end the report on disk is marked incomplete and keeps earlier results for engines that
    are still to come, so that an interrupted run measures nothing twice."""
    recipe, test = report.recipe, splits.test
    out = Path(recipe.out)
    earlier = earlier_results(out)
    results: list[EngineResult] = []

    def add(result: EngineResult) -> None:
        results.append(result)
        done = {one.engine for one in results}
        later = [one for one in earlier.values() if one.engine not in done]
        write_report(out, report.model_copy(update={"engines": (*results, *later)}))

    for teacher in teachers:
        add(prove_torch(teacher.name, "teacher", teacher, onnx, test, recipe, pictures, earlier))
    add(prove_torch("student", "student", student, onnx, test, recipe, pictures, earlier))
    for one in built:
        add(prove_engine(one, onnx, test, recipe, pictures, earlier))
    return results


def _train(recipe: Recipe, splits: Splits, out: Path) -> tuple[list[Bundle], Bundle]:
    from edgepress.compress.distill import distill

    first, *others = teachers = teachers_of(recipe, splits)
    return teachers, distill(splits.train, splits.val, first, recipe.distill, out / "student", ensemble=others)


def teachers_of(recipe: TrainRecipe, splits: Splits) -> list[Bundle]:
    """The finished teachers that a recipe names, copied into its folder, or the teacher that is trained there.

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


def _tuning(recipe: Recipe, splits: Splits, teachers: Sequence[Bundle], student: Bundle) -> FineTuning:
    from edgepress.compress.gather import process_state

    return FineTuning(
        student=student,
        teachers=teachers if recipe.distill.taught else [],
        splits=splits,
        config=recipe.finetune,
        export=lambda tuned, folder: _export(tuned, splits, recipe, folder),
        folder=Path(recipe.out),
        processes=process_state().num_processes,
    )


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


def _header(recipe: Recipe, splits: Splits, teachers: Sequence[Bundle], student: Bundle) -> RunReport:
    """The report before its first result: the recipe, the data, the machine and the models."""
    train, val, test = splits.train, splits.val, splits.test
    return RunReport(
        edgepress=version("edgepress"),
        recipe=recipe,
        data=DataFacts(
            root=recipe.data,
            labels=len(test.labels),
            labels_counted=labels_counted(test.targets, test.ignore),
            prevalence=prevalence(test.targets, test.ignore),
            train_pictures=len(train),
            val_pictures=len(val),
            test_pictures=len(test),
        ),
        teacher=taught(teachers, student.manifest.facts.get("teacher_val_mAP")),
        student=_facts(student),
        training=tuple(training_curves(bundle) for bundle in (*teachers, student)),
        made_with=MadeWith(
            fingerprints={"train": train.fingerprint(), "val": val.fingerprint(), "test": test.fingerprint()},
            runtimes=tuple(installed()),
            tools=student.manifest.tools,
        ),
        machine=Machine(**describe_machine()),
        engines=(),
    )


def _facts(bundle: Bundle) -> ModelFacts:
    assert bundle.manifest.architecture is not None
    facts = bundle.manifest.facts
    return ModelFacts(
        backbone=bundle.manifest.architecture["backbone"],
        head=bundle.manifest.architecture["head"],
        size=bundle.preprocess.size,
        digest=bundle.digest,
        **{name: facts[name] for name in ("val_mAP", "best_epoch", "weights") if name in facts},
    )


def taught(teachers: Sequence[Bundle], val_map: float | None = None) -> ModelFacts:
    """Facts about the teacher; for several teachers, about them together and about each.

    Args:
        val_map: val mAP of several teachers together.
    """
    each = tuple(_facts(teacher) for teacher in teachers)
    if len(each) == 1:
        return each[0]
    names = " + ".join(one.backbone for one in each)
    return ModelFacts(backbone=names, size=each[0].size, val_mAP=val_map, ensemble=each)
