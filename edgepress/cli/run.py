"""run: do everything, from labelled pictures to proven engines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepress.cli.flags import Flags, FlagsOf
from edgepress.cli.options import RecipeFile, of_recipe, speaks
from edgepress.multilabel.lock import only_writer
from edgepress.report.terminal import stdout
from edgepress.run.recipe import Recipe, load_recipe

LEARNING = (
    *("data", "out", "train", "val", "test", "teacher", "teach-backbone", "teach-size", "teach-epochs"),
    *("distill-backbone", "distill-size", "distill-epochs"),
)
OFTEN = (
    *LEARNING,
    *("distill-preset", "engines", "required", "quantize-budget", "bench-seconds", "latency-budget", "host"),
)


def verb(recipe: RecipeFile = None, *, flags: Annotated[Flags, FlagsOf(Recipe, OFTEN)]) -> None:
    """Do all of it: teach, distill, build, verify and bench.

    A stage whose inputs are unchanged is kept. Exit code 1 where an engine fails.
    """
    settings = load_recipe(recipe, flags, Recipe)
    from edgepress.report.summary import print_report
    from edgepress.report.write import HTML
    from edgepress.run.latency_budget import OverBudgetError
    from edgepress.run.pipeline import run

    try:
        with of_recipe(recipe), only_writer(Path(settings.out)):
            report = run(settings)
    except OverBudgetError as error:  # a failed gate, as when the engines exceed the budget after training
        if speaks():
            print(f"fail: {error}")
        raise typer.Exit(1) from None
    if report is None:  # this is not the main process of a launch
        return
    print_report(report, stdout())
    if report.latency_budget is not None:
        ship = report.to_ship.bundle if report.to_ship is not None else "no engine"
        print(f"to ship within {report.latency_budget.budget_ms:g} ms: {ship}")
    print(f"{Path(settings.out) / HTML}: {report.verdict}")
    if report.verdict != "pass":
        raise typer.Exit(1)
