"""The report of a run as a document: the verdict, the path, the engines, the labels and the training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from edgepress.report.blocks import Block, Document, Figure, Listing, Path, Section, Step, Table, Text
from edgepress.report.details import device, flips, int8, reliability, reproduction
from edgepress.report.figures import Model, draw_curves, draw_labels, draw_pareto
from edgepress.report.summary import taught_by, to_ship
from edgepress.report.verification import drop_text

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


def report_document(report: Mapping[str, Any]) -> Document:
    """The whole report, from report.json alone."""
    source = f"by {report['teacher']['backbone']}" if taught_by(report) else "by no teacher"
    return Document(
        title=f"{report['student']['backbone']} taught {source}",
        verdict=report["verdict"],
        headline=headline(report),
        sections=[
            Section("From teacher to engines", path(report)),
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


def headline(report: Mapping[str, Any]) -> list[str]:
    """The verdict in sentences: what to ship, what it is beside its teacher, and what did not pass."""
    if report["verdict"] == "incomplete":
        return ["The run was interrupted. The same command continues it; nothing is claimed until then."]
    said = []
    best, budget = to_ship(report), report.get("latency_budget")
    if best is not None:
        why = "is the fastest engine that passes" if budget is None else f"is to ship within {budget['budget_ms']:g} ms"
        there = f", {milliseconds(budget['p50_ms'])} ms on {budget['host']}" if budget and budget.get("host") else ""
        said.append(f"{best['engine']} {why}: {_short(best)}{there}.")
        teacher = next((row for row in report["engines"] if row["verdict"] == "teacher"), None)
        if teacher is not None:
            which = "A teacher" if report["teacher"].get("ensemble") else "The teacher"
            said.append(f"{which}{'' if taught_by(report) else ', not learnt from'}: {_short(teacher)}.")
    else:
        within = "" if budget is None else f" within {budget['budget_ms']:g} ms"
        said.append(f"No engine{within} passes here.")
    required = {row["engine"] for row in report["engines"] if row.get("required")}
    for row in report["engines"]:
        bad = row["verdict"] in ("fail", "unproven") or (row["engine"] in required and row["verdict"] != "pass")
        if bad:
            said.append(
                f"{row['engine']}: {row['verdict']}: {'; '.join(row.get('reasons', [])) or 'no reason is known'}"
            )
    # An engine that passes on a host alone was not timed here.
    beware = (best.get("bench") or {}).get("cautions") if best is not None else None
    if best is not None and beware:
        kinds = dict.fromkeys(one.partition(":")[0] for one in beware)
        said.append(f"The time of {best['engine']} carries cautions ({', '.join(kinds)}): see Device.")
    left_out = [row["engine"] for row in report["engines"] if row["verdict"] in ("not run", "not built")]
    if left_out:
        said.append(f"Not measured on this machine: {', '.join(left_out)}.")
    return said


def _short(row: Mapping[str, Any]) -> str:
    parts = [f"mAP {points(row.get('mAP'))}" if row.get("mAP") is not None else "no mAP"]
    if row.get("p50_ms") is not None:
        parts.append(f"{milliseconds(row['p50_ms'])} ms a call (p50)")
    if row.get("size_bytes") is not None:
        parts.append(f"{megabytes(row['size_bytes'])} MB")
    return ", ".join(parts)


def path(report: Mapping[str, Any]) -> list[Block]:
    """Teacher, student, engines: what each is, its size and its mAP."""
    rows, steps = report["engines"], []
    teachers = report["teacher"].get("ensemble") or [report["teacher"]]
    taught = [row for row in rows if row["verdict"] == "teacher"]
    name = "Teacher" if taught_by(report) else "Teacher, not learnt from"
    for known, row in zip(teachers, taught, strict=False):
        steps.append(Step(name=f"{name}: {known['backbone']}", lines=_station(known, row)))
    student = next((row for row in rows if row["verdict"] == "reference"), None)
    if student is not None:
        steps.append(Step(name=f"Student: {report['student']['backbone']}", lines=_station(report["student"], student)))
    for precision, name in (("fp32", "fp32"), ("fp16", "fp16"), ("int8", "INT8")):
        made = [row for row in rows if row["precision"] == precision and row["verdict"] not in ("teacher", "reference")]
        if made:
            steps.append(Step(name=f"Engines, {name}", lines=[_sized(row) for row in made]))
    data = report["data"]
    return [
        Path(steps),
        Text(
            f"{data['train_pictures']} pictures taught, {data['val_pictures']} chose, {data['test_pictures']} report. "
            f"mAP in points over {data['labels_counted']} of {data['labels']} labels; random scores would reach "
            f"{points(data['prevalence'])}."
        ),
    ]


def _sized(row: Mapping[str, Any]) -> str:
    known = [f"mAP {points(row['mAP'])}"] if row.get("mAP") is not None else [row["verdict"]]
    size = [f"{megabytes(row['size_bytes'])} MB"] if row.get("size_bytes") is not None else []
    return f"{row['engine']}: {', '.join([*known, *size])}"


def _station(known: Mapping[str, Any], row: Mapping[str, Any]) -> list[str]:
    lines = [f"{known['size']} px, {megabytes(row['size_bytes'])} MB", f"test mAP {points(row['mAP'])}"]
    if known.get("val_mAP") is not None:
        lines.append(f"val mAP {points(known['val_mAP'])}")
    return lines


def engines(report: Mapping[str, Any]) -> list[Block]:
    """The plot of accuracy against latency, and every model's numbers."""
    drawn = trade_offs({"": report["engines"]})
    table = Table(
        caption=f"Every model on {report['data']['test_pictures']} test pictures; latency of the model alone, batch "
        f"{report['bench']['batch'].split(',')[0]}. An empty cell was not measured, or needs more calls to be claimed.",
        columns=ENGINE_COLUMNS,
        words=("precision", "verdict"),
        rows=[engine_cells(row) for row in report["engines"]],
    )
    reasons = [
        f"{row['engine']}: {row['verdict']}: {one}" for row in report["engines"] for one in row.get("reasons", [])
    ]
    for row in report["engines"]:
        if "there" in row:
            said = [row["there"]["verdict"], *row["there"].get("reasons", [])]
            if "p50_ms" in row["there"]:
                said.append(f"p50 {milliseconds(row['there']['p50_ms'])} ms")
            reasons.append(f"{row['engine']} on {report['recipe']['host']}: {'; '.join(said)}")
    return [*drawn, table, *([Listing(reasons)] if reasons else [])]


