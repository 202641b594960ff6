"""Compare several runs: their engines in one table and one plot, and the differences between their recipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console

from edgepress.report.blocks import Document, Listing, Section, Table
from edgepress.report.overview import ENGINE_COLUMNS, engine_cells, megabytes, milliseconds, points, trade_offs
from edgepress.report.terminal import print_table
from edgepress.run.recipe import Recipe
from edgepress.run.run_report import RunReport

_RUN_COLUMNS = ("run", "verdict", "student", "teacher", "test pictures", "to ship", "test mAP", "p50 ms", "MB")
_WIDE = ("precision", "p90 ms", "p99 ms", "images/s")
"""Columns that are left out on a narrow terminal."""
_TOLD = {"engine", "precision", "size_bytes", "mAP", "p50_ms", "verdict"}
"""Fields of each engine in the JSON for programs."""
_NOT_COMPARED = ("out",)
"""Keys of a recipe that do not affect the results."""


@dataclass(frozen=True)
class Difference:
    """A setting in which recipes differ."""

    key: str
    """Its path in a recipe, such as `distill.epochs`."""
    values: tuple[Any, ...]
    """In the order of the recipes."""


def compare_runs(runs: Mapping[str, RunReport]) -> dict[str, Any]:
    """What `edgepress report --json` prints for several runs: the runs, differences of recipes, and cautions."""
    return {
        "runs": [
            {
                "run": name,
                "verdict": report.verdict,
                "to_ship": report.to_ship and report.to_ship.bundle,
                "engines": [one.model_dump(include=_TOLD) for one in report.engines],
            }
            for name, report in runs.items()
        ],
        "differences": [asdict(one) for one in differences([report.recipe for report in runs.values()])],
        "cautions": comparison_cautions(runs),
    }


def comparison_document(runs: Mapping[str, RunReport]) -> Document:
    """The comparison as one document."""
    found = differences([report.recipe for report in runs.values()])
    rows = {f"{name}: ": report.engines for name, report in runs.items()}
    # Readers would take a frontier through runs that cannot be compared for a comparison.
    together = [rows] if len(_test_sets(runs)) == len(_machines(runs)) == 1 else [{name: rows[name]} for name in rows]
    plots = [plot for some in together for plot in trade_offs(some)]
    return Document(
        title=f"{len(runs)} runs compared",
        headline=comparison_cautions(runs)
        or ["The runs have the same test pictures and were timed on the same machine."],
        sections=[
            Section("Runs", [_runs(runs)]),
            Section("Accuracy against latency", [*plots, _engines(runs)]),
            Section("Differences of the recipes", [_differences(list(runs), found)]),
            Section("How to reproduce", [Listing([f"edgepress report {' '.join(runs)}"])]),
        ],
    )


def comparison_cautions(runs: Mapping[str, RunReport]) -> list[str]:
    """Why numbers of these runs may not be compared."""
    found = []
    tests = _test_sets(runs)
    if len(tests) > 1:
        found.append("The runs have different test pictures or labels: their mAP cannot be compared.")
    if len(_machines(runs)) > 1:
        found.append("The runs were timed on different machines: their latencies cannot be compared.")
    if any(report.verdict == "incomplete" for report in runs.values()):
        found.append("A run is incomplete: some of its rows are of an earlier time.")
    return found


def _test_sets(runs: Mapping[str, RunReport]) -> set[str]:
    """Fingerprints of the test sets of the runs."""
    return {report.made_with.fingerprints["test"] for report in runs.values()}


def _machines(runs: Mapping[str, RunReport]) -> set[tuple[str, int, str | None]]:
    return {(one.machine.processor, one.machine.cores, one.machine.gpu) for one in runs.values()}


def differences(recipes: Sequence[Recipe]) -> list[Difference]:
    """Every setting in which recipes differ."""
    flat = [_flat(recipe.model_dump(mode="json")) for recipe in recipes]
    keys = dict.fromkeys(key for one in flat for key in one)
    return [
        Difference(key, tuple(one.get(key) for one in flat))
        for key in keys
        if key not in _NOT_COMPARED and any(one.get(key) != flat[0].get(key) for one in flat)
    ]


def print_runs(runs: Mapping[str, RunReport], console: Console) -> None:
    """Print the tables of the comparison on a terminal."""
    found = differences([report.recipe for report in runs.values()])
    for table in (_runs(runs), _engines(runs), _differences(list(runs), found)):
        spare = [name for name in _WIDE if name in table.columns]
        print_table(console, table.columns, table.rows, title=table.caption, words=table.words, spare=spare)
    for line in comparison_cautions(runs):
        console.print(f"caution: {line}", highlight=False, soft_wrap=True)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def _runs(runs: Mapping[str, RunReport]) -> Table:
    rows = []
    for name, report in runs.items():
        best = report.to_ship
        described = [report.verdict, report.student.backbone, report.teacher.backbone, str(report.data.test_pictures)]
        measured = (None, None, None) if best is None else (best.mAP, best.p50_ms, best.size_bytes)
        cells = (write(value) for write, value in zip((points, milliseconds, megabytes), measured, strict=True))
        rows.append([name, *described, "none" if best is None else str(best.bundle), *cells])
    return Table(
        caption="The runs, each with the engine that it would ship",
        columns=_RUN_COLUMNS,
        words=("verdict", "student", "teacher", "to ship"),
        rows=rows,
    )


def _engines(runs: Mapping[str, RunReport]) -> Table:
    return Table(
        caption="Every model of every run",
        columns=("run", *ENGINE_COLUMNS),
        words=("model", "precision", "verdict"),
        rows=[[name, *engine_cells(row)] for name, report in runs.items() for row in report.engines],
    )


def _differences(names: list[str], found: list[Difference]) -> Table:
    rows = [[one.key, *("" if value is None else str(value) for value in one.values)] for one in found]
    return Table(
        caption="Settings that differ" if rows else "No setting differs",
        columns=("setting", *names),
        words=names,
        rows=rows,
    )
