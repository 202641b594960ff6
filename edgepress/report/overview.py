"""The report of a run as a document: the verdict, the path, the engines, the labels and the training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgepress.multilabel.plural import plural
from edgepress.report.blocks import Block, Document, Figure, Listing, Path, Section, Step, Table, Text
from edgepress.report.details import device, flips, int8, reliability, reproduction
from edgepress.report.figures import Model, draw_curves, draw_labels, draw_pareto
from edgepress.run.ablation import ablation
from edgepress.run.result import EngineResult, LabelScore
from edgepress.run.run_report import ModelFacts, RunReport

MINUS = "\N{MINUS SIGN}"
ABLATION_COLUMNS = ("step", "model", "MB", "test mAP", "macro-F1", "p50 ms")
ENGINE_COLUMNS = (
    "model",
    "verdict",
    "precision",
    "MB",
    "test mAP",
    "drop in points (95 % interval)",
    "decisions changed",
    "p50 ms",
    "p90 ms",
    "p99 ms",
    "images/s",
)


def report_document(report: RunReport) -> Document:
    """The whole report, from report.json alone."""
    source = f"by {report.teacher.backbone}" if report.taught_by else "by no teacher"
    return Document(
        title=f"{report.student.backbone} taught {source}",
        verdict=report.verdict,
        headline=headline(report),
        sections=[
            Section("From teacher to engines", path(report)),
            *([Section("What each step changes", ablated(report))] if ablation(report) else []),
            Section("Accuracy against latency", engines(report)),
            Section("Labels", labels(report)),
            Section("Training", training(report)),
            Section("INT8", int8(report)),
            Section("Reliability", reliability(report)),
            Section("What changed", flips(report)),
            Section("Device", device(report)),
            Section("How to reproduce", reproduction(report)),
        ],
    )


def headline(report: RunReport) -> list[str]:
    """The verdict in sentences: what to ship, how it compares with its teacher, and what did not pass."""
    if report.verdict == "incomplete":
        return ["The run was interrupted. The same command continues it; nothing is claimed until then."]
    said = []
    best, budget = report.to_ship, report.latency_budget
    within = "" if budget is None else f" within {budget.budget_ms:g} ms"
    if best is not None:
        host = report.recipe.host
        why = f"is to ship{within}" if within else "is the fastest engine that passes" + (f" on {host}" if host else "")
        there = f", {milliseconds(best.on_host.p50_ms)} ms on {host}" if best.on_host is not None else ""
        said.append(f"{best.bundle} {why}: {_short(best)}{there}.")
        teacher = next((one for one in report.engines if one.role == "teacher"), None)
        if teacher is not None:
            which = "A teacher" if report.teacher.ensemble else "The teacher"
            said.append(f"{which}{'' if report.taught_by else ', not learnt from'}: {_short(teacher)}.")
    else:
        said.append(f"No engine{within} passes {f'on {report.recipe.host}' if report.recipe.host else 'here'}.")
    for one in report.engines:
        judged = one.to_ship
        if judged is None:
            continue
        if judged.verdict in ("fail", "unproven") or (one.required and judged.verdict != "pass"):
            said.append(
                f"{one.engine}: {judged.verdict}: {'; '.join(map(str, judged.reasons)) or 'no reason is known'}"
            )
    # An engine that passes only on a host was not timed here.
    if best is not None and best.bench is not None and best.bench.cautions:
        kinds = dict.fromkeys(caution.partition(":")[0] for caution in best.bench.cautions)
        said.append(f"The time of {best.bundle} carries cautions ({', '.join(kinds)}): see Device.")
    if report.caution is not None:
        said.append(f"Caution: {report.caution}.")
    left_out = [one.engine for one in report.engines if one.verdict in ("not run", "not built")]
    if left_out:
        said.append(f"Not measured on this machine: {', '.join(left_out)}.")
    return said


def _short(result: EngineResult) -> str:
    parts = ["no mAP" if result.mAP is None else f"mAP {points(result.mAP)}"]
    if result.p50_ms is not None:
        parts.append(f"{milliseconds(result.p50_ms)} ms per call (p50)")
    if result.size_bytes is not None:
        parts.append(f"{megabytes(result.size_bytes)} MB")
    return ", ".join(parts)


def path(report: RunReport) -> list[Block]:
    """Teacher, student and engines, each with its kind, size and mAP."""
    steps = []
    name = "Teacher" if report.taught_by else "Teacher, not learnt from"
    taught = [one for one in report.engines if one.role == "teacher"]
    for known, one in zip(report.teacher.ensemble or (report.teacher,), taught, strict=False):
        steps.append(Step(name=f"{name}: {known.backbone}", lines=_station(known, one)))
    student = next((one for one in report.engines if one.role == "student"), None)
    if student is not None:
        steps.append(Step(name=f"Student: {report.student.backbone}", lines=_station(report.student, student)))
    for precision, name in (("fp32", "fp32"), ("fp16", "fp16"), ("int8", "INT8")):
        made = [one for one in report.engines if one.precision == precision and one.role == "engine"]
        if made:
            steps.append(Step(name=f"Engines, {name}", lines=[_sized(one) for one in made]))
    data = report.data
    return [
        Path(steps),
        Text(
            f"{plural(data.train_pictures, 'picture')} taught, {data.val_pictures} chose, {data.test_pictures} report. "
            f"mAP in points over {data.labels_counted} of {data.labels} labels; random scores would reach "
            f"{points(data.prevalence)}."
        ),
    ]


def _sized(result: EngineResult) -> str:
    known = result.verdict if result.mAP is None else f"mAP {points(result.mAP)}"
    size = "" if result.size_bytes is None else f", {megabytes(result.size_bytes)} MB"
    return f"{result.engine}: {known}{size}"


def _station(known: ModelFacts, result: EngineResult) -> list[str]:
    val = [] if known.val_mAP is None else [f"val mAP {points(known.val_mAP)}"]
    side = "" if known.size is None else f"{known.size} px, "
    return [f"{side}{megabytes(result.size_bytes)} MB", f"test mAP {points(result.mAP)}", *val]


def ablated(report: RunReport) -> list[Block]:
    """The ablation: what distillation, INT8 and thresholds each change."""
    return [
        Table(
            caption=f"On {plural(report.data.test_pictures, 'test picture')}. Macro-F1 is the mean of the labels' F1. "
            "The answer is yes from a probability of 0.5 on, and in the last row from the label's threshold, which was "
            "fitted on val.",
            columns=ABLATION_COLUMNS,
            rows=ablation_rows(report),
            words=("model",),
        )
    ]


def ablation_rows(report: RunReport) -> list[list[str]]:
    """The rows of the ablation's table, with `ABLATION_COLUMNS`; none if the run has no ablation."""
    return [
        [
            step.name,
            step.result.engine,
            megabytes(step.result.size_bytes),
            points(step.result.mAP),
            points(step.macro_F1),
            milliseconds(step.result.p50_ms),
        ]
        for step in ablation(report)
    ]


