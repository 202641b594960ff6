"""The report of a run: one row an engine, as a table for people and as report.json for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from edgepress.compress.config import TERMS
from edgepress.multilabel.bundle import Bundle, write_atomically
from edgepress.multilabel.inspection import DataReport
from edgepress.report.verification import drop_text

REPORT = "report.json"
MOST_GROUPS = 20


def write_report(folder: Path, report: dict[str, Any]) -> None:
    """Write report.json, whole or not at all."""
    write_atomically(folder / REPORT, (json.dumps(report, indent=2, ensure_ascii=False) + "\n").encode())


def read_report(folder: Path) -> dict[str, Any]:
    """An earlier report of the same folder, or an empty one where there is none that can be read."""
    try:
        report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # nothing is lost: every row of it can be measured again
    return report if isinstance(report, dict) else {}


def to_ship(report: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The row of the engine that a run would ship: what its latency budget chose, else the fastest that passes; None
    where there is none."""
    rows, budget = report["engines"], report.get("latency_budget")
    if budget is not None:
        chosen = (row for row in rows if row.get("bundle", row["engine"]) == budget["ship"])
        return next(chosen, None)
    passing = [row for row in rows if row["verdict"] == "pass" and row.get("p50_ms") is not None]
    return min(passing, key=lambda row: row["p50_ms"], default=None)


def taught_by(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What the student learnt from, a summary each; empty where no loss term asks a teacher (preset alone)."""
    if not any(report["recipe"]["distill"].get(name) for name in TERMS):
        return []
    return report["teacher"].get("ensemble") or [report["teacher"]]


def telling(report: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The row whose decisions a report shows: of the engine to ship, where any of its decisions is not the student's.

    Else, and where the run failed, it is the engine that changed most: that is what somebody must look at.
    """
    changed = [row for row in report["engines"] if row.get("flips") and row["flips"]["flipped"]]
    failed = [row for row in changed if row["verdict"] == "fail"]
    best = to_ship(report)
    if not failed and best is not None and best in changed:
        return best
    verified = [row for row in report["engines"] if row.get("flips")]
    return max(failed or changed or verified, key=lambda row: row["flips"]["flipped"], default=None)


def print_report(report: dict[str, Any], console: Console) -> None:
    """The table, and below it what could not run and what failed, with the reasons."""
    data = report["data"]
    source = f" from {report['teacher']['backbone']}" if taught_by(report) else ", taught by no teacher"
    table = Table(
        title=f"{report['student']['backbone']}{source}, {data['test_pictures']} test pictures",
        caption=(
            f"mAP over {data['labels_counted']} of {data['labels']} labels; random scores reach "
            f"{100 * data['prevalence']:.1f} (prevalence). Latency: batch {report['bench']['batch']}, "
            f"{report['machine']['processor']}, {report['machine']['cores']} cores"
        ),
    )
    for name, justify in (
        ("engine", "left"),
        ("precision", "left"),
        ("MB", "right"),
        ("mAP", "right"),
        ("drop", "right"),
        ("changed", "right"),
        ("p50 ms", "right"),
        ("p90 ms", "right"),
        ("p99 ms", "right"),
        ("images/s", "right"),
        ("verdict", "left"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for row in report["engines"]:
        table.add_row(
            row["engine"],
            row["precision"],
            _number(row.get("size_bytes"), 1e-6, 1),
            _number(row.get("mAP"), 100, 2),
            drop_text(row),
            _number(row.get("flip_rate"), 100, 2, "%"),
            _number(row.get("p50_ms"), 1, 2),
            _number(row.get("p90_ms"), 1, 2),
            _number(row.get("p99_ms"), 1, 2),
            _number(row.get("images_per_second"), 1, 0),
            row["verdict"],
        )
    console.print(table)
    for row in report["engines"]:
        for reason in row.get("reasons", []):
            console.print(f"{row['engine']}: {row['verdict']}: {reason}", highlight=False, soft_wrap=True)


def _number(value: float | None, scale: float, digits: int, unit: str = "") -> str:
    return "" if value is None else f"{value * scale:.{digits}f}{unit}"


def print_trade(bundle: Bundle, console: Console) -> None:
    """What every candidate of an INT8 bundle's search reached, and below it what was taken."""
    calibration = bundle.manifest.calibration
    assert calibration is not None
    whole = sum(not row.kept for row in calibration.tried)
    table = Table(
        title=f"{bundle.name}: {whole} of {calibration.planned} candidates tried",
        caption=(
            f"fp32: val mAP {_number(calibration.val_mAP_float, 100, 2)}; budget {calibration.budget:g} points. "
            "Latency: batch 1, as a multiple of fp32's in the same runtime, 95 % interval"
        ),
    )
    table.add_column("candidate")
    for name in ("val mAP", "drop", "SQNR dB", "latency", "in INT8"):
        table.add_column(name, justify="right")
    for row in calibration.tried:
        table.add_row(
            row.candidate,
            _number(row.val_mAP, 100, 2),
            _number(row.drop_points, 1, 2),
            _number(row.sqnr, 1, 1),
            "" if row.latency is None else str(row.latency),
            _number(row.int8_share, 100, 1, "%"),
        )
    console.print(table)
    console.print(
        f"taken: {calibration.method}, {len(calibration.kept_float)} of {calibration.products} nodes in float",
        soft_wrap=True,
    )


def print_data(report: DataReport, console: Console) -> None:
    """A data set's labels by split, and below them what would spoil a training or a measurement."""
    table = Table(title="pictures a label")
    table.add_column("label")
    for name in report.splits:
        table.add_column(name, justify="right")
    for label in dict.fromkeys(label for split in report.splits.values() for label in split.counts):
        table.add_row(label, *(str(split.counts.get(label, "")) for split in report.splits.values()))
    console.print(table)
    for name, split in report.splits.items():
        imbalance = "" if split.imbalance is None else f", most over fewest {split.imbalance:.1f}"
        console.print(
            f"{name}: {split.pictures} pictures, {split.labels_a_picture:.2f} labels each{imbalance}, "
            f"{split.unlabelled} without a label, {split.ignored} ignored cells",
            soft_wrap=True,
        )
        for pair in split.pairs[:5]:
            console.print(
                f"  {pair.first} + {pair.second}: {pair.count} pictures, "
                f"{pair.second_given_first:.0%} of {pair.first}, {pair.first_given_second:.0%} of {pair.second}",
                soft_wrap=True,
            )
        if split.labels_without_positive:
            console.print(f"  no picture has {', '.join(split.labels_without_positive)}", soft_wrap=True)
        if split.with_alpha:
            console.print(f"  {split.with_alpha} pictures have transparency, which is left out", soft_wrap=True)
        for bits, count in split.deep.items():
            console.print(
                f"  {count} pictures of 16 bits a channel use {bits} of them: the upper 8 of these are read",
                soft_wrap=True,
            )
        for broken in split.broken:
            console.print(f"  broken: {broken.path}: {broken.reason}", soft_wrap=True)
    for title, groups in (
        ("same file", report.exact_duplicates),
        ("looks the same", report.near_duplicates),
        ("same file, other labels", report.conflicts),
    ):
        for group in groups[:MOST_GROUPS]:
            across = " ACROSS SPLITS" if group.across else ""
            console.print(f"{title}{across}: {', '.join(picture.path for picture in group.pictures)}", soft_wrap=True)
        if len(groups) > MOST_GROUPS:
            console.print(f"{title}: {len(groups) - MOST_GROUPS} more groups (--json lists all)")
