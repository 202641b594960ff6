"""Columns of a table, or keys in JSON, beside the one that lists labels, which may say that a picture lacks them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Container, Mapping, Sequence

from edgepress.multilabel.datasets.advice import option_for_lists
from edgepress.multilabel.datasets.tables import LabelTable, column_key
from edgepress.multilabel.datasets.values import Values, canonical
from edgepress.multilabel.errors import InputError, shown

_SAYS_WHETHER = frozenset((
    "present", "presence", "is_present", "positive", "is_positive", "exists", "applies", "correct", "verified",
    "answer", "value", "confidence", "confidences", "conf", "score", "scores", "probability", "probabilities", "prob",
    "probs", "vote", "votes", "agreement", "certainty", "polarity", "ground_truth", "is_there", "has_object",
    "annotated", "is_annotated",
))  # fmt: skip
"""Columns that may say of each row whether its label applies, where another one names the label."""
_OF_LABEL = re.compile(
    r"(labels?|tags?|class(es)?|categor(y|ies)|pred(icted|iction)?)_(scores?|conf(idences?)?|prob(abilit(y|ies)|s)?|certainty|present)"
)
"""Likewise, with the word for what they are of."""
ANSWERS = {
    **dict.fromkeys(("positive", "pos", "present", "accept", "accepted", "correct", "+"), True),
    **dict.fromkeys(("negative", "neg", "absent", "reject", "rejected", "incorrect", "wrong", "-"), False),
}
"""Further words that say whether a row's label applies."""
_OF_REVIEW = re.compile(
    r"((label|tag|annotation|review|qa|qc|verification|vote)_)?(status|state|review|verdict|decision|polarity|sign)"
)
"""Columns and keys in which such words say that a label was checked; elsewhere `negative` may be a mood or a test."""
_NAMES_LABELS = re.compile(
    r"(attribute|property|finding|disease|condition|concept|object|question|label|tag|class|category|type)s?(_?names?)?"
)
"""Columns that may name the labels about which another one holds answers."""
_OTHER_LIST = re.compile(
    r"(neg|(hard_)?negatives?|negated|absent|wrong|rejected|excluded?|unsure|uncertain|unknown|maybe|ignored?)"
    r"|(no|not|without|neg|(hard_)?negatives?|negated|absent|missing|wrong|false|rejected|excluded?|unsure|uncertain|"
    r"unknown|maybe|ignored?|difficult|hard)"
    r"_(labels?|tags?|class(es)?|categor(y|ies))"
    r"|(labels?|tags?|class(es)?|categor(y|ies))_(no|not|neg|negatives?|absent|missing|wrong|false|rejected|excluded?|"
    r"unsure|uncertain|unknown|maybe|ignored?|difficult|hard)"
)
"""Columns that may list labels which a picture does not have."""
_OF_MUCH = frozenset(("no", "not", "without", "missing", "false", "difficult", "hard"))
"""Likewise, but only where they hold names of labels: these words also name a number, a level or a property."""
_FURTHER_LIST = re.compile(
    r"(labels?|tags?|class(es)?|categor(y|ies)|class_?names?)_?\d+"
    r"|(second|secondary|other|further|additional|extra|more)_?(labels?|tags?|class(es)?|categor(y|ies))"
)
"""Columns that may list labels beside those of the column that is read."""
NO_CONTENT = frozenset((
    "width", "height", "score", "confidence", "iscrowd", "is_crowd", "difficult", "truncated", "count", "total", "sum",
    "n_labels", "num_labels", "label_count", "has_label", "has_labels", "labeled", "labelled", "annotator",
    "annotated", "is_annotated", "verified", "ground_truth",
    "annotator_id", "reviewed", "checked", "approved", "weight", "sample_weight", "sex", "gender", "batch", "cluster",
    "exclude", "excluded", "include", "included", "skip", "ignore", "ignored", "duplicate", "is_duplicate", "deleted",
))  # fmt: skip
"""Columns of tables of boxes, of the work and of persons, which say nothing of what a picture shows."""
_EXCLUDES = frozenset(("exclude", "excluded", "skip", "ignore", "ignored", "deleted"))
"""Columns whose yes says that a row does not count."""
_OF_BOX = re.compile(r"(is_?)?(occluded|truncated|difficult|hard|crowd|group_?of|depiction|inside)")
"""Columns of yes and no that describe a box, not whether its label applies."""


