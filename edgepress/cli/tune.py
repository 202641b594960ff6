"""tune: search a student's settings within a time budget."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepress.cli.flags import Flags, FlagsOf
from edgepress.cli.options import RecipeFile, of_recipe
from edgepress.cli.run import LEARNING
from edgepress.multilabel.config import FLAGS
from edgepress.multilabel.lock import only_writer
from edgepress.report.terminal import stdout
from edgepress.run.recipe import Recipe, TrainRecipe, load_recipe


def verb(
    time_budget: Annotated[
        str, typer.Option("--time-budget", help="How long the search may take, such as 2h or 90min.")
    ],
    recipe: RecipeFile = None,
    trials: Annotated[
        int | None, typer.Option("--trials", help="Most trials (default: as many as there is time for).")
    ] = None,
    sizes: Annotated[
        str | None, typer.Option("--sizes", help="Input sizes to choose from, by commas (default: the recipe's).")
    ] = None,
    backbones: Annotated[
        str | None, typer.Option("--backbones", help="Students to choose from, by commas (default: the recipe's).")
    ] = None,
    *,
    flags: Annotated[Flags, FlagsOf(TrainRecipe, LEARNING)],
) -> None:
    """Search a student's settings within a time budget.

    Trials differ in the loss weights, the learning rate and, where several are named, the input's size and the
    backbone. val chooses. Writes tune.json and tuned.yaml, a recipe for `run` and `distill`.
    """
    settings = load_recipe(recipe, flags, Recipe)
    from edgepress.run.splits import splits_of
    from edgepress.run.tune import TuneConfig, print_tuned, tune

    given: dict[str, object] = {"time_budget": time_budget, "trials": trials}
    lists = {"sizes": sizes, "backbones": backbones}
    given |= {name: value.split(",") for name, value in lists.items() if value is not None}
    config = TuneConfig.parse(given, FLAGS)
    out = Path(settings.out)
    with of_recipe(recipe), only_writer(out):
        print_tuned(tune(settings, config, splits_of(settings)), config.trials, out, stdout())