def trade_offs(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Block]:
    """Plots of mAP against latency and against size, of the rows under each prefix of their names."""
    timed = [model for prefix, some in rows.items() for model in _measured(some, prefix, "p50_ms", 1)]
    if not timed:
        return [Text("No model was timed: there is no plot.")]
    sized = [model for prefix, some in rows.items() for model in _measured(some, prefix, "size_bytes", 1e-6)]
    return [draw_pareto(timed, "latency (p50)", "ms"), draw_pareto(sized, "size", "MB")]


def _measured(rows: Sequence[Mapping[str, Any]], prefix: str, key: str, scale: float) -> list[Model]:
    return [
        Model(
            name=f"{prefix}{row['engine']}",
            series="a" if row["verdict"] in ("teacher", "reference") else "c" if row["precision"] == "int8" else "b",
            points=100 * row["mAP"],
            cost=row[key] * scale,
        )
        for row in rows
        if row.get("mAP") is not None and row.get("p50_ms") is not None
    ]


def engine_cells(row: Mapping[str, Any]) -> list[str]:
    """A row of the table of `ENGINE_COLUMNS`."""
    changed = row.get("flip_rate")
    return [
        row["engine"],
        row["verdict"],
        row["precision"],
        megabytes(row.get("size_bytes")),
        points(row.get("mAP")),
        drop_text(dict(row)),
        "" if changed is None else f"{100 * changed:.2f} %",
        *(milliseconds(row.get(name)) for name in ("p50_ms", "p90_ms", "p99_ms")),
        "" if row.get("images_per_second") is None else f"{row['images_per_second']:.0f}",
    ]


