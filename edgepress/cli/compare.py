"""compare: train several distillation methods and seeds on the same pictures."""

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
from edgepress.run.recipe import CompareRecipe, TrainRecipe, load_recipe


def verb(
    recipe: RecipeFile = None,
    methods: Annotated[
        str | None,
        typer.Option(
            "--methods",
            help="Presets, `ours` (the distill section) and the recipe's own, by commas "
            "(default: all that the teacher can teach).",
        ),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="Whole numbers, by commas (default: the distill section's seed).")
    ] = None,
    tune: Annotated[
        int | None,
        typer.Option("--tune", help="Trials per method that choose its loss weights and learning rate on val."),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option("--folds", help="Divide all pictures anew into so many folds, and compare with each as test."),
    ] = None,
    *,
    flags: Annotated[Flags, FlagsOf(TrainRecipe, LEARNING)],
) -> None:
    """Train several distillation methods and compare them.

    Every method sees the same pictures. Prints a table of test mAP, and writes compare.html,
    compare.md, compare.json and a plot.
    """
    settings = load_recipe(recipe, flags, CompareRecipe)
    from edgepress.report.across import print_across
    from edgepress.report.methods import print_comparison
    from edgepress.run.compare import CompareConfig, compare, compare_folds, require_names
    from edgepress.run.splits import splits_of

    chosen = methods.split(",") if methods else None
    drawn = seeds.split(",") if seeds else [settings.distill.seed]
    config = CompareConfig.parse({"seeds": drawn, "methods": chosen, "tune": tune}, FLAGS)
    require_names(settings, config)
    with of_recipe(recipe), only_writer(Path(settings.out)):
        if folds is None:
            print_comparison(compare(settings, config, splits_of(settings)), stdout())
        else:
            print_across(compare_folds(settings, config, splits_of(settings), folds), stdout())
