"""Where INT8 misses its budget: the student is fine-tuned as its INT8 graph computes, and quantised again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgepress.compress.config import QuantizeAwareConfig
from edgepress.deploy.build.reference import REFERENCE, Reference
from edgepress.deploy.verify.confidence import Scored, doubt, drop_interval
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.metrics import mean_average_precision
from edgepress.run.quantize import Splits

FINETUNED = "-finetuned"
"""Ends the names of bundles that come from the fine-tuned student."""
log = logging.getLogger("edgepress")


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """What it takes to fine-tune the student of a run; it is done once, for every target that misses its budget."""

    student: Bundle
    teachers: Sequence[Bundle]
    """Empty where the student learnt alone."""
    splits: Splits
    config: QuantizeAwareConfig
    export: Callable[[Bundle, Path], Bundle]
    """A student to its fp32 ONNX bundle in a folder."""
    folder: Path
    """Of the run."""
    processes: int = 1
    """Of this launch; of several, only the first is still here after the training."""

    def onnx(self) -> Bundle:
        """The fp32 ONNX bundle of the fine-tuned student; kept while nothing that it was made from changes.

        Raises:
            InputError: see `compress.quantize_aware`.
        """
        from edgepress.compress.quantize_aware import quantize_aware

        first, others = (self.teachers[0], self.teachers[1:]) if self.teachers else (None, ())
        tuned = quantize_aware(
            self.splits.train,
            self.splits.val,
            first,
            self.student,
            self.config,
            self.folder / f"student{FINETUNED}",
            ensemble=others,
        )
        return self.export(tuned, self.folder / f"onnx-fp32{FINETUNED}")


def within_budget(build: Callable[[Bundle, str], Bundle], onnx: Bundle, tuning: FineTuning) -> Bundle:
    """An engine of the student, or where it is INT8 and misses its budget on val, the better of that and the engine of
    the fine-tuned student.

    Args:
        build: an fp32 ONNX bundle, and what to end the name of what is made with, to an engine's bundle.
        onnx: of the student.

    Raises:
        InputError, EngineUnavailableError: as `build`.
    """
    made = build(onnx, "")
    if not missed(made):
        return made
    if tuning.processes > 1:
        log.warning("%s: misses its budget; the same run in one process fine-tunes the student for it", made.name)
        return made
    log.info("%s: misses its budget on val; fine-tuning the student as INT8 computes", made.name)
    try:
        again = build(tuning.onnx(), FINETUNED)
    except InputError as error:  # what was made is still an engine, and is verified as any other
        log.warning("%s: stays as it is, for the student could not be fine-tuned: %s", made.name, error)
        return made
    before, after = _val_map(made), _val_map(again)
    log.info("%s: val mAP %.2f, of the fine-tuned student %.2f", made.name, 100 * before, 100 * after)
    return again if after > before else made


def missed(bundle: Bundle) -> bool:
    """Whether an INT8 bundle loses more of val mAP than it was quantised to lose."""
    known = bundle.manifest.calibration
    if known is None or known.budget is None or known.val_mAP_float is None:
        return False
    return 100 * (known.val_mAP_float - _val_map(bundle)) > known.budget


def held_to_student(
    bundle: Bundle, row: dict[str, Any], logits: np.ndarray, onnx: Bundle, test: MultiLabelDataset
) -> dict[str, Any]:
    """A verified row of the report; of an engine of the fine-tuned student, which was verified against that one, with
    the drop from the student itself, for which it stands. The verdict is `fail` where that is over the budget, and
    `unproven` where only the end of its interval is, as `verify` has it.

    Args:
        logits: the engine's, finite, `[N, C]` in the order of the pictures and labels of test.
        onnx: of the student; its reference holds what the student says of the same pictures.
    """
    if not bundle.name.endswith(FINETUNED):
        return row
    student = Scored(test.targets, Reference.load(onnx.path / REFERENCE).logits, test.ignore)
    engine = student._replace(scores=logits)
    drop = 100 * (mean_average_precision(*student) - mean_average_precision(*engine))
    interval, budget = drop_interval(student, engine), row["budget_points"]
    row = {**row, "finetuned": True, "bundle": bundle.name}
    row |= {"student_drop_points": drop, "student_drop_interval": interval}
    unproven, below = doubt(interval, budget, len(test)), f"mAP is {drop:.2f} points below the student's own"
    if drop > budget:
        reason = f"{below}; the budget is {budget:g}"
        row |= {"verdict": "fail", "reasons": [*row["reasons"], reason]}
    elif unproven is not None:
        verdict = "unproven" if row["verdict"] == "pass" else row["verdict"]
        row |= {"verdict": verdict, "reasons": [*row["reasons"], f"{below}, but {unproven}"]}
    return row


def _val_map(bundle: Bundle) -> float:
    known = bundle.manifest.calibration
    assert known is not None
    assert known.val_mAP is not None, "quantize records it"
    return known.val_mAP
