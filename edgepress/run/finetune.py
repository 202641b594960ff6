"""If INT8 loses more than is allowed, the student is fine-tuned as its INT8 graph computes, and quantised again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from edgepress.compress.config import QuantizeAwareConfig
from edgepress.compress.reading import Reading, TeacherSource
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import DisconnectedError, InputError
from edgepress.run.judge import missed_on_val
from edgepress.run.splits import Splits

FINETUNED = "-finetuned"
"""Suffix for the names of bundles that come from the fine-tuned student."""
log = logging.getLogger("edgepress")


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """What is needed to fine-tune the student of a run, once for all targets that lose more than is allowed."""

    student: Bundle
    teachers: Sequence[TeacherSource]
    """Empty where the student learnt alone."""
    reading: Reading
    splits: Splits
    config: QuantizeAwareConfig
    export: Callable[[Bundle, Path], Bundle]
    """Exports a student to its fp32 ONNX bundle in a folder."""
    folder: Path
    """Folder of the run."""
    processes: int = 1
    """Number of processes of this launch; only the first one goes on after the training."""

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
            reading=self.reading,
        )
        return self.export(tuned, self.folder / f"onnx-fp32{FINETUNED}")


def within_allowed(build: Callable[[Bundle, str], Bundle], onnx: Bundle, tuning: FineTuning) -> tuple[Bundle, bool]:
    """Build an engine of the student. If it is INT8 and loses more on val than is allowed, return the better of it and
    the engine of the fine-tuned student; also returns whether it is the latter.

    Args:
        build: makes an engine's bundle from an fp32 ONNX bundle and a suffix for the names of new bundles.
        onnx: the student's fp32 ONNX bundle.

    Raises:
        InputError, EngineUnavailableError, DisconnectedError: as `build`.
    """
    made = build(onnx, "")
    missed = missed_on_val(made.manifest.calibration)
    if missed is None:
        return made, False
    if tuning.processes > 1:
        log.warning("%s: %s; the same run in one process fine-tunes the student for it", made.name, missed)
        return made, False
    log.info("%s: %s; fine-tuning the student as INT8 computes", made.name, missed)
    try:
        again = build(tuning.onnx(), FINETUNED)
    except DisconnectedError:
        raise
    except InputError as error:  # the first engine is still valid, and is verified like any other
        log.warning("%s: stays as it is, for the student could not be fine-tuned: %s", made.name, error)
        return made, False
    before, after = _on_val(made), _on_val(again)
    log.info("%s: %s; of the fine-tuned student %s", made.name, before, after)
    return (again, True) if after.order < before.order else (made, False)


class _OnVal(NamedTuple):
    """What an INT8 engine reaches on val."""

    missed: bool
    beyond: float
    """Flips per predicted positive beyond those that are allowed."""
    mAP: float
    flips: float | None

    @property
    def order(self) -> tuple[bool, float, float]:
        """The better engine has the smaller one: what is allowed, then fewer flips beyond that, then the higher mAP."""
        return self.missed, self.beyond, -self.mAP

    def __str__(self) -> str:
        return f"val mAP {100 * self.mAP:.2f}" + ("" if self.flips is None else f", flips {self.flips:.3f}")


def _on_val(bundle: Bundle) -> _OnVal:
    known = bundle.manifest.calibration
    assert known is not None
    assert known.val_mAP is not None, "quantize records it"
    flips, allowed = known.val_flips, known.allowed_flips
    beyond = 0.0 if flips is None or allowed is None else max(flips - allowed, 0.0)
    return _OnVal(missed_on_val(known) is not None, beyond, known.val_mAP, flips)
