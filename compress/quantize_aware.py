"""quantize_aware: fine-tunes a finished student as its INT8 graph computes, with the terms it was trained with."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from edgepress.compress.checkpoint import load_model
from edgepress.compress.config import DistillConfig, QuantizeAwareConfig
from edgepress.compress.distill import (
    answers_of,
    finished,
    require_no_teacher,
    saved,
    work_of,
)
from edgepress.compress.fake_quantize import FakeQuantizedModel
from edgepress.compress.lesson import lesson_of
from edgepress.compress.material import Material, material_for
from edgepress.compress.methods import NOT_FINETUNED, TERMS
from edgepress.compress.models import MultiLabelModel, fuse
from edgepress.compress.reading import Reading, TeacherSource
from edgepress.compress.teachable import require_teachable
from edgepress.compress.training import evaluate, fit, make_accelerator, memory_told
from edgepress.multilabel.bundle import Bundle, inputs_hash
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.durable import make_folder
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.facts import Evaluated, Facts, QuantizeAware

log = logging.getLogger("edgepress")
MLD_INSTEAD = 4.0
"""Weight of MLD for a student all of whose terms fine-tuning leaves out."""


def quantize_aware(
    train: MultiLabelDataset,
    val: MultiLabelDataset,
    teacher: TeacherSource | None,
    student: Bundle,
    config: QuantizeAwareConfig,
    out: Path,
    cache: Path | None = None,
    ensemble: Sequence[TeacherSource] = (),
    reading: Reading | None = None,
) -> Bundle:
    """Fine-tune a student with fake-quantised weights and activations; saves a bundle of kind torch in `out`.

    After Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
    CVPR 2018 (arXiv 1712.05877). The bundle is an ordinary float student, exported and quantised like any other; its
    epoch is the one with the best fake-quantised val mAP. Branches that are fused on export are fused at the start.

    Args:
        teacher: None if the student learnt alone.
        student: its architecture, preprocessing and training terms are used.
        cache, ensemble, reading: as for `distill`; by default the answers that were kept for the student.

    Raises:
        InputError: labels differ, or the student does not say how it was trained; see also `distill`.
    """
    teachers = (teacher, *ensemble) if teacher is not None else ()
    terms = lesson_again(student, config)
    if cache is None and answers_of(student.path).is_dir():  # its pictures are those of the student's first epochs
        cache = answers_of(student.path)
    material = _material(train, val, teachers, student, terms, out, reading or Reading())
    made_from = {"role": "quantize-aware", "student": student.digest, "pictures": config.pictures}
    inputs = inputs_hash({**made_from, **material.identity(terms)})
    if (kept := finished(out, inputs, terms)) is not None:
        return kept
    set_seed(terms.seed)
    accelerator = make_accelerator(terms)
    model = fuse(load_model(student.path)).to(accelerator.device)
    model.label_wise = terms.compares_embeddings
    make_folder(work_of(out))
    with memory_told(terms, accelerator.device):
        lesson = lesson_of(terms, material, model, cache, accelerator)
        quantized = FakeQuantizedModel(model)
        _observe(quantized, material.train, config.pictures, terms.seed)
        before = _both("before", model, quantized, material.val, terms, accelerator)
        given = {"inputs": inputs, "accelerator": accelerator, **lesson.views}
        result = fit(quantized, lesson.task, material.train, material.val, terms, work_of(out), **given)
        after = _both("after", model, quantized, material.val, terms, accelerator)
    if after.fake_quantized_val_mAP < before.fake_quantized_val_mAP:
        log.warning("the fine-tuned student is the worse one in INT8: keep %s, or lower lr", student.path)
    facts = Facts(
        role="student",
        weights=f"fine-tuned from {student.name}, quantisation-aware",
        **material.facts,
        **lesson.facts,
        val_mAP=after.val_mAP,
        quantize_aware=QuantizeAware(config=config.model_dump(mode="json"), before=before, after=after),
        **result.facts,
        training=terms.model_dump(mode="json"),
    )
    return saved(model, out, accelerator, inputs=inputs, facts=facts, parent=student.as_parent, groups=train.groups)


def _material(
    train: MultiLabelDataset,
    val: MultiLabelDataset,
    teachers: tuple[TeacherSource, ...],
    student: Bundle,
    terms: DistillConfig,
    out: Path,
    reading: Reading,
) -> Material:
    """As `material_for`, with what a finished student asks of its teachers, its data and its new folder."""
    if not teachers:
        require_no_teacher(terms)
    require_teachable(terms, teachers, reading.features)
    if student.path.resolve() == out.resolve():
        raise InputError(f"{out}: is the student itself; name another folder for the fine-tuned one")
    train = train.in_order_of(student.labels, f"the student {student.path}", f"the data set {train.root}")
    return material_for("student", train, val, terms, out, teachers, reading)


def lesson_again(student: Bundle, config: QuantizeAwareConfig) -> DistillConfig:
    """Read how a student was trained, with the changes that fine-tuning needs.

    The terms of `NOT_FINETUNED` are left out; if there were no others, MLD replaces them.

    Raises:
        InputError: the bundle does not say how, or in a form that this version cannot read.
    """
    known = student.manifest.facts.training
    if known is None:
        raise InputError(f"{student.path}: does not say how it was trained; expected a bundle that distill made")
    trained = DistillConfig.parse(known, f"{student.path}, facts.training")
    left_out = {name: 0.0 for name in NOT_FINETUNED if getattr(trained, name)}
    if trained.auxiliary != "none":  # the second head stayed behind
        left_out[trained.auxiliary] = 0.0
    if trained.taught and not any(getattr(trained, name) for name in set(TERMS) - left_out.keys()):
        left_out["mld"] = MLD_INSTEAD
    changes: dict[str, Any] = {
        **left_out,
        "epochs": config.epochs,
        "stop_epoch": None,
        "backbone_lr_scale": 1.0,  # weights and ranges of the whole student are fitted to each other
        "lr": config.lr or trained.lr / 10,
        "workers": config.workers,
        "seed": trained.seed if config.seed is None else config.seed,
        "inherit_head": "no",  # the student has its own head
        "auxiliary": "none",
        "mixup": 0.0,  # an INT8 graph takes bytes
        "torch_compile": False,  # operations are intercepted one by one
    }
    return DistillConfig.parse({**trained.model_dump(), **changes}, "fine-tuning")


def _observe(model: FakeQuantizedModel, train: MultiLabelDataset, pictures: int, seed: int) -> None:
    """Measure ranges on training pictures as a device sees them, without augmentation."""
    places = np.random.default_rng(seed).permutation(len(train))[:pictures]
    for start in range(0, len(places), _AT_ONCE):
        images = np.stack([model.preprocess(train.picture(place)) for place in places[start : start + _AT_ONCE]])
        model.observe(torch.from_numpy(images).to(model.mean.device))


_AT_ONCE = 32
"""Number of pictures whose ranges are measured in one pass."""


def _both(
    when: str,
    model: MultiLabelModel,
    quantized: FakeQuantizedModel,
    val: MultiLabelDataset,
    terms: DistillConfig,
    accelerator: Accelerator,
) -> Evaluated:
    found = Evaluated(
        val_mAP=evaluate(model, val, terms, accelerator),
        fake_quantized_val_mAP=evaluate(quantized, val, terms, accelerator),
    )
    log.info("%s: val mAP %.2f, fake-quantised %.2f", when, 100 * found.val_mAP, 100 * found.fake_quantized_val_mAP)
    return found