def deniers_of(table: LabelTable, picture: int, others: list[int]) -> tuple[int, ...]:
    """The columns that may deny the label that their row names, by their names, or by answers where pictures repeat."""
    names = [row[picture] for row in table.sample if len(row) > picture]
    repeated = len(set(names)) < len(names)

    def may_deny(column: int) -> bool:
        cells = {row[column].strip().lower() for row in table.sample if len(row) > column}
        answers = all(cell in ANSWERS or Values.parse(None).of(cell) is not None for cell in cells)
        key = column_key(table.header[column])
        of_box = key in NO_CONTENT or _OF_BOX.fullmatch(key) is not None
        both = _OF_REVIEW.fullmatch(key) is not None and _both_answers(table, column)
        return _says_whether(key) or key in _EXCLUDES or both or (repeated and answers and not of_box)

    return tuple(column for column in others if may_deny(column))


def refuse_answers_alone(table: LabelTable, listed: int, others: list[int]) -> None:
    """Raise an error if the column that lists labels may hold answers about those that another column names.

    Args:
        others: the columns beside it and the picture's.

    Raises:
        InputError: it holds words for yes and no alone, and another column is named as one that names labels, and
            names some again.
    """
    if not _both_answers(table, listed):
        return
    for column in others:
        cells = [row[column].strip() for row in table.sample if len(row) > column]
        if _NAMES_LABELS.fullmatch(column_key(table.header[column])) and len(set(cells)) < len(cells):
            name, other = table.header[listed], table.header[column]
            raise InputError(
                f"{table.path}: column {name!r} holds words for yes and no alone, which may be answers about the "
                f"labels in {other!r}; {option_for_lists(table, [listed])} takes them for labels themselves; otherwise "
                f"keep the rows of yes alone, with {option_for_lists(table, [column])}, or give each label a column"
            )


def _both_answers(table: LabelTable, column: int) -> bool:
    """Whether a column holds words such as `positive` and `negative`, of both kinds, and nothing else."""
    cells = {row[column].strip().lower() for row in table.sample if len(row) > column and canonical(row[column])}
    return {ANSWERS.get(cell) for cell in cells} == {True, False}


def refuse_denied(table: LabelTable, listed: int, column: int, row: Sequence[str]) -> None:
    """Raise an error if one of the `deniers_of` does not say yes of a row.

    Raises:
        InputError: it does not; the message names the cell and the option.
    """
    cell = row[column] if len(row) > column else ""
    meaning = Values.parse(None).of(cell)
    affirms = not canonical(cell) or ANSWERS.get(cell.strip().lower()) or meaning == "yes"
    if column_key(table.header[column]) in _EXCLUDES:
        affirms = meaning in ("no", "unknown")
    if affirms:
        return
    raise InputError(
        f"{table.path}: column {table.header[column]!r} holds {cell[:40]!r}, and may say whether a picture has the "
        f"label in {table.header[listed]!r}; {option_for_lists(table, [listed])} takes every row for a yes; otherwise "
        "keep the rows of yes alone, or give each label a column"
    )


def refuse_other_lists(table: LabelTable, listed: int, others: list[int], named: Sequence[str]) -> None:
    """Raise an error if a column beside the labels may list others, those that are absent, or of which nobody knows.

    Args:
        named: the labels of labels.txt, if it exists.

    Raises:
        InputError: there is one; the message names it and the option.
    """
    worded = [column for column in others if column != listed and _holds_words(table, column)]
    further = [column for column in worded if _FURTHER_LIST.fullmatch(column_key(table.header[column]))]
    if further:
        them, kind = ("it", "column") if len(further) == 1 else ("them", "columns")
        names = ", ".join(repr(table.header[column]) for column in further)
        raise InputError(
            f"{table.path}, line 1: {kind} {names} may list labels as well as {table.header[listed]!r}; "
            f"{option_for_lists(table, sorted([listed, *further]))} reads them together, and "
            f"{option_for_lists(table, [listed])} leaves {them} out"
        )
    for column in worded:
        name = table.header[column]
        held = _names_in(table, column) if column_key(name) in _OF_MUCH else set()
        names_labels = not held.isdisjoint({*_names_in(table, listed), *named})
        if _OTHER_LIST.fullmatch(column_key(name)) or names_labels:
            raise InputError(
                f"{table.path}, line 1: column {name!r} may list labels that a picture does not have, or that nobody "
                f"knows; {option_for_lists(table, [listed])} leaves it out; otherwise give each label a column with 1, "
                "0 or nothing"
            )


def _holds_words(table: LabelTable, column: int) -> bool:
    """Whether a cell of a column is neither a number nor an answer."""
    values = Values.parse(None)
    cells = {row[column] for row in table.sample if len(row) > column}
    return any(canonical(cell) and not cell.strip().isdecimal() and values.of(cell) is None for cell in cells)


def _names_in(table: LabelTable, column: int) -> set[str]:
    """The names in a column, whatever marks are between them."""
    cells = {row[column] for row in table.sample if len(row) > column}
    return {part for cell in cells for part in _parts(cell)}


