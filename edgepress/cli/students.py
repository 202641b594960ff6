"""students: list backbones that export, quantise and keep a latency budget."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from edgepress.cli.options import Json, Remote, print_json
from edgepress.multilabel.errors import InputError
from edgepress.report.terminal import stdout


def verb(
    remote: Remote,
    budget: Annotated[
        str | None, typer.Option("--budget", help="The most milliseconds for one picture, such as 5ms.")
    ] = None,
    engine: Annotated[str, typer.Option("--engine", help="An engine of the table.")] = "onnx-int8-onnxruntime",
    size: Annotated[
        int | None, typer.Option("--size", help="Side of the pictures in pixels (default: the table's)")
    ] = None,
    labels: Annotated[int | None, typer.Option("--labels", help="Number of labels (default: the table's)")] = None,
    count: Annotated[int, typer.Option("--time", help="How many of those that fit are timed themselves.")] = 3,
    json: Json = False,
) -> None:
    """List backbones that quantise and are fast enough.

    Without --budget it prints what was measured of each on one x86 processor, and times nothing.

    With --budget a few backbones are timed with random weights on this machine, or with --host on another, to scale the
    table's times to it; then the first that fit are timed themselves. Each time says whether it was measured or scaled.
    Exit code 1 where none fits.
    """
    from edgepress.report.students import print_budget, print_table_of
    from edgepress.run.durations import milliseconds
    from edgepress.run.student_table import student_table, table_engine
    from edgepress.run.students import Timer, find_students

    spec, table, there = table_engine(engine), student_table(), remote.host_given()
    if budget is None:
        if there is not None or size is not None or labels is not None:
            raise InputError("--host, --size and --labels are for a budget: give --budget as well, such as 5ms")
        if json:
            print_json(table.model_dump(mode="json"))
        else:
            print_table_of(table, spec, stdout())
        return
    try:
        most = milliseconds(budget)
    except ValueError as error:
        raise InputError(f"--budget {budget!r}: {error}") from None
    if count < 0:
        raise InputError(f"--time {count}: expected 0 or more")
    with tempfile.TemporaryDirectory(prefix="edgepress-students-") as folder:
        timer = Timer(spec, size or table.size, labels or table.labels, there, Path(folder))
        found = find_students(table, spec, most, timer, count=count)
    if json:
        about = {"engine": engine, "host": remote.host, "size": timer.size, "labels": timer.labels}
        print_json({**about, **asdict(found)})
    else:
        print_budget(found, table, spec, timer, stdout())
    if not found.fits:
        raise typer.Exit(1)
