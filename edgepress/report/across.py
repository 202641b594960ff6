"""Several comparisons of methods in one table, printed and as a document."""

from __future__ import annotations

from rich.console import Console

from edgepress.multilabel.plural import plural
from edgepress.report.blocks import Document, Section, Table
from edgepress.report.terminal import print_table
from edgepress.run.across import Across


def across_document(found: Across) -> Document:
    """Several comparisons as one document."""
    return Document(
        title=f"{plural(len(found.comparisons), 'comparison')} of {plural(len(found.methods), 'method')}",
        headline=[f"{line}." for line in found.told],
        sections=[Section("Methods", [_across(found)])],
    )


def print_across(found: Across, console: Console) -> None:
    """Print the mean ranks, and which of them differ beyond chance."""
    table = _across(found)
    print_table(console, table.columns, table.rows, title=table.caption, caption=". ".join(found.told))


def _across(found: Across) -> Table:
    left = f". Left out, because not all have them: {', '.join(found.left_out)}" if found.left_out else ""
    return Table(
        caption=f"Mean ranks by val and by test mAP, and test mAP in each comparison{left}",
        columns=("method", "rank on val", "rank on test", *found.comparisons),
        rows=[
            (
                one.method,
                f"{one.val_rank:.2f}",
                f"{one.test_rank:.2f}",
                *(f"{value:.2f}" for value in one.test_mAP_points),
            )
            for one in found.methods
        ],
    )
