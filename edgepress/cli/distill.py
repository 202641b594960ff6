"""distill: train a small model on the labels and on the teacher's outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepress.cli.flags import Flags, FlagsOf
from edgepress.cli.options import DataArgument, DataFlags, Out, Taught, Train, Val, print_path
from edgepress.cli.teach import TRAINING
from edgepress.compress.config import DistillConfig
from edgepress.multilabel.config import FLAGS
from edgepress.multilabel.datasets import refuse_leaks
from edgepress.multilabel.datasets.unlabelled import load_unlabelled
from edgepress.multilabel.folder_kinds import refuse_swapped
from edgepress.multilabel.lock import only_writer
from edgepress.run.recipe import CompareRecipe, load_recipe

OFTEN = (*TRAINING, "preset", "mld", "review-kd", "unlabelled")


def verb(
    data: DataArgument,
    out: Out,
    reader: DataFlags,
    taught: Taught,
    train: Train = "train",
    val: Val = "val",
    recipe: Annotated[
        Path | None, typer.Option("--recipe", help="A recipe, of which the distill section is taken; flags win.")
    ] = None,
    *,
    flags: Annotated[Flags, FlagsOf(DistillConfig, OFTEN)],
) -> None:
    """Train a small model, the student, under the teacher.

    It learns from the labels and from what the teacher says.
    """
    if recipe is None:
        config = DistillConfig.parse(flags, FLAGS)
    else:
        config = load_recipe(recipe, {"data": str(data), "distill": flags}, CompareRecipe).distill
    given = taught.options
    for teacher in given.teacher:
        refuse_swapped("distill {data} --teacher {bundle} --out DIR", Path(teacher), data)
    from edgepress.compress.distill import distill, require_no_teacher, require_obtainable, require_pretrained
    from edgepress.compress.teacher_sources import open_teachers
    from edgepress.run.teachers import Teaching

    teaching = Teaching.of(given, data, reader.options)
    if not teaching.given:
        require_no_teacher(config)
    config = teaching.fitted(config)
    require_obtainable(config)
    learnt, chosen = reader.checked(data, train, val, before_pictures=lambda: require_pretrained(config, [out]))
    refuse_leaks(learnt, [chosen])
    teaching.require([config], learnt)
    if config.unlabelled is not None:
        unlabelled = load_unlabelled(config.unlabelled, learnt.labels)
        measured = [name for name in reader.splits(data) if name not in (train, val)]
        refuse_leaks(unlabelled, [chosen, *reader.load_all(data, measured)])
    with only_writer(out):
        teachers = open_teachers(given.teacher, data, out)
        first = teachers[0] if teachers else None
        print_path(distill(learnt, chosen, first, config, out, ensemble=teachers[1:], reading=teaching.reading))
