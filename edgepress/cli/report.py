"""report: make a run's page again, or compare several runs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from edgepress.cli.options import Json, print_json, require_file
from edgepress.multilabel.bundle import write_atomically
from edgepress.multilabel.errors import InputError
from edgepress.report.terminal import stdout
from edgepress.run.compared import RECORD

log = logging.getLogger("edgepress")


def verb(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs: one is printed again, several are compared.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="HTML file of a comparison (default: only the terminal's tables).")
    ] = None,
    json: Json = False,
) -> None:
    """Make a run's report again, or compare several runs.

    report.html and report.md are made from report.json alone: no data set and no engine is opened. Folders of
    `edgepress compare` are taken as well: one report is made again, and of several the methods are ranked together.
    """
    from edgepress.report.comparison import compare_runs, comparison_document, print_runs
    from edgepress.report.html import to_html
    from edgepress.report.overview import headline
    from edgepress.report.write import HTML, MARKDOWN, made_again, write_documents
    from edgepress.run.run_report import REPORT, read_report

    require_file("--out", out)
    if len({run.resolve() for run in runs}) < len(runs):
        raise InputError(f"a run is named twice: {' '.join(map(str, runs))}; expected each once")
    if all((run / RECORD).is_file() and not (run / REPORT).is_file() for run in runs):
        _comparisons(runs, out, json=json)
        return
    loaded = {str(run): read_report(run) for run in runs}
    if len(runs) == 1:
        if out is not None:
            raise InputError(
                "--out is for a comparison of several runs; the report.html of a single run is in its folder"
            )
        (report,) = loaded.values()
        write_documents(runs[0], report)
        changed = made_again(runs[0], report)
        for name in changed:
            log.warning("%s: made again since; the report is of the earlier one. Run again", runs[0] / name)
        files = {"html": str(runs[0] / HTML), "markdown": str(runs[0] / MARKDOWN), "verdict": report.verdict}
        if json:
            ship = report.to_ship.bundle if report.to_ship is not None else None
            print_json(files | {"to_ship": ship, "made_again": changed})
        else:
            print(f"{report.verdict}: wrote {files['html']} and {files['markdown']}")
            print("\n".join(headline(report)))
        return
    if out is not None:
        write_atomically(out, to_html(comparison_document(loaded)).encode("utf-8", "backslashreplace"))
    if json:
        print_json(compare_runs(loaded))
    else:
        print_runs(loaded, stdout())
    if out is not None and not json:
        print(out)


def _comparisons(runs: list[Path], out: Path | None, *, json: bool) -> None:
    from edgepress.report.across import across_document, print_across
    from edgepress.report.html import to_html
    from edgepress.report.methods import print_comparison, write_methods
    from edgepress.run.across import across, read_comparison

    loaded = {str(run): read_comparison(run) for run in runs}
    if len(runs) == 1:
        if out is not None:
            raise InputError("--out is for several comparisons; the compare.html of a single one is in its folder")
        (record,) = loaded.values()
        write_methods(runs[0], record)
        if json:
            print_json(record.model_dump(mode="json"))
        else:
            print_comparison(record, stdout())
        return
    found = across(loaded)
    if out is not None:
        write_atomically(out, to_html(across_document(found)).encode("utf-8", "backslashreplace"))
    if json:
        print_json(found.model_dump(mode="json"))
    else:
        print_across(found, stdout())
