"""The goal for which thresholds are chosen, as people write it: `f1`, `recall=0.9`, `recall=0.9@95%`."""

from __future__ import annotations

import difflib
import re
from typing import NamedTuple, get_args

from edgepress.calibration.decide.promises import Wanted
from edgepress.multilabel.decisions import PromiseKind
from edgepress.multilabel.errors import InputError

FORMS = (
    "f1, recall=R, precision=P or fixed=T, the number in (0, 1], or a promise: recall=R@C%, precision=P@C% or "
    "fpr=F@C%, such as recall=0.9@95%, or recall=0.9@95%:all for all labels at once"
)
"""Every form, for messages."""


_NAMES = ("recall", "precision", "fpr", "fixed", "f1")
_TYPED = re.compile(
    r"\s*(?P<name>[a-z_]*f1|[a-z_]*[a-z])[^\w-]*?(?P<number>\d*[.,]?\d+)?\s*(?P<percent>%)?"
    r"(?:\s*@\s*(?P<confidence>\d*[.,]?\d+)\s*%?)?(?:\s*:\s*(?P<scope>\w*))?\s*",
    re.IGNORECASE,
)
"""A goal as it may be mistyped: another word, another sign, a comma, a number in percent, no %."""


def _meant(text: str) -> str:
    """The end of a message about a goal: the one that was probably meant, both where there are two, or nothing."""
    typed = _TYPED.fullmatch(text)
    if typed is None:
        return ""
    word = typed["name"].lower()
    near = ["f1"] if word.endswith("f1") else difflib.get_close_matches(word, _NAMES, n=1)
    if not near or (typed["number"] is None and near != ["f1"]):
        return ""
    meant = [near[0]]
    if near[0] != "f1":
        meant = [f"{near[0]}={number:g}" for number in _shares(typed["number"].replace(",", "."), typed["percent"])]
    if near[0] not in ("f1", "fixed") and (typed["confidence"] or near[0] == "fpr"):
        confidence = float((typed["confidence"] or "95").replace(",", "."))
        promised = f"@{100 * confidence if confidence < 1 else confidence:g}%"
        promised += ":all" if difflib.get_close_matches(typed["scope"] or "", ["all"]) else ""
        meant = [one + promised for one in meant]
    try:
        for one in meant:
            Criterion._read(one)
    except InputError:
        return ""
    return f"; did you mean {' or '.join(map(repr, meant))}?" if text not in meant else ""


def _shares(typed: str, percent: str | None) -> list[float]:
    """The shares that a number may have been meant for: itself, in percent, or with its point left out."""
    number = float(typed)
    if percent or number <= 1:
        return [number / 100 if percent else number]
    return sorted({number / 100, number / 10 ** len(typed.partition(".")[0])})


class Criterion(NamedTuple):
    """The goal for which a threshold is chosen."""

    name: str
    value: float = 0.0
    promise: Wanted | None = None
    """What must hold on new pictures; None where what these pictures show is enough."""

    @classmethod
    def parse(cls, text: str) -> Criterion:
        """Read one of `FORMS`.

        Raises:
            InputError: the text has another form, or a number is out of its range; says what was expected and, where
                it can tell, what was meant.
        """
        try:
            return cls._read(text)
        except InputError as error:
            raise InputError(f"received {text!r}; {error}{_meant(text)}") from None

    @classmethod
    def _read(cls, text: str) -> Criterion:
        name, _, number = text.partition("=")
        if "@" in text or name in get_args(PromiseKind)[2:]:
            return cls._promised(text)
        if text == "f1":
            return cls("f1")
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if name not in ("recall", "precision", "fixed") or not (0 < value <= 1 or (name == "fixed" and value == 0)):
            raise InputError(f"expected {FORMS}")
        return cls(name, value)

    @classmethod
    def _promised(cls, text: str) -> Criterion:
        found = re.fullmatch(r"(recall|precision|fpr)=([0-9.eE+-]+)@([0-9.]+)%(?::(each|all))?", text)
        try:
            level, percent = (float(found[2]), float(found[3])) if found else (-1.0, -1.0)
        except ValueError:
            found = None
        if found is None:
            raise InputError(
                "expected KIND=LEVEL@CONFIDENCE%, such as recall=0.9@95%, precision=0.8@90% or fpr=0.01@95%, and with "
                ":all at its end for all labels at once"
            )
        if not 0 < level < 1:
            raise InputError(
                f"a {found[1]} that is promised lies between 0 and 1, without both, because no number of pictures "
                "shows that an error never happens"
            )
        if not 50 <= percent < 100:
            raise InputError("expected a confidence from 50 % to below 100 %, such as @95%")
        kind: PromiseKind = found[1]  # type: ignore[assignment]
        return cls(kind, level, Wanted(kind, level, percent / 100, "all" if found[4] == "all" else "each"))
