"""distill: train a small model on the labels and on the teacher's outputs."""

from __future__ import annotations

from typing import Annotated

from edgepress.cli.flags import Flags, FlagsOf
from edgepress.cli.options import DataArgument, Out, Reader, Teachers, Train, Val, print_path
from edgepress.cli.teach import TRAINING
from edgepress.compress.config import DistillConfig
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.datasets import refuse_leaks
from edgepress.multilabel.datasets.unlabelled import load_unlabelled
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.lock import only_writer

OFTEN = (*TRAINING, "preset", "mld", "review-kd", "unlabelled")


def verb(
    data: DataArgument,
    out: Out,
    reader: Reader,
    teacher: Teachers = None,
    train: Train = "train",
    val: Val = "val",
    *,
    flags: Annotated[Flags, FlagsOf(DistillConfig, OFTEN)],
) -> None:
    """Train a small model, the student, under the teacher.

    It learns from the labels and from what the teacher says.
    """
    config = DistillConfig.parse(flags, "flags")
    from edgepress.compress.distill import distill, require_no_teacher

    teachers = [Bundle.open(path) for path in teacher or ()]
    for one in teachers:
        if one.manifest.kind not in ("torch", "onnx"):
            raise InputError(f"{one.path}: a bundle of kind {one.manifest.kind}; expected a teacher, torch or onnx")
    if not teachers:
        require_no_teacher(config)
    learnt, chosen = reader.checked(data, train, val)
    refuse_leaks(learnt, [chosen])
    if config.unlabelled is not None:
        unlabelled = load_unlabelled(config.unlabelled, learnt.labels)
        measured = [name for name in reader.splits(data) if name != train]
        refuse_leaks(unlabelled, [reader.load(data, name) for name in measured])
    first = teachers[0] if teachers else None
    with only_writer(out):
        print_path(distill(learnt, chosen, first, config, out, ensemble=teachers[1:]))
