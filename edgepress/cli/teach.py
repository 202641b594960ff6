"""teach: fine-tune a large model on the labels."""

from __future__ import annotations

from typing import Annotated

from edgepress.cli.flags import Flags, FlagsOf
from edgepress.cli.options import DataArgument, DataFlags, Out, Train, Val, print_path
from edgepress.compress.config import TeachConfig
from edgepress.multilabel.config import FLAGS
from edgepress.multilabel.datasets import refuse_leaks
from edgepress.multilabel.lock import only_writer

TRAINING = (
    "backbone",
    "size",
    "width",
    "epochs",
    "batch-size",
    "lr",
    "task-loss",
    "weights",
    "mixed-precision",
    "workers",
)


def verb(
    data: DataArgument,
    out: Out,
    reader: DataFlags,
    train: Train = "train",
    val: Val = "val",
    *,
    flags: Annotated[Flags, FlagsOf(TeachConfig, TRAINING)],
) -> None:
    """Fine-tune a large model on the labels: the teacher."""
    config = TeachConfig.parse(flags, FLAGS)
    from edgepress.compress.distill import require_obtainable, require_pretrained, teach

    require_obtainable(config)
    learnt, chosen = reader.checked(data, train, val, before_pictures=lambda: require_pretrained(config, [out]))
    refuse_leaks(learnt, [chosen])
    with only_writer(out):
        print_path(teach(learnt, chosen, config, out))
