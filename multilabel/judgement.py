"""Judgement: a verdict with its reasons, made from named checks in one place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Verdict = Literal["pass", "unproven", "fail", "not run", "not built"]
Kind = Literal[
    "labels",  # the data set's labels are not the reference's
    "logits",  # a logit that is not finite, or differs beyond what its precision is allowed
    "decisions",  # too many decisions changed
    "drop",  # mAP dropped beyond what is allowed
    "interval",  # the drop is allowed, but its interval is not within it
    "slower",  # slower than what it is held to
    "latency",  # slower than the person's own limit
    "machine",  # cannot run on this machine
    "build",  # cannot be built on this machine
    "model",  # its runtime refuses the model
]
"""What a reason is about."""
_VERDICTS: dict[Kind, Verdict] = {"interval": "unproven", "machine": "not run", "build": "not built"}
_SEVERITY: tuple[Verdict, ...] = ("pass", "unproven", "fail", "not run", "not built")


class Reason(BaseModel):
    """Why something did not pass."""

    model_config = ConfigDict(frozen=True)

    kind: Kind
    text: str
    """One sentence for people; programs read `kind`."""

    @property
    def verdict(self) -> Verdict:
        """What this reason alone makes of the whole."""
        return _VERDICTS.get(self.kind, "fail")

    def __str__(self) -> str:
        return self.text


class Judgement(BaseModel):
    """A verdict and everything that speaks against a pass; a pass has no reason."""

    model_config = ConfigDict(frozen=True)

    verdict: Verdict
    reasons: tuple[Reason, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the verdict, what people read, and what programs read of the same reasons."""
        kinds = [reason.kind for reason in self.reasons]
        return {"verdict": self.verdict, "reasons": [reason.text for reason in self.reasons], "reason_kinds": kinds}


def judge(checks: Iterable[Reason | None]) -> Judgement:
    """The verdict on every check that was made; a check that passed is None.

    Args:
        checks: at least one is expected; the worst decides, in the order pass, unproven, fail, not run, not built.

    Example:
        >>> judge([None, Reason(kind="drop", text="mAP drops by 3.00 points; 1 is allowed")]).verdict
        'fail'
        >>> judge([None]).verdict
        'pass'
    """
    reasons = tuple(check for check in checks if check is not None)
    verdict = max((_SEVERITY[0], *(reason.verdict for reason in reasons)), key=_SEVERITY.index)
    return Judgement(verdict=verdict, reasons=reasons)
