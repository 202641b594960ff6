"""Judgement: a verdict with its reasons, made from named checks in one place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

Verdict = Literal["pass", "unproven", "fail", "not run", "not built"]
ReasonKind = Literal[
    "labels",  # the data set's labels differ from the reference's
    "logits",  # a logit is not finite, or differs by more than its precision allows
    "decisions",  # decisions changed by more than is allowed
    "drop",  # mAP dropped by more than is allowed
    "decode",  # a stored picture's pixels are decoded otherwise
    "resize",  # they are resized otherwise
    "pictures",  # the bundle has no stored pictures to show it
    "interval",  # what was measured is allowed, but its interval exceeds what is allowed
    "slower",  # it is slower than the engine it is compared with
    "latency",  # it is slower than the person's own limit
    "machine",  # it cannot run on this machine
    "build",  # it cannot be built on this machine
    "model",  # its runtime refuses the model
]
"""What a reason is about."""
_VERDICTS: dict[ReasonKind, Verdict] = {
    "pictures": "unproven",
    "interval": "unproven",
    "machine": "not run",
    "build": "not built",
}
_SEVERITY: tuple[Verdict, ...] = ("pass", "unproven", "fail", "not run", "not built")


class Reason(BaseModel):
    """A reason why something did not pass."""

    model_config = ConfigDict(frozen=True)

    kind: ReasonKind
    text: str
    """One sentence for people; programs read `kind`."""

    @property
    def verdict(self) -> Verdict:
        """The verdict that this reason alone leads to."""
        return _VERDICTS.get(self.kind, "fail")

    def __str__(self) -> str:
        return self.text


class Judgement(BaseModel):
    """A verdict and everything that speaks against a pass; a pass has no reason."""

    model_config = ConfigDict(frozen=True)

    verdict: Verdict
    reasons: tuple[Reason, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: the verdict, its text for people, and the same reasons for programs."""
        kinds = [reason.kind for reason in self.reasons]
        return {"verdict": self.verdict, "reasons": [reason.text for reason in self.reasons], "reason_kinds": kinds}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Judgement:
        """Read what `as_dict` wrote, among other keys.

        Raises:
            ValidationError: it is something else; pydantic names the first mistake.
        """
        found = _Written.model_validate(record)
        reasons = zip(found.reason_kinds, found.reasons, strict=True)
        return cls(verdict=found.verdict, reasons=tuple(Reason(kind=kind, text=text) for kind, text in reasons))


class _Written(BaseModel):
    """A judgement as `Judgement.as_dict` writes it."""

    verdict: Verdict
    reasons: tuple[str, ...]
    reason_kinds: tuple[ReasonKind, ...]

    @model_validator(mode="after")
    def _a_kind_each(self) -> _Written:
        if len(self.reasons) != len(self.reason_kinds):
            raise ValueError(f"{len(self.reasons)} reasons and {len(self.reason_kinds)} kinds; expected as many")
        return self


class NotRun(BaseModel):
    """An engine that a machine cannot run, as verbs write it."""

    model_config = ConfigDict(frozen=True)

    engine: str
    verdict: Literal["not run"] = "not run"
    reasons: tuple[str, ...]

    @property
    def judgement(self) -> Judgement:
        return judge(Reason(kind="machine", text=text) for text in self.reasons)


def judge(checks: Iterable[Reason | None]) -> Judgement:
    """Make the verdict on all checks; a check that passed is None.

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
