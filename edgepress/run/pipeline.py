"""run: go from labelled pictures to a distilled student and its engines, each verified and timed, in one report.

There are three passes over the engines: all are built, all are proven, and all are related to one another. Then each is
judged, and the report is written.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from edgepress.compress.reading import Reading, TeacherSource
from edgepress.deploy.machine.device import describe_machine, installed
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.durable import make_folder
from edgepress.multilabel.metrics import labels_counted, prevalence
from edgepress.multilabel.stored_answers import StoredAnswers
from edgepress.report.cards import CARDS, write_cards
from edgepress.report.write import write_documents
from edgepress.run.ablation import train_alone
from edgepress.run.build import Built, build_all, decided
from edgepress.run.evidence import training_curves
from edgepress.run.finetune import FineTuning
from edgepress.run.flips import shown_flips
from edgepress.run.judge import judge_engine, judge_run
from edgepress.run.latency_budget import choose_engine, choose_student
from edgepress.run.prove import prove_answers, prove_engine, prove_model
from edgepress.run.ready import require_ready
from edgepress.run.recipe import Recipe, TrainRecipe
from edgepress.run.relate import relate
from edgepress.run.result import EngineResult
from edgepress.run.run_report import (
    DataFacts,
    MadeWith,
    ModelFacts,
    RunReport,
    SplitFacts,
    earlier_results,
    write_report,
)
from edgepress.run.splits import Splits, splits_of
from edgepress.run.teachers import Teaching

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
    teaching = Teaching.of(recipe.teacher_options, recipe.data, recipe.data_options)
    recipe = recipe.model_copy(update={"distill": teaching.fitted(recipe.distill)})
    require_ready(recipe, splits, [recipe.distill], recipe.engines, teaching)
    out = Path(recipe.out)
    make_folder(out)
    recipe, budget = choose_student(recipe, splits, out)
    teachers, student = _train(recipe, splits, out, teaching.reading)
    alone = train_alone(recipe, splits) if recipe.ablation else None
    if not _is_main_process():  # the other processes of a launch are only for training
        return None
    onnx = _export(student, splits, recipe, out / "onnx-fp32")
    shows = [_export(student, splits, recipe, out / "onnx-fp32-attention", attention=True)] if recipe.attention else []
    built = build_all(onnx, recipe, splits, out, _tuning(recipe, splits, teachers, student, teaching.reading))
    report = _header(recipe, splits, teachers, student)
    pictures = [splits.test.stored(row) for row in range(min(64, len(splits.test)))]
    results = _proven(report, built, teachers, teaching.reading, student, alone, onnx, splits, pictures)
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
        val_map = student.manifest.facts.val_mAP
        assert val_map is not None, "a student is distilled here"
        budget = choose_engine(results, budget, val_map)
    found = {"engines": tuple(results), "latency_budget": budget, "verdict": judge_run(results, budget)}
    report = report.model_copy(update=found)
    report = report.model_copy(update={"flips": shown_flips(report.telling, splits.test)})
    write_report(out, report)
    write_documents(out, report)
    bundles = [one.bundle for one in built if one.bundle is not None]
    models = [teacher for teacher in teachers if isinstance(teacher, Bundle)]
    write_cards(out / CARDS, [*models, student, *bundles, *shows], report)
    return report


def _proven(
    report: RunReport,
    built: Sequence[Built],
    teachers: Sequence[TeacherSource],
    reading: Reading,
    student: Bundle,
    alone: Bundle | None,
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

    for teacher, match in zip(teachers, reading.matches(teachers, test.labels), strict=True):
        if isinstance(teacher, Bundle):
            add(prove_model(teacher.name, "teacher", teacher, onnx, test, recipe, pictures, earlier, match))
        else:
            add(prove_answers(teacher, match, test))
    if alone is not None:
        add(prove_model(alone.name, "alone", alone, onnx, test, recipe, pictures, earlier))
    add(prove_model("student", "student", student, onnx, test, recipe, pictures, earlier))
    for one in built:
        add(prove_engine(one, onnx, test, recipe, pictures, earlier))
    return results


def _train(recipe: Recipe, splits: Splits, out: Path, reading: Reading) -> tuple[list[TeacherSource], Bundle]:
    from edgepress.compress.distill import distill

    first, *others = teachers = teachers_of(recipe, splits)
    taught = distill(splits.train, splits.val, first, recipe.distill, out / "student", ensemble=others, reading=reading)
    return teachers, taught


def teachers_of(recipe: TrainRecipe, splits: Splits) -> list[TeacherSource]:
    """The finished teachers that a recipe names, copied into its folder, or the teacher that is trained there.

    Raises:
        InputError: see `bring_teachers` and `teach`.
    """
    from edgepress.compress.distill import teach
    from edgepress.compress.teacher_sources import bring_teachers

    out = Path(recipe.out)
    if recipe.teacher:
        return bring_teachers(recipe.teacher, recipe.data, out)
    return [teach(splits.train, splits.val, recipe.teach, out / "teacher")]


def _is_main_process() -> bool:
    from edgepress.compress.gather import process_state

    return process_state().is_main_process


def _tuning(
    recipe: Recipe, splits: Splits, teachers: Sequence[TeacherSource], student: Bundle, reading: Reading
) -> FineTuning:
    from edgepress.compress.gather import process_state

    return FineTuning(
        student=student,
        teachers=teachers if recipe.distill.taught else [],
        reading=reading,
        splits=splits,
        config=recipe.finetune,
        export=lambda tuned, folder: _export(tuned, splits, recipe, folder),
        folder=Path(recipe.out),
        processes=process_state().num_processes,
    )


def _export(student: Bundle, splits: Splits, recipe: Recipe, out: Path, *, attention: bool = False) -> Bundle:
    from edgepress.compress.checkpoint import load_model
    from edgepress.deploy.build.export import export_onnx, torch_logits

    model = load_model(student.path)
    made = export_onnx(
        model,
        splits.test,
        out,
        parent=student.as_parent,
        identity=student.digest,
        attention=attention,
        generated_pictures=recipe.generated_pictures,
    )
    return decided(made, splits.val, recipe.decisions, lambda: torch_logits(model, splits.val))


def _header(recipe: Recipe, splits: Splits, teachers: Sequence[TeacherSource], student: Bundle) -> RunReport:
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
            splits=tuple(SplitFacts(split=one.split, values=one.values, notes=one.notes) for one in (train, val, test)),
            passed_over=splits.passed_over,
        ),
        teacher=taught(teachers, student.manifest.facts.teacher_val_mAP),
        student=_facts(student),
        training=tuple(training_curves(one) for one in (*teachers, student) if isinstance(one, Bundle)),
        made_with=MadeWith(
            fingerprints={"train": train.fingerprint(), "val": val.fingerprint(), "test": test.fingerprint()},
            runtimes=tuple(installed()),
            tools=student.manifest.tools,
        ),
        machine=describe_machine(),
        engines=(),
    )


def _facts(bundle: TeacherSource) -> ModelFacts:
    """Facts about a model; an ONNX bundle has no architecture, and its facts say where it comes from."""
    if isinstance(bundle, StoredAnswers):
        return ModelFacts(backbone=f"answers in {bundle.path.name}", digest=bundle.digest)
    facts = bundle.manifest.facts
    made_of = bundle.manifest.architecture or facts
    return ModelFacts(
        backbone=made_of.backbone or bundle.name,
        head=made_of.head,
        size=bundle.preprocess.size,
        digest=bundle.digest,
        val_mAP=facts.val_mAP,
        best_epoch=facts.best_epoch,
        weights=facts.weights,
    )


def taught(teachers: Sequence[TeacherSource], val_map: float | None = None) -> ModelFacts:
    """Facts about the teacher; for several teachers, about them together and about each.

    Args:
        val_map: val mAP of the teachers together, as the student's training found it.
    """
    each = tuple(_facts(teacher) for teacher in teachers)
    if len(each) == 1:
        return each[0] if each[0].val_mAP is not None else each[0].model_copy(update={"val_mAP": val_map})
    names = " + ".join(one.backbone for one in each)
    return ModelFacts(backbone=names, size=each[0].size, val_mAP=val_map, ensemble=each)
