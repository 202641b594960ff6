"""LabelSpace: the ordered names of the columns of logits, targets and masks."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, KeysView, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import AfterValidator

from edgepress.multilabel.errors import InputError, as_path, did_you_mean, shown

_COMMENT = re.compile(r"\s*(#[\s#]|#$|//)")


def one_form(name: str) -> str:
    """A name in Unicode's composed form (NFC).

    Letters with marks have two forms that look the same: macOS writes file names in the decomposed form, and most
    editors write the composed form. Names are compared and kept in the composed form.
    """
    return unicodedata.normalize("NFC", name)


LabelName = Annotated[str, AfterValidator(one_form)]
"""A name in a file that pydantic reads."""


@dataclass(frozen=True)
class LabelSpace:
    """Ordered, unique label names, in `one_form`; column c of every `[N, C]` array belongs to `names[c]`.

    Raises:
        InputError: a set or a mapping, no name, an empty name, a name with a line break, or a name that occurs twice.
    """

    names: tuple[str, ...]
    _index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.names, str) or not isinstance(self.names, Iterable):
            raise InputError(f"labels are {self.names!r}; expected a list of names")
        # A set has no order, and a mapping may number its names otherwise; its keys are a set with an order.
        if isinstance(self.names, Set | Mapping) and not isinstance(self.names, KeysView):
            raise InputError(f"labels are a {type(self.names).__name__}; expected a list of names in their order")
        names = tuple(one_form(name) if isinstance(name, str) else name for name in self.names)
        object.__setattr__(self, "names", names)
        if not self.names:
            raise InputError("no labels: expected at least one label name")
        index: dict[str, int] = {}
        for position, name in enumerate(self.names):
            if not isinstance(name, str) or not name.strip() or name != name.strip() or len(name.splitlines()) != 1:
                raise InputError(f"label {position + 1} is {name!r}: expected a name on one line, without outer spaces")
            if name in index:
                raise InputError(f"label {name!r} occurs twice (as number {index[name] + 1} and {position + 1})")
            index[name] = position
        object.__setattr__(self, "_index", index)

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self):
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and one_form(name) in self._index

    @classmethod
    def from_file(cls, path: str | Path) -> LabelSpace:
        """Read one name per line; empty lines are skipped.

        Raises:
            InputError: the file cannot be read, a line looks like a comment, or names are refused as in `LabelSpace`.
        """
        path = as_path(path, "the file of labels")
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); expected label names, one a line") from None
        except UnicodeDecodeError:
            raise InputError(f"{path}: not UTF-8 text; expected the label names, one a line") from None
        for number, line in enumerate(lines, start=1):
            if _COMMENT.match(line):
                raise InputError(
                    f"{path}, line {number}: {line.strip()[:40]!r} looks like a comment; expected label names alone, "
                    "one a line"
                )
        try:
            return cls(tuple(line.strip() for line in lines if line.strip()))
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    def index(self, name: str) -> int:
        """Return the column of a label."""
        try:
            return self._index[one_form(name)]
        except (KeyError, TypeError):
            raise InputError(
                f"unknown label {name!r}: expected one of {shown(self.names)}{did_you_mean(str(name), self.names)}"
            ) from None

    def encode(self, names: Iterable[str]) -> np.ndarray:
        """Turn names into a multi-hot uint8 row `[C]`.

        Raises:
            InputError: a name is unknown, or one text is given in place of several.
        """
        if isinstance(names, str):
            raise InputError(f"names of labels are {names!r}; expected a list of names")
        row = np.zeros(len(self), dtype=np.uint8)
        for name in names:
            row[self.index(name)] = 1
        return row

    def require_equal(self, other: LabelSpace, mine: str, others: str, *, remedy: str = "") -> None:
        """Raise an error unless both have the same names in the same order.

        Args:
            remedy: what to do where only the order differs, at the end of the message.

        Raises:
            InputError: they differ; the message names the two owners and the first difference.
        """
        if self.names == other.names:
            return
        only_mine = [name for name in self.names if name not in other]
        only_others = [name for name in other.names if name not in self]
        if only_mine or only_others:
            what = f"only in {mine}: {shown(only_mine)}; only in {others}: {shown(only_others)}"
        else:
            at = next(i for i, (a, b) in enumerate(zip(self.names, other.names, strict=True)) if a != b)
            what = f"same names, other order, first at {at + 1}: {self.names[at]!r} against {other.names[at]!r}"
            what += f": {remedy}" if remedy else ""
        raise InputError(f"labels of {mine} ({len(self)}) and {others} ({len(other)}) differ: {what}")
