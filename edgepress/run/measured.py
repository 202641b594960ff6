"""What a student of a comparison is worth on test, with decisions that were fitted on val."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgepress.calibration.decide.label_scores import label_f1
from edgepress.calibration.decide.thresholds import fit_decisions
from edgepress.compress.config import DistillConfig
from edgepress.multilabel.bundle import Bundle, inputs_hash, write_atomically
from edgepress.multilabel.confidence import resample_counts, resampled_mean_average_precision
from edgepress.multilabel.frequency import thirds
from edgepress.multilabel.metrics import average_precision, decide, f1_scores, sigmoid
from edgepress.run.compared import ComparedStudent, Decided
from edgepress.run.search_space import Settings
from edgepress.run.splits import Splits

RESAMPLES = 1000
LEAST_LABELS = 6
"""Fewer labels have no head, middle and tail."""


def measure(
    student: Bundle, method: str, seed: int, splits: Splits, settings: Settings, folder: Path
) -> ComparedStudent:
    """Read val for the thresholds and test for the result; the resampled mAP is kept in a folder.

    Args:
        settings: what trials chose.
        folder: for `resampled`.
    """
    from edgepress.compress.checkpoint import load_model
    from edgepress.compress.training import make_accelerator, predict_logits

    facts = student.manifest.facts
    assert facts.training is not None
    assert facts.val_mAP is not None
    assert facts.best_epoch is not None
    config = DistillConfig.parse(facts.training, f"{student.path}, training")
    accelerator = make_accelerator(config)
    model = load_model(student.path).to(accelerator.device)
    fitted, logits = (predict_logits(model, split, config, accelerator) for split in (splits.val, splits.test))
    test = splits.test
    scores = test.scores(np.asarray(logits))
    precisions = average_precision(test.targets, scores, test.ignore)
    decided = fit_decisions(fitted, splits.val).decide(logits)
    at_half = decide(sigmoid(np.asarray(scores, np.float64)))
    own, half = (f1_scores(test.targets, decisions, test.ignore) for decisions in (decided, at_half))
    resampled(student.digest, splits, folder, scores)
    parts = thirds(test.targets, test.ignore, LEAST_LABELS)
    return ComparedStudent(
        method=method,
        seed=seed,
        val_mAP=facts.val_mAP,
        best_epoch=facts.best_epoch,
        test_mAP=float(np.nanmean(precisions)),
        by_frequency=tuple(float(precisions[third.columns].mean()) for third in parts),
        decided=Decided(OF1=own.OF1, CF1=own.CF1, OF1_at_half=half.OF1, CF1_at_half=half.CF1),
        AP=_known(precisions),
        F1=_known(label_f1(test.targets, decided, test.ignore)),
        seconds=sum(epoch.seconds for epoch in facts.history),
        teacher_val_mAP=facts.teacher_val_mAP,
        training=config,
        settings=settings,
        digest=student.digest,
    )


def resampled(digest: str, splits: Splits, folder: Path, scores: np.ndarray | None = None) -> np.ndarray | None:
    """A student's test mAP in points in every resample of the test pictures, float64 `[R]`; None where it is not known.

    Args:
        digest: the student's.
        scores: float `[N, C]`, from which it is computed where it is not kept yet.
    """
    test = splits.test
    name = inputs_hash({"student": digest, "test": test.fingerprint(), "resamples": RESAMPLES})[:32]
    file = folder / f"{name}.f8"
    if file.is_file() and file.stat().st_size == 8 * RESAMPLES:
        return np.fromfile(file, "<f8")
    if scores is None:
        return None
    counts = resample_counts(len(test), RESAMPLES)
    found = 100 * resampled_mean_average_precision(test.targets, scores, test.ignore, counts)
    write_atomically(file, found.astype("<f8").tobytes())
    return found


def _known(values: np.ndarray) -> tuple[float | None, ...]:
    return tuple(None if np.isnan(value) else float(value) for value in values)
