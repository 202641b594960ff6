"""What the cells of a table mean: the one place where text becomes yes, no or unknown.

By default 1, true, yes, y and t mean yes; 0, false, no, n and f mean no; an empty cell, nan and null mean unknown, and
so does -1 if the table also has a no. Numbers are compared as numbers, words in any case. `--values` replaces all this.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgepress.multilabel.errors import InputError

Meaning = Literal["yes", "no", "unknown"]

_MEANINGS: dict[str, Meaning] = {
    **dict.fromkeys(("1", "true", "yes", "y", "t"), "yes"),
    **dict.fromkeys(("0", "false", "no", "n", "f"), "no"),
    "-1": "unknown",
}
_EMPTY = frozenset(("", "nan", "<na>", "null", "none", r"\n"))
"""`\\N`, in any case, is what MySQL and PostgreSQL export for an unknown value."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,2})?")
_WITH_COMMA = re.compile(r"([+-]?\d+),00?")
"""A whole number as spreadsheets write it in countries with a decimal comma; three digits might be a thousand."""
_CODES: dict[Meaning, int] = {"yes": 1, "no": 0, "unknown": -1}
_BLOCK = 4096
_MOST_VALUES = 10_000
"""Number of different texts allowed in the label cells of one table; more are scores or names."""


def is_empty(text: str) -> bool:
    """Return whether a cell is empty. (Programs write an empty cell as `nan` and the like.)"""
    return text.strip().lower() in _EMPTY


def canonical(text: str) -> str:
    """Normalise a cell so that equal values are equal texts: 1, 1.0 and 1,0 become `1`; an empty cell becomes ''."""
    text = text.strip().lower()
    if text in _EMPTY:
        return ""
    if whole := _WITH_COMMA.fullmatch(text):
        text = whole[1]
    if not _NUMBER.fullmatch(text):
        return text
    return f"{float(text) or 0.0:.12g}"  # -0 becomes 0


@dataclass(frozen=True)
class CellCount:
    """A distinct value of a table's label cells."""

    text: str
    """The text as the table has it."""
    cells: int
    meaning: Meaning

    def __str__(self) -> str:
        return (
            f"{self.text or 'empty'}: {self.cells:,} {'cell' if self.cells == 1 else 'cells'}, taken for {self.meaning}"
        )


@dataclass(frozen=True)
class Values:
    """What values mean, as given by `--values`, or by default if it is missing."""

    meanings: dict[str, Meaning]
    """From canonical text to its meaning."""
    told: bool
    """Whether a person gave the meanings."""

    @classmethod
    def parse(cls, text: str | None) -> Values:
        """Read the text given to `--values`.

        Args:
            text: such as `yes=1,no=-1,unknown=0,empty=no`; a meaning may be given for several values. None keeps the
                defaults, and `empty=no` alone those of all other cells.

        Raises:
            InputError: a part has another form, a value has two meanings, or no value means yes.
        """
        if text is None:
            return cls({**_MEANINGS, "": "unknown"}, told=False)
        found: dict[str, Meaning] = {"": "unknown"}
        given: set[str] = set()
        for part in text.split(","):
            name, equals, value = (one.strip() for one in part.partition("="))
            _refuse_turned(text, name.lower(), value)
            key, meaning = ("", value.lower()) if name.lower() == "empty" else (canonical(value), name.lower())
            if not equals or meaning not in _CODES:
                which = "" if part == text else f"{part.strip()!r}; "
                raise InputError(f"received {text!r}; {which}expected parts such as yes=1, no=-1, empty=no")
            if key in given and found[key] != meaning:
                raise InputError(f"received {text!r}; {value!r} is both {found[key]} and {meaning}")
            given.add(key)
            found[key] = meaning
        if given == {""}:  # nothing is said of the others
            return cls({**_MEANINGS, **found}, told=False)
        if "yes" not in found.values():
            raise InputError(f"received {text!r}; no value means yes; expected yes=VALUE among its parts")
        return cls(found, told=True)

    def of(self, text: str) -> Meaning | None:
        """Return what a cell means; None if that is unknown."""
        return self.meanings.get(canonical(text))


def _refuse_turned(text: str, name: str, value: str) -> None:
    """Raise an error for a part that has its two sides in the wrong order: `no=empty`, or `1=yes`."""
    turned = value.lower() == "empty" and name in _CODES
    if turned or (value.lower() in _CODES and name not in _CODES and name != "empty"):
        right = f"empty={name}" if turned else f"{value.lower()}={name}"
        says = f"empty cells mean {name}" if turned else f"{name!r} means {value.lower()}"
        raise InputError(f"received {text!r}; {name}={value} has its sides turned; write {right} where {says}")


class _Codes(dict):
    """Maps each text to a small number, in the order in which texts first appear."""

    def __missing__(self, text: str) -> int:
        if len(self) >= _MOST_VALUES:
            raise OverflowError
        self[text] = code = len(self)
        return code


class Cells:
    """Collects the label cells of a table, row by row, in two bytes per cell."""

    def __init__(self, values: Values) -> None:
        self.values = values
        self._codes = _Codes()
        self._cells = array("H")
        self._width = 0

    def add(self, cells: Sequence[str]) -> None:
        """Add the cells of a row.

        Raises:
            OverflowError: the table has more different texts than labels can have.
        """
        self._cells.extend(map(self._codes.__getitem__, cells))
        self._width = len(cells)

    def meanings(self, table: str) -> tuple[np.ndarray, list[CellCount]]:
        """int8 `[N, C]` with 1 for yes, 0 for no, -1 for unknown, and what each distinct value was read as.

        Raises:
            UnreadableError: names the first cell that has no meaning.
            InputError: there is -1 but never a no, and nobody said what -1 means.
        """
        codes = np.frombuffer(self._cells, dtype=np.uint16).reshape(-1, self._width)
        meant = [self.values.of(text) for text in self._codes]
        unread = np.array([meaning is None for meaning in meant])
        if unread.any():
            row, column = (int(place) for place in np.argwhere(unread[codes])[0])
            raise UnreadableError(row, column, list(self._codes)[codes[row, column]])
        # bincount makes numbers of 8 bytes of its input, so it counts a block of rows at a time.
        blocks = (codes[start : start + _BLOCK].ravel() for start in range(0, len(codes), _BLOCK))
        counts = sum(np.bincount(block, minlength=len(meant)) for block in blocks)
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
    """Raised for a cell that means neither yes, no nor unknown, at a row and column of the label cells."""

    def __init__(self, row: int, column: int, text: str) -> None:
        super().__init__(text)
        self.row, self.column, self.text = row, column, text


def _refuse_signs(found: list[CellCount], table: str) -> None:
    minus = sum(count.cells for count in found if canonical(count.text) == "-1")
    no = sum(count.cells for count in found if count.meaning == "no" and canonical(count.text))  # empty may be told
    if minus and not no:
        yes = sum(count.cells for count in found if count.meaning == "yes")
        empty = sum(count.cells for count in found if not canonical(count.text))
        raise InputError(
            f"{table}: the label cells hold -1 and never 0: 1 in {yes:,}, -1 in {minus:,}, empty {empty:,}; give "
            f"--values yes=1,no=-1 for {minus:,} cells of no, or --values yes=1,unknown=-1 for {minus:,} of which "
            "nobody knows"
        )