def engines(report: RunReport) -> list[Block]:
    """The plot of accuracy against latency, and every model's numbers."""
    table = Table(
        caption=f"Every model on {plural(report.data.test_pictures, 'test picture')}; latency of the model alone, "
        f"batch {report.recipe.bench.batches[0]}. An empty cell was not measured, or needs more calls to be claimed.",
        columns=ENGINE_COLUMNS,
        words=("precision", "verdict"),
        rows=[engine_cells(one) for one in report.engines],
    )
    told = [f"{one.engine}: {reason.verdict}: {reason}" for one in report.engines for reason in one.reasons]
    told += seen_there(report)
    return [*trade_offs({"": report.engines}), table, *([Listing(told)] if told else [])]


def seen_there(report: RunReport) -> list[str]:
    """What the recipe's host said about each engine that was sent to it, one line each."""
    told = []
    for one in report.engines:
        if one.on_host is not None:
            seen = [one.on_host.judgement.verdict, *map(str, one.on_host.judgement.reasons)]
            if one.on_host.p50_ms is not None:
                seen.append(f"p50 {milliseconds(one.on_host.p50_ms)} ms")
            told.append(f"{one.engine} on {report.recipe.host}: {'; '.join(seen)}")
    return told


def trade_offs(results: Mapping[str, Sequence[EngineResult]]) -> list[Block]:
    """Plots of mAP against latency and against size, for the models under each prefix of their names."""
    timed: list[Model] = []
    sized: list[Model] = []
    for prefix, some in results.items():
        for one in some:
            if one.mAP is None or one.p50_ms is None or one.size_bytes is None:
                continue
            series = "a" if one.role != "engine" else "c" if one.precision == "int8" else "b"
            model = Model(name=f"{prefix}{one.engine}", series=series, points=100 * one.mAP, cost=one.p50_ms)
            timed.append(model)
            sized.append(replace(model, cost=one.size_bytes * 1e-6))
    if not timed:
        return [Text("No model was timed: there is no plot.")]
    return [draw_pareto(timed, "latency (p50)", "ms"), draw_pareto(sized, "size", "MB")]


