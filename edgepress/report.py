"""The report of a run: one row an engine, as a table for people and as report.json for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from multilabel.bundle import write_atomically

REPORT = "report.json"


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


def print_report(report: dict[str, Any], console: Console) -> None:
    """The table, and below it what could not run and what failed, with the reasons."""
    data = report["data"]
    table = Table(
        title=(
            f"{report['student']['backbone']} from {report['teacher']['backbone']}, "
            f"{data['test_pictures']} test pictures"
        ),
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
            _number(row.get("drop_points"), 1, 2),
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
