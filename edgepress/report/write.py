"""report.html and report.md: what a person opens. Both are made from report.json alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgepress.multilabel.bundle import MANIFEST, named_digest, write_atomically
from edgepress.multilabel.errors import InputError
from edgepress.report.blocks import to_markdown
from edgepress.report.html import to_html
from edgepress.report.overview import report_document
from edgepress.report.summary import REPORT

HTML, MARKDOWN = "report.html", "report.md"
_MAX_BYTES = 256 * 1024 * 1024


def write_documents(folder: Path, report: Mapping[str, Any]) -> None:
    """Write report.html and report.md, each whole or not at all; what would be the same again stays as it is."""
    document = report_document(report)
    for name, content in ((HTML, to_html(document)), (MARKDOWN, to_markdown(document))):
        data = content.encode("utf-8", "backslashreplace")
        if not (folder / name).is_file() or (folder / name).read_bytes() != data:
            write_atomically(folder / name, data)


def load_report(folder: Path) -> dict[str, Any]:
    """The report.json of a run.

    Raises:
        InputError: there is none, or none that a run wrote.
    """
    file = folder / REPORT
    if not file.is_file():
        raise InputError(f"{folder}: no {REPORT} in it; expected the folder of a run (edgepress run --out DIR)")
    if file.stat().st_size > _MAX_BYTES:
        raise InputError(f"{file}: larger than any report; expected one that edgepress run wrote")
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: not JSON ({' '.join(str(error).split())[:120]}); run again") from None
    if not isinstance(report, dict) or not isinstance(report.get("engines"), list) or "recipe" not in report:
        raise InputError(f"{file}: not the report of a run; expected one that edgepress run wrote")
    return report


def made_again(folder: Path, report: Mapping[str, Any]) -> list[str]:
    """Engines of a run whose bundle in its folder is not the one that was measured; their files are not read."""
    found = []
    for row in report["engines"]:
        name = row["engine"].removesuffix(" (torch)")
        manifest = folder / name / MANIFEST
        if row.get("digest") is not None and manifest.is_file() and named_digest(manifest) != row["digest"]:
            found.append(name)
    return found
