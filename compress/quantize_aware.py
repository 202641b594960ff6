"""quantize_aware: fine-tunes a finished student as its INT8 graph computes, with the terms it was trained with."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import set_seed

from edgepress.compress.checkpoint import load_model, write_model
from edgepress.compress.config import PROJECTED, TERMS, DistillConfig, QuantizeAwareConfig
from edgepress.compress.distill import (
    finished,
    lesson_of,
    require_no_teacher,
    require_trainable,
    unlabelled_of,
    work_of,
)
from edgepress.compress.fake_quantize import FakeQuantizedModel
from edgepress.compress.gather import process_state
from edgepress.compress.models import MultiLabelModel, fuse
from edgepress.compress.tasks import DistillTask
from edgepress.compress.training import evaluate, fit, make_accelerator, memory_told
from edgepress.multilabel.bundle import Bundle, inputs_hash
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.durable import make_folder
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.metrics import prevalence

log = logging.getLogger("edgepress")
MLD_INSTEAD = 4.0
"""Weight of MLD for a student that had only terms which fine-tuning leaves out."""


def quantize_aware(
    train: MultiLabelDataset,
    val: MultiLabelDataset,
    teacher: Bundle | None,
    student: Bundle,
    config: QuantizeAwareConfig,
    out: Path,
    cache: Path | None = None,
    ensemble: Sequence[Bundle] = (),
) -> Bundle:
    """Fine-tune a student with fake-quantised weights and activations; saves a bundle of kind torch in `out`.

    After Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
    CVPR 2018 (arXiv 1712.05877). The bundle is an ordinary float student, exported and quantised like any other; its
    epoch is the one with the best fake-quantised val mAP. Branches that are fused on export are fused at the start.

    Args:
        teacher: None if the student learnt alone.
        student: its architecture, preprocessing and training terms are used.
        cache: as for `distill`.
        ensemble: further teachers, which answer together with the first.

    Raises:
        InputError: labels differ, or the student does not say how it was trained; see also `distill`.
    """
    teachers = (teacher, *ensemble) if teacher is not None else ()
    lesson = lesson_again(student, config)
    if teacher is None:
        require_no_teacher(lesson)
    if student.path.resolve() == out.resolve():
        raise InputError(f"{out}: is the student itself; name another folder for the fine-tuned one")
    student.labels.require_equal(train.labels, f"the student {student.path}", f"the data set {train.root}")
    require_trainable("student", train, val, out, teachers)
    unlabelled = unlabelled_of(lesson, val)
    inputs = inputs_hash(
        {
            "role": "quantize-aware",
            "student": student.digest,
            "config": lesson.model_dump(mode="json", exclude={"workers", "weights", "unlabelled"}),
            "pictures": config.pictures,
            "unlabelled": unlabelled.fingerprint() if unlabelled else None,
            "train": train.fingerprint(),
            "val": val.fingerprint(),
            "teachers": [teacher.digest for teacher in teachers],
            "processes": process_state().num_processes,
        }
    )
    work = work_of(out)
    kept = finished(out, inputs)
    if kept is not None:
        return kept
    set_seed(lesson.seed)
    accelerator = make_accelerator(lesson)
    model = fuse(load_model(student.path)).to(accelerator.device)
    make_folder(work)
    with memory_told(lesson, accelerator.device):
        views: dict[str, Any] = {}
        known: float | None = None
        if teachers:
            task, views, known = lesson_of(lesson, teachers, model, train, val, unlabelled, cache, accelerator)
            del views["inherited"]
        else:
            task = DistillTask(lesson, None, model, train)
        quantized = FakeQuantizedModel(model)
        _observe(quantized, train, config.pictures, lesson.seed)
        before = _both(model, quantized, val, lesson, accelerator)
        log.info("before: val mAP %.2f, fake-quantised %.2f", *(100 * value for value in before.values()))
        result = fit(quantized, task, train, val, lesson, work, inputs=inputs, accelerator=accelerator, **views)
        after = _both(model, quantized, val, lesson, accelerator)
    log.info("after: val mAP %.2f, fake-quantised %.2f", *(100 * value for value in after.values()))
    if after["fake_quantized_val_mAP"] < before["fake_quantized_val_mAP"]:
        log.warning("the fine-tuned student is the worse one in INT8: keep %s, or lower lr", student.path)
    if accelerator.is_main_process:
        facts = {
            "role": "student",
            "weights": f"fine-tuned from {student.name}, quantisation-aware",
            "pictures": len(train),
            "unlabelled_pictures": len(unlabelled) if unlabelled else 0,
            "teachers": [teacher.as_parent.model_dump() for teacher in teachers],
            "teacher_val_mAP": known,
            "val_prevalence": prevalence(val.targets, val.ignore),
            "val_mAP": after["val_mAP"],
            "quantize_aware": {"config": config.model_dump(mode="json"), "before": before, "after": after},
            "best_epoch": result.best_epoch + 1,
            "history": result.history,
            "training": lesson.model_dump(mode="json"),
        }
        write_model(model, out, inputs=inputs, facts=facts, parent=student.as_parent, tensorboard=work / "tensorboard")
        shutil.rmtree(work)
    accelerator.wait_for_everyone()
    return Bundle.open(out)


def lesson_again(student: Bundle, config: QuantizeAwareConfig) -> DistillConfig:
    """Read how a student was trained, with the changes that fine-tuning needs.

    Terms whose projections were trained beside the student are left out; if there were no others, MLD replaces them.

    Raises:
        InputError: the bundle does not say how, or in a form that this version cannot read.
    """
    known = student.manifest.facts.get("training")
    if known is None:
        raise InputError(f"{student.path}: does not say how it was trained; expected a bundle that distill made")
    trained = DistillConfig.parse(known, f"{student.path}, facts.training")
    # A projection was trained with the student and is not in its bundle: it would start random, and teach noise.
    projected = {name: 0.0 for name in PROJECTED if getattr(trained, name)}
    if trained.taught and not any(getattr(trained, name) for name in set(TERMS) - projected.keys()):
        projected["mld"] = MLD_INSTEAD
    changes: dict[str, Any] = {
        **projected,
        "epochs": config.epochs,
        "lr": config.lr or trained.lr / 10,
        "workers": config.workers,
        "seed": trained.seed if config.seed is None else config.seed,
        "inherit_head": "no",  # the student has its own head
        "torch_compile": False,  # operations are intercepted one by one
    }
    return DistillConfig.parse({**trained.model_dump(), **changes}, "flags")


def _observe(model: FakeQuantizedModel, train: MultiLabelDataset, pictures: int, seed: int) -> None:
    """Measure ranges on training pictures as a device sees them, without augmentation."""
    places = np.random.default_rng(seed).permutation(len(train))[:pictures]
    for start in range(0, len(places), _AT_ONCE):
        images = np.stack([model.preprocess(train.picture(place)) for place in places[start : start + _AT_ONCE]])
        model.observe(torch.from_numpy(images).to(model.mean.device))


_AT_ONCE = 32
"""Number of pictures whose ranges are measured in one pass."""


def _both(
    model: MultiLabelModel, quantized: FakeQuantizedModel, val: MultiLabelDataset, lesson: DistillConfig, accelerator
) -> dict[str, float]:
    return {
        "val_mAP": evaluate(model, val, lesson, accelerator),
        "fake_quantized_val_mAP": evaluate(quantized, val, lesson, accelerator),
    }
