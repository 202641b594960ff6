"""finetune: train a student on as its INT8 graph computes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepress.cli.flags import Flags, FlagsOf
from edgepress.cli.options import Data, DataFlags, Out, Taught, Train, Val, print_path
from edgepress.compress.config import QuantizeAwareConfig
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.config import FLAGS
from edgepress.multilabel.datasets import refuse_leaks
from edgepress.multilabel.folder_kinds import refuse_swapped
from edgepress.multilabel.lock import only_writer


def verb(
    student: Annotated[Path, typer.Argument(help="The student: a bundle of kind torch.")],
    data: Data,
    out: Out,
    reader: DataFlags,
    taught: Taught,
    train: Train = "train",
    val: Val = "val",
    *,
    flags: Annotated[Flags, FlagsOf(QuantizeAwareConfig)],
) -> None:
    """Fine-tune a student as its INT8 graph computes.

    This is for a student that loses too much where quantize alone is used; export and quantize the result.
    """
    config = QuantizeAwareConfig.parse(flags, FLAGS)
    given = taught.options
    refuse_swapped("finetune {bundle} --data {data} --out DIR", student, data)
    start = Bundle.open(student, kind="torch")
    from edgepress.compress.quantize_aware import lesson_again, quantize_aware
    from edgepress.compress.teacher_sources import open_teachers
    from edgepress.run.teachers import Teaching

    teaching = Teaching.of(given, data, reader.options)
    learnt, chosen = reader.checked(data, train, val)
    refuse_leaks(learnt, [chosen])
    teaching.require([lesson_again(start, config)], learnt)
    with only_writer(out):
        teachers = open_teachers(given.teacher, data, out)
        first = teachers[0] if teachers else None
        print_path(
            quantize_aware(learnt, chosen, first, start, config, out, ensemble=teachers[1:], reading=teaching.reading)
        )