def _parts(cell: str) -> list[str]:
    """A text as a whole, and what is between its marks."""
    return [cell.strip(), *(name for part in re.split(r"[][;|,\"']", cell) if (name := part.strip()))]


def refuse_denied_in_json(
    others: Mapping[str, object], key: str, where: str, known: Container[str] | None = None
) -> None:
    """Raise an error if a key beside a picture's labels may deny them; see `denied_in_json`.

    Args:
        others: the keys that no reader takes, with their values.
        key: the key that lists the labels.
        known: the labels of the data set, where they are known by then.

    Raises:
        InputError: there is one; the message names it, its value and the option.
    """
    for name, value in others.items():
        if value and not isinstance(value, int | float) and _FURTHER_LIST.fullmatch(column_key(name)):
            raise InputError(
                f"{where}: {name!r} is {str(value)[:40]!r}, and may list labels as well as {key!r}: join them into one "
                f"list, or leave it out by --label-columns {key}"
            )
        if denied_in_json(name, value, known):
            raise InputError(
                f"{where}: {name!r} is {str(value)[:40]!r}, and may say of labels that the picture does not have them, "
                f"or that nobody knows; --label-columns {key} takes {key!r} for yes and leaves it out; otherwise list "
                "the labels that nobody knows under 'ignore', and leave out those that the picture does not have"
            )


def refuse_answer(row: Mapping[str, object], key: str, where: str) -> None:
    """Raise an error if `--label-columns` names one of several keys that hold a 0 or 1: its number is an answer for one
    label, and would be read as the number of a label.

    Raises:
        InputError: it does.
    """
    answers = [name for name, value in row.items() if type(value) is int and value in (0, 1)]
    if key in answers and len(answers) > 1:
        raise InputError(
            f"{where}: {shown(answers, 4)} are 0 or 1, and a number under {key!r} would be that of a label; a yes or "
            "no for each label is read from metadata.csv with a column for each"
        )


def meant_ignore(name: str, value: object) -> bool:
    """Whether a key's name is nearly `ignore` and its value may list labels, which would be lost."""
    return bool(difflib.get_close_matches(name.lower(), ["ignore"], cutoff=0.8)) and _may_list(value)


def denied_in_json(name: str, value: object, known: Container[str] | None = None) -> bool:
    """Whether a value beside a picture's labels may say that it lacks them, or may list others that it lacks;
    nearly as `refuse_denied` and `refuse_other_lists` take the columns of a table.

    A text such as `rejected` denies them under the keys of a review. A key that names a property as well (`missing`)
    denies only labels of the data set, or where these are not known yet, what is a list of words.

    Args:
        known: the labels of the data set, where they are known by then.
    """
    key = column_key(name)
    if isinstance(value, str) and ANSWERS.get(value.strip().lower()) is False and _OF_REVIEW.fullmatch(key):
        return True
    if not (key in _OF_MUCH or key in _EXCLUDES or _OTHER_LIST.fullmatch(key) or _says_whether(key)):
        return False  # as nearly all are, of which a file may have millions
    values, (cells, words) = Values.parse(None), _cells_and_words(value)
    if key in _OF_MUCH:
        if known is None:
            return bool(words) and isinstance(value, list)
        return any(part in known for word in words for part in _parts(word))
    if _OTHER_LIST.fullmatch(key) and _may_list(value):
        return True
    if key in _EXCLUDES:
        return any(values.of(cell) not in ("no", "unknown") for cell in cells)
    affirmed = all(ANSWERS.get(cell.strip().lower()) or values.of(cell) == "yes" for cell in cells)
    return _says_whether(key) and not affirmed


def _cells_and_words(value: object) -> tuple[list[str], list[str]]:
    """What a value in JSON holds, as a table's cells would, and those of it that are neither numbers nor answers."""
    values = Values.parse(None)
    parts = [str(part) for part in (value if isinstance(value, list) else [value]) if part is not None]
    cells = [cell for cell in parts if canonical(cell)]
    return cells, [cell for cell in cells if not cell.strip().isdecimal() and values.of(cell) is None]


def _may_list(value: object) -> bool:
    """Whether a value may list labels, or their numbers; [0, 0] and [false] say no of several things, or of one."""
    values, (cells, words) = Values.parse(None), _cells_and_words(value)
    if words or not isinstance(value, list) or not cells:
        return bool(words)
    return cells == ["0"] or any(values.of(cell) != "no" for cell in cells)


def _says_whether(key: str) -> bool:
    return key in _SAYS_WHETHER or _OF_LABEL.fullmatch(key) is not None
