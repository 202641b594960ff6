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


def _near(name: str, number: str) -> str:
    """The goal that was probably meant by another word, for a message; nothing where the word is one of them."""
    near = [] if name in _NAMES else difflib.get_close_matches(name.lower(), _NAMES, n=1)
    return f"; did you mean {near[0]}{'=' if number else ''}{number}?" if near else ""


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
            InputError: the text has another form, or a number is out of its range; says what was expected.
        """
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
            raise InputError(f"received {text!r}{_near(name, number)}; expected {FORMS}")
        return cls(name, value)

    @classmethod
    def _promised(cls, text: str) -> Criterion:
        found = re.fullmatch(r"(recall|precision|fpr)=([0-9.eE+-]+)@([0-9.]+)%(?::(each|all))?", text)
        try:
            level, percent = (float(found[2]), float(found[3])) if found else (-1.0, -1.0)
        except ValueError:
            found = None
        name, _, number = text.partition("=")
        if found is None:
            raise InputError(
                f"received {text!r}{_near(name, number)}; expected KIND=LEVEL@CONFIDENCE%, such as recall=0.9@95%, "
                "precision=0.8@90% or fpr=0.01@95%, and with :all at its end for all labels at once"
            )
        if not 0 < level < 1:
            raise InputError(
                f"received {text!r}; a {found[1]} that is promised lies between 0 and 1, without "
                "both, because no number of pictures shows that an error never happens"
            )
        if not 50 <= percent < 100:
            raise InputError(f"received {text!r}; expected a confidence from 50 % to below 100 %, such as @95%")
        kind: PromiseKind = found[1]  # type: ignore[assignment]
        return cls(kind, level, Wanted(kind, level, percent / 100, "all" if found[4] == "all" else "each"))
