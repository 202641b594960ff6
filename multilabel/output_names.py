"""The names of a finished model's outputs, in the files that taggers come with."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

from edgepress.multilabel.errors import InputError
from edgepress.multilabel.json_text import unique_json
from edgepress.multilabel.labels import LabelSpace

_COLUMNS = ("name", "label", "labels", "tag", "class", "class_name", "label_name", "tag_name", "display_name")
"""Headers of the column that names the outputs, such as that of selected_tags.csv, which WD taggers come with."""
_NUMBERED = re.compile(r"\s*['\"]?(?P<number>\d+)['\"]?\s*[\s:,;=]\s*(?P<rest>\S.*)")
_NUMBER_BEHIND = re.compile(r"(?P<rest>.*\S)\s*[:,;=\t]\s*(?P<number>\d+)\s*[,;]?")
_QUOTED = re.compile(r"(['\"]).*\1,?|\[.*\]")
_NUMBER_COLUMN = re.compile(r"((class|label|category|tag|output)_?)?(id|idx|index|number|no|position)", re.IGNORECASE)
_OTHER_FILES = (".yaml", ".yml", ".pbtxt", ".xml")
"""Suffixes of files of names that are not read."""
_EXPECTED = "expected label names, one a line in the order of the outputs"


def output_names(file: Path) -> LabelSpace:
    """Read the names of a model's outputs, in their order.

    Args:
        file: a text with one name per line; a `.json` with a list of names, or with `id2label` or `label2id` as
            transformers writes them; or a `.csv` whose header has one column of names, a row for each output.

    Raises:
        InputError: the file cannot be read, its lines are numbered or quoted, numbers are missing or say another order
            than the rows, or names are refused as in `LabelSpace`.
    """
    try:
        if file.suffix.lower() in _OTHER_FILES:
            raise InputError(f"{file}: names are not read from {file.suffix}; {_EXPECTED} in a .txt, a .json or a .csv")
        if file.suffix.lower() not in (".json", ".csv"):
            names = LabelSpace.from_file(file)
            _refuse_numbered(file, names)
            return names
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); {_EXPECTED}") from None
    except UnicodeDecodeError:
        raise InputError(f"{file}: not UTF-8 text; {_EXPECTED}") from None
    found = _of_json(file, text) if file.suffix.lower() == ".json" else _of_table(file, text)
    try:
        return LabelSpace(tuple(found))
    except InputError as error:
        raise InputError(f"{file}: {error}") from None


def _refuse_numbered(file: Path, names: LabelSpace) -> None:
    """Raise an error where each line begins or ends with its number, or is in quotes, which is no part of a name."""
    first, count = names.names[0], len(names)
    mend = f"{_EXPECTED}, and nothing else. Names that have such numbers are read from a .json with a list of them"
    behind = _numbers(_NUMBER_BEHIND, names)
    if sorted(behind) in (list(range(count)), list(range(1, count + 1))):
        raise InputError(f"{file}: its lines end with numbers ({first!r}); {mend}")
    if all(map(_QUOTED.fullmatch, names)):
        raise InputError(f"{file}: its lines are in quotes or brackets ({first[:40]!r}); {_EXPECTED}, without them")
    if _numbers(_NUMBERED, names) in (list(range(count)), list(range(1, count + 1))):
        raise InputError(f"{file}: its lines are numbered ({first!r}); {mend}")


def _numbers(pattern: re.Pattern[str], names: LabelSpace) -> list[int]:
    """The numbers in the lines of a file; empty where names need them, because two are the same without (`grade:0`)."""
    found = [match for match in map(pattern.fullmatch, names) if match is not None]
    rests = {match["rest"].strip() for match in found}
    return [int(match["number"]) for match in found] if len(rests) == len(found) > 1 else []


def _of_json(file: Path, text: str) -> list[Any]:
    try:
        given = unique_json(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: not JSON ({error}); {_EXPECTED}") from None
    if isinstance(given, dict):
        given = next((given[key] for key in ("id2label", "label2id", "names", "labels") if given.get(key)), given)
    if isinstance(given, list):
        return given
    if isinstance(given, dict):
        turned = all(isinstance(value, int) and not isinstance(value, bool) for value in given.values())
        pairs = [(number, name) if turned else (name, number) for name, number in given.items()]
        numbered = {str(number): name for number, name in pairs}
        names = [numbered.get(str(number)) for number in range(len(given))]
        if given and None not in names:
            return names
    raise InputError(
        f"{file}: expected a list of names, or names with the numbers of the outputs from 0 on, as in id2label"
    )


def _of_table(file: Path, text: str) -> list[str]:
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline="")) if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise InputError(f"{file}: not a table of CSV ({error}); {_EXPECTED}, below a header such as name") from None
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    named = [at for at, cell in enumerate(header) if cell in _COLUMNS]
    if len(named) != 1:
        found = ", ".join(rows[0])[:80] if rows else "nothing"
        raise InputError(
            f"{file}: its first row is {found}; expected a header with one column of names ({', '.join(_COLUMNS)}), "
            f"or a .txt with one name per line"
        )
    short = next((number for number, row in enumerate(rows[1:], start=2) if len(row) != len(header)), None)
    if short is not None:
        raise InputError(f"{file}, row {short}: {len(rows[short - 1])} cells for {len(header)} columns")
    _refuse_turned(file, rows)
    return [row[named[0]].strip() for row in rows[1:]]


def _refuse_turned(file: Path, rows: list[list[str]]) -> None:
    """Raise an error where a column numbers the outputs in another order than that of the rows."""
    for at, name in enumerate(rows[0]):
        cells = [row[at].strip() for row in rows[1:]]
        if not _NUMBER_COLUMN.fullmatch(name.strip()) or not all(map(str.isdecimal, cells)):
            continue
        numbers = [int(cell) for cell in cells]
        if numbers != sorted(numbers) and sorted(numbers) in (list(range(len(cells))), list(range(1, len(cells) + 1))):
            raise InputError(
                f"{file}: its column {name.strip()!r} numbers the rows in another order than theirs; sort them in the "
                "order of the outputs, or leave that column out if it says something else"
            )
