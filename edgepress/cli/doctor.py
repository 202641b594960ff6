"""doctor: report which backends work on a machine, and how to fix the rest."""

from __future__ import annotations

from typing import Any

import typer
from rich.console import Console

from edgepress.cli.options import Json, Remote, print_json
from edgepress.report.terminal import print_table, stdout


def verb(remote: Remote, json: Json = False) -> None:
    """Say which backends work on a machine.

    Also says what mends the rest. Exit code 1 where none works.
    """
    from edgepress.deploy.machine.doctor import diagnose
    from edgepress.remote.host import doctor_there

    there = remote.host_given()
    report = doctor_there(there) if there else diagnose()
    if json:
        print_json(report)
    else:
        print_doctor(report, stdout())
    if not report["usable"]:
        raise typer.Exit(1)


def print_doctor(report: dict[str, Any], console: Console) -> None:
    """Print a row per backend, and below them what is missing and the command that fixes it."""
    machine = report["machine"]
    print_table(
        console,
        ("backend", "works", "detail"),
        [(one["name"], "yes" if one["works"] else "no", one["detail"]) for one in report["backends"]],
        title=f"{machine['processor']}, {machine['cores']} cores",
        words=("works",),
        prose=True,
    )
    if report["board"]:
        console.print(report["board"], highlight=False, soft_wrap=True)
    for line in report["advice"]:
        console.print(f"missing: {line}", highlight=False, soft_wrap=True)
    for line in report.get("cautions", ()):  # an older edgepress on the device gives none
        console.print(f"caution: {line}", highlight=False, soft_wrap=True)
