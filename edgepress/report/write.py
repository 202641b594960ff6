"""Write report.html and report.md, which people open. Both are made from report.json alone."""

from __future__ import annotations

from pathlib import Path

from edgepress.multilabel.bundle import MANIFEST, named_digest, write_atomically
from edgepress.report.blocks import to_markdown
from edgepress.report.html import to_html
from edgepress.report.overview import report_document
from edgepress.run.run_report import RunReport

HTML, MARKDOWN = "report.html", "report.md"


def write_documents(folder: Path, report: RunReport) -> None:
    """Write report.html and report.md, each completely or not at all; an unchanged file is kept."""
    document = report_document(report)
    for name, content in ((HTML, to_html(document)), (MARKDOWN, to_markdown(document))):
        data = content.encode("utf-8", "backslashreplace")
        if not (folder / name).is_file() or (folder / name).read_bytes() != data:
            write_atomically(folder / name, data)


def made_again(folder: Path, report: RunReport) -> list[str]:
    """Bundles of a run that were made again after they were measured; their files are not read."""
    found = []
    for one in report.engines:
        manifest = folder / one.bundle / MANIFEST if one.bundle is not None else None
        if one.bundle and manifest is not None and manifest.is_file() and named_digest(manifest) != one.digest:
            found.append(one.bundle)
    return found
