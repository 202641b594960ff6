"""Cells that list labels: the one place where such text becomes names.

A list in JSON or in brackets, with or without quotes, or of quoted names shows by itself what its parts are. Elsewhere
`;` and `|` separate names, and nothing else does unless `--separator` says so: if a space, a comma or the like would
split a cell into names that also occur elsewhere, the table is refused until the option is given.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from edgepress.multilabel.datasets.options import in_quotes
from edgepress.multilabel.datasets.values import is_empty
from edgepress.multilabel.errors import InputError

CHOICES = (
    "choices", "labels", "rectanglelabels", "polygonlabels", "ellipselabels", "keypointlabels", "brushlabels",
    "bitmasklabels", "vectorlabels",
)  # fmt: skip
"""Label Studio's keys for what was chosen."""
_QUOTED = re.compile(r"\s*(?:'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\")\s*,?")
_ALL_QUOTED = re.compile(r"('[^']*'|\"[^\"]*\")(\s*,\s*('[^']*'|\"[^\"]*\"))*")
_LISTS = frozenset("[({'\"")
"""How a cell begins that shows by itself what its parts are."""
_PAIRS = {"[": "]", "(": ")", "{": "}"}
_MARKS = {",": "commas", " ": "spaces", "/": "/", "+": "+", "#": "#", "\t": "tabs"}
"""Marks that separate names where they may be part of one, and what messages call them; other marks follow them."""
_COMMAS = frozenset(",\u3001\uff0c\uff1b")  # and the commas and semicolons of Chinese and Japanese
_WORDS = (" and ", " und ", " et ", " y ")
WHOLE = "none"
"""The separator for cells that are one label each."""


def names_of(cell: str, separator: str | None, where: str) -> list[str]:
    """The labels in a cell.

    Args:
        separator: the separator that was named; `none` if a cell is one label.

    Raises:
        InputError: a list cannot be read; the message says that it is at `where`.
    """
    text = cell.strip()
    if is_empty(text):
        return []
    if _ALL_QUOTED.fullmatch(text) and (found := _unquoted(f"[{text}]")) is not None:
        return found
    if text[0] in _PAIRS and text.endswith(_PAIRS[text[0]]) and (found := _bracketed(text)) is not None:
        return found
    if text[0] in "[{":
        raise InputError(f'{where}: labels {cell[:40]!r}; expected cat;dog, or a JSON list as ["cat", "dog"]')
    if separator == WHOLE:
        return [text]
    parts = text.split(separator if separator != " " else None) if separator is not None else re.split(r"[;|]", text)
    return [name for part in parts if (name := part.strip())]


def _bracketed(text: str) -> list[str] | None:
    """The names in brackets; None if the brackets are part of a name or hold something else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = _unquoted(text)
    if isinstance(found, dict):
        found = chosen([found])
    elif isinstance(found, list) and found and all(isinstance(item, dict) for item in found):
        found = chosen(found)
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        return None
    return [name.strip() for name in found]


def chosen(items: list[dict]) -> list | None:
    """The names in Label Studio's regions or choices."""
    names: list = []
    for item in items:
        key = next((key for key in CHOICES if key in item), None)
        if key is None:
            return None
        value = item[key]
        names += value if isinstance(value, list) else [value]
    return list(dict.fromkeys(names)) if all(isinstance(name, str) for name in names) else None


def _unquoted(text: str) -> list[str] | None:
    """The parts of a list as Python, numpy or people write it: quoted or not, with or without commas."""
    inner = text[1:-1].strip()
    if not inner:
        return [] if text[0] in "[(" else None
    if inner[0] in "'\"":
        names, place = [], 0
        while place < len(inner):
            found = _QUOTED.match(inner, place)
            if found is None:
                return None
            names.append(re.sub(r"\\(.)", r"\1", found[1] if found[1] is not None else found[2]))
            place = found.end()
        return names
    if text[0] != "[" or re.fullmatch(r"[\d\s.,+-]*", inner) or any(mark in inner for mark in "'\"[]{}"):
        return None  # a name with brackets, numbers, or an unknown notation
    mark = next((mark for mark in (",", ";", "|") if mark in inner), None)
    if mark is None and " " in inner:
        return None
    parts = [part for one in inner.split(mark) if (part := one.strip())]
    return [] if all(map(is_empty, parts)) else parts


class Unsplit(NamedTuple):
    """A cell that a separator nobody named would split into names."""

    mark: str
    called: str
    """What messages call the separator."""
    cell: str
    parts: list[str]


def separator_of(cells: Sequence[str], separator: str | None, table: str) -> Unsplit | None:
    """Find a cell that looks like a list whose separator nobody named; None where there is none.

    Args:
        cells: the distinct cells of a column that lists labels.
        table: the table, for the errors of `names_of`.
    """
    if separator == WHOLE or (separator is not None and any(separator in cell for cell in cells)):
        return None
    names: Counter[str] = Counter()
    bare: dict[str, None] = {}
    separated = False
    for cell in cells:
        found = names_of(cell, None, table)
        listed = cell.strip()[:1] in _LISTS
        separated = separated or len(found) > 1 or (listed and cell.strip()[:1] in "[{")
        names.update(found)
        if not listed:  # a list says by itself what its parts are
            bare.update(dict.fromkeys(found))
    others = sorted({mark for name in bare for mark in name if not mark.isalnum() and mark not in _MARKS})
    for mark in (*_MARKS, *_WORDS, *others):
        split = {name: [part for one in name.split(mark) if (part := one.strip())] for name in bare if mark in name}
        seen = Counter(part for parts in split.values() for part in set(parts))
        usual = mark in _MARKS or mark in _COMMAS
        for name, parts in split.items():
            alone = all(part in names for part in parts)
            again = usual and not separated and all(part in names or seen[part] > 1 for part in parts)
            # If no list is in sight, a comma, a slash and so on more likely separate names than belong to one.
            shared = usual and not separated and mark != " " and (mark in _COMMAS or any(seen[p] > 1 for p in parts))
            if len(parts) > 1 and (alone or again or shared):
                return Unsplit(mark, _MARKS.get(mark, repr(mark)), name, parts)
    return None


def refuse_unsplit(cells: Iterable[str], separator: str | None, table: str, column: str) -> None:
    """Raise an error if cells look like lists whose separator nobody named; see `separator_of`.

    Raises:
        InputError: there is such a cell; the message names it, its parts and the option.
    """
    found = separator_of(list(cells), separator, table)
    if found is not None:
        said = f"--separator {separator!r} occurs nowhere: " if separator is not None else ""
        parts = ", ".join(map(repr, found.parts[:4]))
        raise InputError(
            f"{table}: column {column!r} holds {found.cell[:60]!r}, which {found.called} would split into {parts}; "
            f"{said}give --separator {in_quotes(found.mark)} where a cell lists labels, or --separator {WHOLE} where "
            "each cell is one label"
        )
