"""doctor: report which backends work on a machine, and how to fix the rest."""

from __future__ import annotations

import typer
from rich.console import Console

from edgepress.cli.options import Json, Remote, print_json
from edgepress.deploy.machine.doctor import Diagnosis, diagnose
from edgepress.report.terminal import print_table, stdout


def verb(remote: Remote, json: Json = False) -> None:
    """Say which backends work on a machine.

    Also says what mends the rest. Exit code 1 where none works.
    """
    from edgepress.remote.verbs import doctor_there

    there = remote.host_given()
    found = doctor_there(there) if there else diagnose()
    if json:
        print_json(found.as_dict())
    else:
        print_doctor(found, stdout())
    if not found.usable:
        raise typer.Exit(1)


def print_doctor(found: Diagnosis, console: Console) -> None:
    """Print a row per backend, and below them what is missing and the command that fixes it."""
    print_table(
        console,
        ("backend", "works", "detail"),
        [(one.name, "yes" if one.works else "no", one.detail) for one in found.backends],
        title=f"{found.machine.processor}, {found.machine.cores} cores",
        words=("works",),
        prose=True,
    )
    if found.board:
        console.print(found.board, highlight=False, soft_wrap=True)
    for line in found.advice:
        console.print(f"missing: {line}", highlight=False, soft_wrap=True)
    for line in found.cautions:
        console.print(f"caution: {line}", highlight=False, soft_wrap=True)