def labels(report: Mapping[str, Any]) -> list[Block]:
    """AP of every label by the student, the teacher and the INT8 engine, with intervals."""
    models = labelled(report)
    if not models:
        return [Text("No AP by label is known: this report was made before they were kept. Run again.")]
    figure = draw_labels(models)
    by_name = {model: {row["label"]: row for row in rows} for model, rows in models.items()}
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
                    row["label"],
                    str(row["positives"]),
                    *(label_precision(by_name[name].get(row["label"])) for name in models),
                ]
                for row in first
            ],
            folded=True,
        ),
    ]


def labelled(report: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    """Rows of labels by model: the student's, the first teacher's, and those of an INT8 engine (the one to ship)."""
    rows, best = report["engines"], to_ship(report)
    student = next((row for row in rows if row["verdict"] == "reference" and "labels" in row), None)
    teacher = next((row for row in rows if row["verdict"] == "teacher" and "labels" in row), None)
    quantised = [row for row in rows if row["precision"] == "int8" and row.get("labels")]
    chosen = next((row for row in quantised if best is not None and row["engine"] == best["engine"]), None)
    chosen = chosen or min(quantised, key=lambda row: row.get("p50_ms") or math.inf, default=None)
    found = {"student": student, "teacher": teacher, f"{chosen['engine'] if chosen else ''}, INT8": chosen}
    return {name: row["labels"] for name, row in found.items() if row is not None}


def label_precision(row: Mapping[str, Any] | None) -> str:
    """A label's AP in points, with its interval where there is one."""
    if row is None or row["AP"] is None:
        return ""
    if not row.get("interval"):
        return f"{100 * row['AP']:.1f}"
    low, high = row["interval"]
    return f"{100 * row['AP']:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def training(report: Mapping[str, Any]) -> list[Block]:
    """A plot for each term of the losses, and one of val mAP."""
    known = report.get("training", [])
    # The student first: a plot has room for four, and it is the student's report.
    found = sorted((one for one in known if one["val_mAP"]), key=lambda one: one["model"] != "student")
    blocks: list[Block] = [
        Text(f"{one['model']}: no curves; it was not trained in a run of edgepress.")
        for one in known
        if one not in found
    ]
    if not found:
        return blocks or [Text("No curves are known: this report was made before they were kept. Run again.")]
    shown: list[Figure] = []
    for term in dict.fromkeys(term for one in found for term in one["terms"]):
        curves = {one["model"]: one["terms"][term] for one in found if term in one["terms"]}
        finite = {model: values for model, values in curves.items() if any(map(math.isfinite, values))}
        if finite:
            shown.append(draw_curves(f"Loss term {term}, as weighted", finite, term))
        blocks += [Text(f"Loss term {term} of {one}: no value is finite.") for one in curves if one not in finite]
    maps = {one["model"]: [100 * value for value in one["val_mAP"]] for one in found}
    best = ", ".join(f"{one['model']} {one['best_epoch']}" for one in found if one["best_epoch"])
    return [
        *blocks,
        Text(f"An epoch's loss is the sum of its terms. Weights are of the epoch with the best val mAP: {best}."),
        *shown,
        draw_curves("mAP on val in points", maps, "val mAP"),
    ]


def points(value: float | None) -> str:
    """A share in [0, 1] as points."""
    return "" if value is None else f"{100 * value:.2f}"


def milliseconds(value: float | None) -> str:
    """Three digits, whatever the size."""
    if value is None:
        return ""
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}" if value > 0 else f"{value:g}"


def megabytes(value: float | None) -> str:
    """Bytes as megabytes of a million."""
    return "" if value is None else f"{value / 1e6:.1f}"
