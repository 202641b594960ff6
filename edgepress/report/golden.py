"""Print what verify --golden found: the steps from a picture's file to the decisions."""

from __future__ import annotations

from rich.console import Console

from edgepress.deploy.verify.golden import GoldenVerification
from edgepress.multilabel.plural import plural
from edgepress.report.terminal import print_table


def print_golden(found: GoldenVerification, console: Console) -> None:
    """Print the steps, what they come to, and the verdict with its reasons."""
    rows = [(one.step, {None: "", True: "differs", False: "same"}[one.differs], one.text) for one in found.steps]
    print_table(console, ("step", "here", "found"), rows, title=f"{found.engine}: golden pictures", prose=True)
    if found.changed is not None:
        console.print(
            f"From file to decision on this machine, {found.changed} of {found.decisions} decisions on "
            f"{plural(found.pictures, 'file')} differ.",
            highlight=False,
            soft_wrap=True,
        )
    for reason in found.judgement.reasons:
        console.print(f"{reason.verdict}: {reason}", highlight=False, soft_wrap=True)
    console.print(f"{found.engine}: {found.judgement.verdict}", highlight=False, soft_wrap=True)