def engine_cells(result: EngineResult) -> list[str]:
    """A row of the table with `ENGINE_COLUMNS`."""
    timing = result.timing
    times = (None, None, None) if timing is None else (timing.p50_ms, timing.p90_ms, timing.p99_ms)
    return [
        result.engine,
        result.verdict,
        result.precision,
        megabytes(result.size_bytes),
        points(result.mAP),
        drop_text(result),
        "" if result.flip_rate is None else f"{100 * result.flip_rate:.2f} %",
        *map(milliseconds, times),
        "" if timing is None else f"{timing.images_per_second:.0f}",
    ]


def drop_text(result: EngineResult) -> str:
    """The drop in points with its 95 % interval if there is one, `0.19 (-0.31 to 0.72)`; empty without a drop."""
    drop = result.drop
    if drop is None:
        return ""
    between = "" if drop.interval is None else f" ({signed(drop.interval[0], 2)} to {signed(drop.interval[1], 2)})"
    return f"{signed(drop.points, 2)}{between}{', fine-tuned' if result.finetuned else ''}"


def labels(report: RunReport) -> list[Block]:
    """AP of every label for the student, the teacher and the INT8 engine, with intervals."""
    models = labelled(report)
    if not models:
        return [Text("No AP by label is known: no model was measured.")]
    figure = draw_labels(models)
    by_name = {model: {one.label: one for one in found} for model, found in models.items()}
    first = next(iter(models.values()))
    missing = [] if any(name.endswith("INT8") for name in models) else [Text("No INT8 engine was measured.")]
    return [
        *missing,
        *([figure] if figure else [Text("No label has an AP.")]),
        Table(
            caption="AP of every label in points (95 % interval), pictures of test resampled. With few positives the "
            "interval itself is unsure",
            columns=("label", "positives", *models),
            rows=[
                [
                    one.label,
                    str(one.positives),
                    *(label_precision(by_name[name].get(one.label)) for name in models),
                ]
                for one in first
            ],
            folded=True,
        ),
    ]


def labelled(report: RunReport) -> dict[str, Sequence[LabelScore]]:
    """Labels by model: the student's, the first teacher's, and those of an INT8 engine (the one to ship)."""
    best = report.to_ship
    student = next((one for one in report.engines if one.role == "student"), None)
    teacher = next((one for one in report.engines if one.role == "teacher"), None)
    quantised = [one for one in report.engines if one.precision == "int8" and one.labels]
    chosen = best if best in quantised else min(quantised, key=lambda one: one.p50_ms or math.inf, default=None)
    found = {"student": student, "teacher": teacher, f"{chosen.engine if chosen else ''}, INT8": chosen}
    return {name: one.labels for name, one in found.items() if one is not None}


def label_precision(score: LabelScore | None) -> str:
    """A label's AP in points, with its interval where there is one."""
    if score is None or score.AP is None:
        return ""
    if score.interval is None:
        return f"{100 * score.AP:.1f}"
    low, high = score.interval
    return f"{100 * score.AP:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def training(report: RunReport) -> list[Block]:
    """A plot for each term of the losses, and one of val mAP."""
    # The student comes first: a plot has room for four, and the report is about the student.
    found = sorted((one for one in report.training if one.val_mAP), key=lambda one: one.model != "student")
    blocks: list[Block] = [
        Text(f"{one.model}: no curves; it was not trained in a run of edgepress.")
        for one in report.training
        if one not in found
    ]
    if not found:
        return blocks
    shown: list[Figure] = []
    for term in dict.fromkeys(term for one in found for term in one.terms):
        curves = {one.model: one.terms[term] for one in found if term in one.terms}
        finite = {model: values for model, values in curves.items() if any(map(math.isfinite, values))}
        if finite:
            shown.append(draw_curves(f"Loss term {term}, as weighted", finite, term))
        blocks += [Text(f"Loss term {term} of {one}: no value is finite.") for one in curves if one not in finite]
    maps = {one.model: [100 * value for value in one.val_mAP] for one in found}
    best = ", ".join(f"{one.model} {one.best_epoch}" for one in found if one.best_epoch)
    return [
        *blocks,
        Text(f"An epoch's loss is the sum of its terms. Weights are of the epoch with the best val mAP: {best}."),
        *shown,
        draw_curves("mAP on val in points", maps, "val mAP"),
    ]


def points(value: float | None) -> str:
    """Format a share in [0, 1] as points."""
    return "" if value is None else f"{100 * value:.2f}"


def milliseconds(value: float | None) -> str:
    """Format milliseconds with three digits, whatever the size."""
    if value is None:
        return ""
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}" if value > 0 else f"{value:g}"


def megabytes(value: float | None) -> str:
    """Format bytes as megabytes of a million bytes."""
    return "" if value is None else f"{value / 1e6:.1f}"


def signed(value: float, digits: int) -> str:
    """Format a number with a typographic minus sign and no negative zero."""
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", MINUS)
