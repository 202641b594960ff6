"""What the cells of a table mean: the one place where a text becomes yes, no or unknown.

By itself 1, true, yes, y and t are yes; 0, false, no, n and f are no; an empty cell, nan and null are unknown, as is -1
in a table that also has a no. Numbers are compared as numbers, words in any case. `--values` replaces all of this.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from edgepress.multilabel.errors import InputError

Meaning = Literal["yes", "no", "unknown"]

_MEANINGS: dict[str, Meaning] = {
    **dict.fromkeys(("1", "true", "yes", "y", "t"), "yes"),
    **dict.fromkeys(("0", "false", "no", "n", "f"), "no"),
    "-1": "unknown",
}
_EMPTY = frozenset(("", "nan", "<na>", "null", "none"))
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)")
_CODES: dict[Meaning, int] = {"yes": 1, "no": 0, "unknown": -1}
_MOST_VALUES = 10_000
"""Different texts in the label cells of one table; more are scores or names."""


def is_empty(text: str) -> bool:
    """Does a cell say nothing? (`nan` and the like are how programs write an empty cell.)"""
    return text.strip().lower() in _EMPTY


def canonical(text: str) -> str:
    """A cell's text so that equal values are equal texts: 1, 1.0 and +1.00 are `1`; an empty cell is the empty text."""
    text = text.strip().lower()
    if text in _EMPTY:
        return ""
    if not _NUMBER.fullmatch(text):
        return text
    return f"{float(text) or 0.0:.12g}"  # -0 is 0


class CellCount(NamedTuple):
    """A distinct value of a table's label cells."""

    text: str
    """As the table has it."""
    cells: int
    meaning: Meaning

    def __str__(self) -> str:
        return f"{self.text or 'empty'}: {self.cells:,} cells, taken for {self.meaning}"


@dataclass(frozen=True)
class Values:
    """What values mean, as `--values` gives it, or as it is understood without."""

    meanings: dict[str, Meaning]
    """Canonical text to meaning."""
    told: bool
    """Did a person say it?"""

    @classmethod
    def parse(cls, text: str | None) -> Values:
        """Read what `--values` says.

        Args:
            text: such as `yes=1,no=-1,unknown=0,empty=no`; a meaning may be given for several values. None for what is
                understood by itself.

        Raises:
            InputError: a part that is not of this kind, a value with two meanings, or no value for yes.
        """
        if text is None:
            return cls({**_MEANINGS, "": "unknown"}, told=False)
        found: dict[str, Meaning] = {"": "unknown"}
        given: set[str] = set()
        for part in text.split(","):
            name, equals, value = (one.strip() for one in part.partition("="))
            key, meaning = ("", value.lower()) if name.lower() == "empty" else (canonical(value), name.lower())
            if not equals or meaning not in _CODES:
                raise InputError(f"--values {text}: {part.strip()!r}; expected parts such as yes=1, no=-1, empty=no")
            if key in given and found[key] != meaning:
                raise InputError(f"--values {text}: {value!r} is both {found[key]} and {meaning}")
            given.add(key)
            found[key] = meaning
        if "yes" not in found.values():
            raise InputError(f"--values {text}: no value means yes; expected yes=VALUE among its parts")
        return cls(found, told=True)

    def of(self, text: str) -> Meaning | None:
        """What a cell means; None where that is not known."""
        return self.meanings.get(canonical(text))


class _Codes(dict):
    """Text to a small number, given as texts come."""

    def __missing__(self, text: str) -> int:
        if len(self) >= _MOST_VALUES:
            raise OverflowError
        self[text] = code = len(self)
        return code


class Cells:
    """Collects the label cells of a table, row by row, in two bytes each."""

    def __init__(self, values: Values) -> None:
        self.values = values
        self._codes = _Codes()
        self._rows: list[np.ndarray] = []

    def add(self, cells: Sequence[str]) -> None:
        """A row's cells.

        Raises:
            OverflowError: the table has more different texts than labels could have.
        """
        self._rows.append(np.fromiter(map(self._codes.__getitem__, cells), np.uint16, len(cells)))

    def meanings(self, table: str) -> tuple[np.ndarray, list[CellCount]]:
        """int8 `[N, C]` of 1 yes, 0 no, -1 unknown, and what each distinct value was taken for.

        Raises:
            UnreadableError: the first cell that means nothing.
            InputError: -1 and never a no, where nobody said what -1 means.
        """
        codes = np.stack(self._rows)
        meant = [self.values.of(text) for text in self._codes]
        unread = np.array([meaning is None for meaning in meant])
        if unread.any():
            row, column = (int(place) for place in np.argwhere(unread[codes])[0])
            raise UnreadableError(row, column, list(self._codes)[codes[row, column]])
        counts = np.bincount(codes.ravel(), minlength=len(meant))
        found = [
            CellCount(text.strip(), int(cells), meaning)
            for text, cells, meaning in zip(self._codes, counts, meant, strict=True)
            if meaning is not None
        ]
        if not self.values.told:
            _refuse_signs(found, table)
        table_of_codes = np.array([_CODES[meaning] for meaning in meant if meaning is not None], dtype=np.int8)
        return table_of_codes[codes], found


class UnreadableError(Exception):
    """A cell that means neither yes nor no nor unknown, at a row and column of the label cells."""

    def __init__(self, row: int, column: int, text: str) -> None:
        super().__init__(text)
        self.row, self.column, self.text = row, column, text


def _refuse_signs(found: list[CellCount], table: str) -> None:
    minus = sum(count.cells for count in found if canonical(count.text) == "-1")
    no = sum(count.cells for count in found if count.meaning == "no")
    if minus and not no:
        yes = sum(count.cells for count in found if count.meaning == "yes")
        empty = sum(count.cells for count in found if not canonical(count.text))
        raise InputError(
            f"{table}: the label cells hold -1 and never 0: 1 in {yes:,}, -1 in {minus:,}, empty {empty:,}; give "
            f"--values yes=1,no=-1 for {minus:,} cells of no, or --values yes=1,unknown=-1 for {minus:,} of which "
            "nobody knows"
        )
