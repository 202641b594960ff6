"""For a table whose columns are not all answers: every option that would read it, in one message."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from edgepress.multilabel.datasets.label_lists import separator_of
from edgepress.multilabel.datasets.options import in_quotes, names_in_quotes
from edgepress.multilabel.datasets.tables import LabelTable, column_key
from edgepress.multilabel.datasets.values import Values, canonical
from edgepress.multilabel.errors import InputError, shown

_NUMBER = re.compile(r"[+-]?[\d.,']*\d(e[+-]?\d+)?\s*%?", re.IGNORECASE)
_SHARE = re.compile(r"0?[.,]\d+|\d(\.\d+)?e-\d+", re.IGNORECASE)
_YES = frozenset(("ja", "wahr", "oui", "vrai", "si", "sí", "verdadero", "sim", "x", "✓", "✔", "ok", "on", "positive"))
_NO = frozenset(("nein", "falsch", "non", "faux", "falso", "não", "nao", "-", "off", "negative"))
_UNKNOWN = frozenset(("na", "n/a", "?", "unknown", "unklar", "unbekannt", "uncertain", "-1"))
_OUTLINE = re.compile(r"(encoded_?)?(pixels?|rle|masks?|segmentations?|polygons?|boxes|bbox(es)?|points?)(_string)?")
"""Columns of numbers that say where something is, not what."""
_NUMBER_OF_LABEL = re.compile(r"(class|label|category|target|defect)_?(id|idx|index|number|no)?s?")
_MOST_ANSWERS = 4
"""More different words than these are names."""
_MOST_SPLITS = 5


def options_for(table: LabelTable, good: Sequence[int], bad: Sequence[int]) -> str:
    """What to give for a table, each way with all the options that it needs.

    Args:
        good: the columns whose cells are all yes, no, unknown or empty.
        bad: the others that may be labels.
    """
    header = table.header
    bad = [column for column in bad if not _OUTLINE.fullmatch(column_key(header[column]))] or bad
    empty = [column for column in good if not any(canonical(row[column]) for row in table.sample if len(row) > column)]
    good = [column for column in good if column not in empty]
    cells = {column: Counter(_cells(table, column)) for column in bad}
    numbered = {column: mark for column in bad if (mark := _between_numbers(cells[column]))}
    words = [column for column in bad if column not in numbered and not _measures(cells[column])]
    marks = {column: _separator(list(cells[column])) for column in words}
    answers = [column for column in words if not marks[column] and len(_unread(cells[column])) <= _MOST_ANSWERS]
    listing = [column for column in words if not any(_answers(cell) for cell in cells[column])]
    ways = [
        f"if {header[column]!r} lists labels by their numbers: --label-columns {names_in_quotes([header[column]])} "
        f"--separator {in_quotes(mark)}"
        for column, mark in numbered.items()
    ]
    ways += [
        f"if {header[column]!r} is the number of a label: --label-columns {names_in_quotes([header[column]])}"
        for column in bad
        if column not in numbered
        and _measures(cells[column])
        and _NUMBER_OF_LABEL.fullmatch(column_key(header[column]))
    ]
    ways += [
        f"if {header[column]!r} lists labels: --label-columns {names_in_quotes([header[column]])}{marks[column]}"
        for column in listing[:3]
    ]
    stems = {_stem(header[column]) for column in listing}
    alike = sorted([*listing, *(column for column in empty if _stem(header[column]) in stems)])
    if len(alike) > 1:
        ways.append(f"if {_some(header, alike)} do: {option_for_lists(table, alike)}")
    parts = [
        f"if {header[column]!r} says which split a picture is in: --split-column {in_quotes(header[column])}"
        for column in listing
        if not marks[column] and _repeats(cells[column])
    ][:1]
    ways += parts
    if good:
        only = f"if the labels are {_some(header, good)} alone: {_option(header, good)}"
        if len(good) > len(listing) and not any(_answers(cell) for column in answers for cell in cells[column]):
            # The others describe the pictures in another way, such as a sex.
            return "; ".join([*parts, only, *_of_shares(cells)])
        ways.append(only)
    if answers:
        meant = sorted([*answers, *good])
        only = f" {_option(header, meant)}" if len(meant) < len(good) + len(bad) else ""
        plural = "are labels" if len(answers) > 1 else "is a label"
        told = cells | {column: Counter(_cells(table, column)) for column in good}  # --values is told all of them
        values, done = _values(header, meant, told)
        ways.append(f"if {_some(header, answers)} {plural}: --values {values}{only}{done}")
    if not ways:
        ways = ["--label-columns says which columns are labels, --values what their values mean"]
    return "; ".join([*ways, *_of_shares(cells)])


def option_for_lists(table: LabelTable, columns: Sequence[int]) -> str:
    """The options that read columns as those that list labels, with the separator that their cells need.

    Example:
        `--label-columns tags`, or `--label-columns 'tags,more tags' --separator ', '`
    """
    option = _option(table.header, columns)
    if len(columns) == 1 and re.fullmatch(r"[\w.-]+", name := table.header[columns[0]]):
        option = f"--label-columns {name}"
    return f"{option}{_separator([cell for column in columns for cell in _cells(table, column)])}"


def _option(header: Sequence[str], columns: Sequence[int]) -> str:
    return f"--label-columns {names_in_quotes([header[column] for column in columns])}"


def _cells(table: LabelTable, column: int) -> list[str]:
    return [row[column].strip() for row in table.sample if len(row) > column]


def _of_shares(cells: dict[int, Counter[str]]) -> list[str]:
    if not any(_SHARE.fullmatch(cell) for column in cells.values() for cell in column):
        return []
    return ["numbers between 0 and 1 are no answers: write 1 or 0 for them, after a threshold of your own"]


def _repeats(cells: Counter[str]) -> bool:
    """Return whether a few words come again and again, as the names of splits do."""
    return len(cells) <= _MOST_SPLITS and min(cells.values()) > 1


def _stem(name: str) -> str:
    return name.lower().rstrip("0123456789_ ")


def _some(header: Sequence[str], columns: Sequence[int]) -> str:
    names = [repr(header[column]) for column in columns]
    return " and ".join(names) if len(names) < 3 else f"{names[0]}, {names[1]} and {len(names) - 2} more"


def _unread(cells: Counter[str]) -> set[str]:
    """The different cells that have no meaning yet, and are not empty."""
    values = Values.parse(None)
    return {canonical(cell) for cell in cells if values.of(cell) is None}


def _measures(cells: Counter[str]) -> bool:
    """Return whether a column holds numbers, as a width and a score do."""
    return all(_NUMBER.fullmatch(cell) for cell in cells if canonical(cell))


def _between_numbers(cells: Counter[str]) -> str | None:
    """The mark between the numbers that cells list, such as `16 0`; None where they list none, or are decimals."""
    for mark, several in ((" ", r"\d+( \d+)+"), (",", r"\d+(, ?\d+){2,}")):
        numbers = re.compile(rf"\d+({mark} ?\d+)*|")
        if any(re.fullmatch(several, cell) for cell in cells) and all(map(numbers.fullmatch, cells)):
            return mark
    return None


def _separator(cells: list[str]) -> str:
    """The option for what separates labels, where cells need one."""
    try:
        found = separator_of(cells, None, "")
    except InputError:  # a list that cannot be read is told when it is
        return ""
    return f" --separator {in_quotes(found.mark)}" if found is not None else ""


def _answers(cell: str) -> bool:
    """Return whether a cell is a word that says yes or no, here or in another language."""
    return cell.lower() in _YES | _NO or Values.parse(None).of(cell) in ("yes", "no")


def _values(header: Sequence[str], columns: Sequence[int], cells: dict[int, Counter[str]]) -> tuple[str, str]:
    """The value of `--values` for words that say yes and no, as far as their language is known; and a sentence on what
    it does to empty cells, where they may stand for a no."""
    known = Values.parse(None)
    # A number is written as its value, because a comma would end the part.
    found = {canonical(cell): cell for column in columns for cell in cells[column] if canonical(cell)}
    texts = sorted({_written(cell) for cell in found.values()})
    yes = [text for text in texts if text.lower() in _YES or known.of(text) == "yes"]
    no = [text for text in texts if text.lower() in _NO or known.of(text) == "no"]
    unknown = [text for text in texts if text not in (*yes, *no) and (text.lower() in _UNKNOWN or known.of(text))]
    if len(texts) > len(yes) + len(no) + len(unknown) or not yes:
        return f"'yes=...,no=...' with {shown(texts, 4)} in these places", ""
    said = [*(f"yes={text}" for text in yes), *(f"no={text}" for text in no), *(f"unknown={text}" for text in unknown)]
    denied = set(map(canonical, no))
    blank = [column for column in columns if "" in map(canonical, cells[column])]
    marks = [column for column in blank if denied.isdisjoint(map(canonical, cells[column]))]
    done = ""
    if marks and len(marks) == len(blank):  # a column of marks alone says no by nothing
        said.append("empty=no")
        done = "; there empty=no takes every empty cell for a no, and without it nobody knows what these cells mean"
    elif marks:  # elsewhere a cell of no stands beside empty ones, so these are unknown
        done = (
            f"; empty cells then stay unknown, also in {_some(header, marks)}, where no other cell says no: write a no "
            "into those that mean one"
        )
    return f"'{','.join(said)}'", done


def _written(cell: str) -> str:
    return canonical(cell) if _NUMBER.fullmatch(cell) else cell
