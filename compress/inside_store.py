"""Whether what lies inside a teacher is kept on the disk, or the teacher runs beside the student instead."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace

from edgepress.compress.config import DistillConfig
from edgepress.compress.keep import Keep
from edgepress.compress.kept import AnswerStore
from edgepress.compress.kept_inside import Inside
from edgepress.compress.models import MultiLabelModel
from edgepress.compress.training import augmentation_of
from edgepress.multilabel.durable import make_folder
from edgepress.multilabel.plural import plural

log = logging.getLogger("edgepress")


def with_inside(
    store: AnswerStore,
    config: DistillConfig,
    keep: Keep,
    pictures: int,
    student: MultiLabelModel,
    size: int,
    *,
    embeddings: bool,
) -> AnswerStore | None:
    """The store with what lies inside the teacher; None where this student learns without it.

    The teacher then runs beside a student that looks inside it. That is where pictures are not repeated, on a GPU,
    which is taken to compute a teacher's inside faster than a disk reads it (not run on a GPU), and where it would take
    more than half of what is free on the disk. The last is told. A student that learns from answers alone takes them
    from this store where it is complete, because another student filled it: the teacher need not answer again.

    Args:
        keep: what this student and others need.
        pictures: number of those that the student learns from.
        size: side at which pictures are augmented.
        embeddings: whether label-wise embeddings are kept as well.
    """
    if config.variations is None or store.device.type != "cpu":
        return None
    inside = Inside(store.model, keep, student)
    augmentation = augmentation_of(config, student.preprocess.interpolation)
    variations = min(config.variations, config.epochs_trained)
    found = replace(store, inside=inside)
    files = [found.files(augmentation, size, epoch, embeddings=embeddings) for epoch in range(variations)]
    lacking = max(0, variations * pictures - sum(len(one) for one in files)) * 2 * inside.width
    if not config.looks_inside:
        if lacking:
            inside.close()
        return None if lacking else found
    make_folder(store.folder)
    free = shutil.disk_usage(store.folder).free
    told = f"{_megabytes(lacking)} for {plural(variations, 'variation')} of {plural(pictures, 'picture')}"
    if lacking > free / 2:
        log.warning(
            "the teacher runs beside the student, because what lies inside it would take %s, and %s are free in %s",
            *(told, _megabytes(free), store.folder),
        )
        inside.close()
        return None
    if lacking:
        log.info("what lies inside the teacher is kept as well: %s", told)
    return found


def _megabytes(count: int) -> str:
    return f"{max(1, round(count / 1e6)):,} MB"
