"""Print the table of students, and which of them keep a latency budget."""

from __future__ import annotations

import statistics

from rich.console import Console

from edgepress.deploy.engines.table import EngineSpec
from edgepress.multilabel.plural import plural
from edgepress.report.terminal import print_table
from edgepress.run.student_table import NOT_MEASURED, StudentFacts, StudentTable
from edgepress.run.students import Fit, Found, Timer

MOST_FAILURES = 160
_COLUMNS = ("backbone", "family", "M parameters", "M multiply-adds", "MB", "SQNR dB", "INT8 / fp32")
_FIGURES = "MB, SQNR and INT8 / fp32 are the table's, of the plain INT8 graph of random weights"


def print_table_of(table: StudentTable, engine: EngineSpec, console: Console) -> None:
    """Print every student's figures in an engine's runtime, and what failed and why."""
    timed = [(time, one) for one in table.students if (time := one.time_ms(engine)) is not None]
    timed.sort(key=lambda pair: pair[0])
    print_table(
        console,
        (*_COLUMNS, "ms"),
        [(*_facts(one, engine), f"{time:.2f}") for time, one in timed],
        title=f"{plural(len(timed), 'student')} of {len(table.students)} as {engine.name}, the fastest first",
        caption=f"{_measured(table)}. Nothing was timed now: --budget 5ms times a few on this machine, or on --host",
        words=("family",),
        spare=("M parameters", "SQNR dB", "family", "MB"),
    )
    ratios = [_ratio(one, engine) for _, one in timed]
    if engine.precision == "int8" and timed:
        console.print(f"INT8 takes {statistics.median(ratios):.2f} times fp32's time in the median", soft_wrap=True)
    _print_slower(table, engine, console)
    missing = [one for one in table.students if one.why_not(engine) == NOT_MEASURED]
    if missing:
        names = ", ".join(one.name for one in missing)
        console.print(f"{NOT_MEASURED} as {engine.name}: {names}", soft_wrap=True)
    for one in table.students:
        why = one.why_not(engine)
        if why is not None and why != NOT_MEASURED:
            console.print(f"{one.name}: {why[:MOST_FAILURES]}", soft_wrap=True)


def print_budget(found: Found, table: StudentTable, engine: EngineSpec, timer: Timer, console: Console) -> None:
    """Print the students that keep a budget, which of their times were measured, and how the others were scaled."""
    where = "this machine" if timer.host is None else timer.host.name
    if found.fits:
        print_table(
            console,
            (*_COLUMNS, "ms", "this time is"),
            [(*_facts(fit.student, engine), *_time(fit, found.budget_ms)) for fit in found.fits],
            title=f"as {engine.name} within {found.budget_ms:g} ms on {where}, the most multiply-adds first",
            caption=f"{_FIGURES}, {_measured(table)}",
            words=("family", "this time is"),
            spare=("M parameters", "SQNR dB", "family", "MB", "M multiply-adds", "INT8 / fp32"),
        )
    for fit in found.over:
        console.print(f"{fit.student.name}: over, {fit.ms:.3g} ms measured", soft_wrap=True)
    if found.nearest is not None:
        near = found.nearest
        said = "measured" if near.measured else f"scaled, {near.low_ms:.3g} to {near.high_ms:.3g}"
        console.print(
            f"no student is within {found.budget_ms:g} ms on {where}; the nearest is {near.student.name} with "
            f"{near.ms:.3g} ms ({said}). Choose a smaller --size, another --engine or a larger budget",
            soft_wrap=True,
        )
    timed = ", ".join(f"{name} {ms:.3g} ms" for name, ms in found.scale.measured.items())
    console.print(
        f"measured on {where}, with random weights, {timer.size} px, {plural(timer.labels, 'label')}: {timed}. "
        f"By their median, times there are {found.scale.factor:.3g} times the table's (from {found.scale.low:.3g} to "
        f"{found.scale.high:.3g}); the others are scaled by it. One that is near the budget has to be timed itself "
        "(--time)",
        soft_wrap=True,
    )
    for caution in found.cautions:
        console.print(f"caution: {caution}", soft_wrap=True)
    _print_slower(table, engine, console)
    console.print(
        "The table knows no accuracy. `edgepress run --latency-budget` times students again, INT8 with as many "
        "nodes in float as its search may leave, before it trains one",
        soft_wrap=True,
    )


def _facts(one: StudentFacts, engine: EngineSpec) -> tuple[str, ...]:
    found = one.runtimes.get(engine.runtime.kind)
    assert found is not None
    size = found.int8_bytes if engine.precision == "int8" else found.fp32_bytes
    ratio = found.int8_of_fp32
    return (
        one.name,
        one.family,
        _number(one.parameters, 1e-6, 1),
        _number(one.macs, 1e-6, 0),
        _number(size, 1e-6, 1),
        _number(found.sqnr, 1, 1),
        "" if ratio is None else f"{ratio.ratio:.2f}",
    )


def _ratio(one: StudentFacts, engine: EngineSpec) -> float:
    found = one.runtimes.get(engine.runtime.kind)
    return 1.0 if found is None or found.int8_of_fp32 is None else found.int8_of_fp32.ratio


def _number(value: float | None, scale: float, digits: int) -> str:
    return "" if value is None else f"{value * scale:.{digits}f}"


def _time(fit: Fit, budget_ms: float) -> tuple[str, str]:
    if fit.low_ms is None or fit.high_ms is None:
        return f"{fit.ms:.2f}", "measured"
    doubt = "; it may not fit" if fit.high_ms > budget_ms else ""
    return f"{fit.ms:.2f}", f"scaled, {fit.low_ms:.2f} to {fit.high_ms:.2f}{doubt}"


def _measured(table: StudentTable) -> str:
    return (
        f"measured on {table.processor} ({', '.join(table.instructions)}) with one thread, {table.measured}, "
        f"{table.size} px, {table.labels} labels"
    )


def _print_slower(table: StudentTable, engine: EngineSpec, console: Console) -> None:
    slower = table.slower_families(engine)
    if engine.precision == "int8" and slower:
        told = ", ".join(f"{family} ({ratio:.2f} times)" for family, ratio in slower.items())
        console.print(f"slower in INT8 than in fp32 in {engine.runtime.name}, by the table: {told}", soft_wrap=True)
