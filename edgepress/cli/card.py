"""card: write a bundle's model card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepress.cli.options import BundlePath, require_file
from edgepress.multilabel.bundle import Bundle, write_atomically


def verb(
    bundle: BundlePath,
    report: Annotated[
        Path | None, typer.Option("--report", help="Folder of the run that measured it (default: the bundle's own).")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write, such as README.md (default: stdout).")
    ] = None,
) -> None:
    """Write a bundle's model card.

    It says what the model is, how it was made and what was measured.
    A run writes one for every bundle into its folder cards. The licence is yours to add.
    """
    from edgepress.report.cards import card
    from edgepress.run.run_report import REPORT, read_report

    require_file("--out", out)
    opened = Bundle.open(bundle)
    folder = report if report is not None else bundle.resolve().parent
    loaded = read_report(folder) if report is not None or (folder / REPORT).is_file() else None
    text = card(opened, loaded)
    if out is None:
        print(text, end="")
        return
    write_atomically(out, text.encode("utf-8", "backslashreplace"))
    print(out)
