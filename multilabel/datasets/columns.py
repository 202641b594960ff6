"""The columns of a table: the one place where they become the picture, the labels and the split."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.advice import option_for_lists, options_for
from edgepress.multilabel.datasets.denials import (
    NO_CONTENT,
    deniers_of,
    refuse_answers_alone,
    refuse_denied,
    refuse_other_lists,
)
from edgepress.multilabel.datasets.elsewhere import folder_of_split
from edgepress.multilabel.datasets.evidence import Evidence
from edgepress.multilabel.datasets.finding import Pictures
from edgepress.multilabel.datasets.options import DataOptions, in_quotes, names_in_quotes
from edgepress.multilabel.datasets.tables import LabelTable, column_key
from edgepress.multilabel.datasets.values import Values, canonical, is_empty
from edgepress.multilabel.errors import InputError, shown

PICTURE_COLUMNS = (
    "path", "file", "file_name", "filename", "file_path", "filepath", "fname", "image", "image_id", "imageid",
    "image_name", "imagename", "image_path", "imagepath", "image_file", "image_filename", "image_index", "image_url",
    "image_uri", "img", "img_name", "img_path", "img_file", "picture", "photo", "url",
)  # fmt: skip
LIST_COLUMNS = (
    "labels", "label", "tags", "tag", "classes", "class", "categories", "category", "choice", "choices",
    "label_name", "label_names", "class_name", "class_names", "finding_labels", "genre", "genres",
)  # fmt: skip
SPLIT_NAMES = frozenset((
    "train", "training", "trainval", "val", "valid", "validation", "dev", "test", "testing", "eval", "evaluation",
    "holdout",
))  # fmt: skip
_SPLIT_WORDS = SPLIT_NAMES | {"split", "subset", "partition", "phase", "fold", "kfold", "usage"}
_SPLIT_COLUMN = re.compile(r"((data|data_?set)_)?(split|subset|partition|phase|usage)(_name)?|ml_use")
_NO_LABELS = _SPLIT_WORDS | {"id", "ids", "idx", "index", "patient", "patientid", "subject", "uid", "uuid"}
_GUESSED = re.compile(r".+_(pred|preds|predicted|prediction|prob|proba|probability|score|conf|confidence|logits?)")
"""Columns that a model wrote."""
_LAST_RESORT = ("id", "name", "index")


def usual_names(header: Sequence[str]) -> list[str]:
    """The columns whose names are usual for pictures."""
    return [name for name in header if column_key(name) in PICTURE_COLUMNS]


@dataclass(frozen=True)
class Columns:
    """What the columns of a table are."""

    picture: int
    listed: tuple[int, ...]
    """The columns that list labels; none if each label has a column."""
    labels: tuple[int, ...]
    """The columns that are one label each."""
    split: int | None
    """The column that names the split."""
    negated: str | None
    """The split's name if the split column holds yes and no."""
    left_out: tuple[str, ...]
    deniers: tuple[int, ...] = ()
    """The columns that may say of a row that the picture does not have its label; see `denials`."""
    evidence: Evidence | None = None
    """What to ask of every row where one column lists the labels and no option says so."""

    def split_of(self, row: list[str], where: str) -> str:
        """Return the split of a row.

        Raises:
            InputError: the cell is empty, or cannot be part of a file name.
        """
        assert self.split is not None
        cell = row[self.split].strip()
        if self.split == self.picture:
            folder = folder_of_split(PurePosixPath(cell.replace("\\", "/")).parts[:-1])
            if folder is None:
                raise InputError(f"{where}: {cell!r} is in no folder that names a split, such as train/a.jpg")
            return folder
        if self.negated is not None:
            meaning = Values.parse(None).of(cell)
            if meaning in ("yes", "no"):
                return self.negated if meaning == "yes" else f"not {self.negated}"
        if is_empty(cell):
            raise InputError(f"{where}: the split column is empty; expected the name of a split")
        return files.plain(cell, where)


def columns_of(table: LabelTable, options: DataOptions, pictures: Pictures, named: Sequence[str] | None) -> Columns:
    """Find or choose the meaning of each column of a table.

    Args:
        pictures: the pictures that cells may name.
        named: the labels of labels.txt, if it exists.

    Raises:
        InputError: no column or several could be the picture's, a column may not be a label, or none is one; the
            message names the option that decides it.
    """
    picture, chosen, split, negated = _picture_and_split(table, options, pictures)
    others = [
        column
        for column, name in enumerate(table.header)
        if column not in (picture, split) and column not in table.unnamed and name
    ]
    aside = [column for column in others if _names_pictures(table, column, options) and column not in chosen]
    others = [column for column in others if column not in aside]
    listed: tuple[int, ...]
    deniers: tuple[int, ...] = ()
    evidence = None
    if chosen:
        told = [column for column in chosen if _is_values(table, column, options)]
        empty = [column for column in chosen if not table.holds(column)]
        listed = () if told or (len(chosen) > 1 and len(empty) == len(chosen)) else tuple(chosen)
        labels = () if listed else tuple(chosen)
    else:
        found = _listed(table, others, named)
        listed = () if found is None else (found,)
        labels = () if listed else _label_columns(table, others, picture, split, options, named)
        if listed:
            rest = [column for column in others if column not in listed and _may_split(table, column, split)]
            _refuse_doubtful(table, rest, [], option_for_lists(table, listed))
            refuse_other_lists(table, listed[0], others, named or ())
            beside = [column for column in others if column != listed[0]]
            refuse_answers_alone(table, listed[0], beside)
            deniers = deniers_of(table, picture, beside)
            for column in deniers:
                for row in table.sample:
                    refuse_denied(table, listed[0], column, row)
            evidence = Evidence(table, picture, listed[0], beside)
    used = {picture, split, *listed, *labels}
    left = tuple(table.header[column] for column in sorted([*others, *aside]) if column not in used)
    return Columns(picture, listed, labels, split, negated, left, deniers, evidence)


def split_column_of(table: LabelTable, options: DataOptions, pictures: Pictures) -> Columns:
    """The columns of the picture and of the split alone, for a table whose labels cannot be read.

    Raises:
        InputError: as for `columns_of`, but for labels.
    """
    picture, _, split, negated = _picture_and_split(table, options, pictures)
    return Columns(picture, (), (), split, negated, ())


def _picture_and_split(
    table: LabelTable, options: DataOptions, pictures: Pictures
) -> tuple[int, list[int], int | None, str | None]:
    """The picture's column, those of --label-columns, and what `_split` returns."""
    picture = _picture(table, options, pictures)
    name = table.header[picture]
    if (
        options.picture_column is None
        and column_key(name) not in (*PICTURE_COLUMNS, *_LAST_RESORT)
        and pictures.afresh().found(name)
    ):
        raise InputError(
            f"{table.path}, line 1: {name!r} is a picture, so {shown(table.header, 4)} is no header; expected the "
            "columns' names above the first row, or --picture-column where it is one"
        )
    chosen = [table.column(name, "--label-columns") for name in options.label_columns]
    split, negated = _split(table, options, picture, chosen)
    return picture, chosen, split, negated


def _names_pictures(table: LabelTable, column: int, options: DataOptions) -> bool:
    """Return whether a column has a usual name of a picture's column, and no answers."""
    return column_key(table.header[column]) in PICTURE_COLUMNS and not _is_values(table, column, options)


def _picture(table: LabelTable, options: DataOptions, pictures: Pictures) -> int:
    if options.picture_column is not None:
        return table.column(options.picture_column, "--picture-column")
    usual = [table.header.index(name) for name in usual_names(table.header)]
    if len(usual) == 1:
        return usual[0]
    # By their contents: those among several with a usual name, otherwise any whose cells are all pictures that exist.
    rows = table.sample[:20]
    places = usual or [column for column in range(len(table.header)) if column not in table.unnamed]
    found = {column: _named_pictures(rows, column, pictures.afresh()) for column in places}
    fitting = [column for column in places if found[column]]
    # Pictures may be called 0.png and 1.png, and then every yes and no names one.
    fitting = [column for column in fitting if not _is_values(table, column, options)] or fitting
    firm = [column for column in fitting if usual or column_key(table.header[column]) not in _LAST_RESORT] or fitting
    if len(firm) > 1:  # several columns may name the same pictures, such as a path and a name
        found = {column: _named_pictures(table.sample, column, pictures.afresh()) for column in firm}
    if firm and all(found[column] == found[firm[0]] for column in firm):
        return firm[0]
    raise InputError(
        f"{table.path}, line 1: {len(firm or usual)} columns for the picture among {shown(table.names)}; expected one "
        f"named {', '.join(PICTURE_COLUMNS[:5])} or the like; --picture-column says which it is"
    )


def _named_pictures(rows: Sequence[list[str]], column: int, pictures: Pictures) -> list[Path]:
    """The pictures that the cells of a column name; none unless each cell names one."""
    found = [pictures.found(row[column].strip()) for row in rows if len(row) > column]
    paths = [path for path in found if path is not None]
    return paths if len(paths) == len(rows) else []


def _split(table: LabelTable, options: DataOptions, picture: int, chosen: list[int]) -> tuple[int | None, str | None]:
    """The column that names the split, and the split's name if the column holds yes and no."""
    if options.split_column is not None:
        column = table.column(options.split_column, "--split-column")
        if column == picture:
            return column, None  # the folder in each name is its split
        return column, table.header[column] if _is_yes_or_no(table, column) else None
    found = []
    for column, name in enumerate(table.header):
        cells = {row[column].strip().lower() for row in table.sample if len(row) > column}
        named = _SPLIT_COLUMN.fullmatch(column_key(name)) is not None
        if column in (picture, *chosen) or column in table.unnamed or not cells:
            continue
        if cells <= SPLIT_NAMES or (named and not _is_values(table, column, DataOptions()) and any(cells)):
            found.append(column)
    if len(found) > 1:
        names = shown([table.header[column] for column in found])
        raise InputError(f"{table.path}, line 1: {names} may each name the split; --split-column says which it is")
    return (found[0], None) if found else (None, None)


def _is_yes_or_no(table: LabelTable, column: int) -> bool:
    values = Values.parse(None)
    cells = {row[column] for row in table.sample if len(row) > column}
    return bool(cells) and all(values.of(cell) in ("yes", "no") for cell in cells)


def _is_values(table: LabelTable, column: int, options: DataOptions) -> bool:
    """Return whether a column's cells all mean yes, no or unknown, and are not all empty."""
    values = Values.parse(options.values)
    cells = {row[column] for row in table.sample if len(row) > column}
    return all(values.of(cell) is not None for cell in cells) and any(canonical(cell) for cell in cells)


def _listed(table: LabelTable, others: list[int], named: Sequence[str] | None) -> int | None:
    """The column that lists labels."""
    found = [column for column in others if column_key(table.header[column]) in LIST_COLUMNS]
    found = [column for column in found if named is None or table.header[column] not in named]
    numbers = [column for column in found if _is_values(table, column, DataOptions())]
    words = [column for column in found if column not in numbers]
    if len(words) > 1:
        first = next((column for column in words if table.header[column] == "labels"), None)
        if first is not None:
            return first
        names = shown([table.header[column] for column in words])
        raise InputError(f"{table.path}, line 1: {names} may each list labels; --label-columns says which it is")
    if not words and found and len(others) == 1 and not any(canonical(row[found[0]]) for row in table.sample):
        return found[0]
    if numbers and (words or len(others) == 1):
        name = table.header[numbers[0]]
        if not words:
            raise InputError(
                f"{table.path}, line 1: column {name!r} holds yes and no, not names; --label-columns "
                f"{names_in_quotes([name])} reads it as one label"
            )
    return words[0] if words else (found[0] if found and not numbers else None)


def _label_columns(
    table: LabelTable,
    others: list[int],
    picture: int,
    split: int | None,
    options: DataOptions,
    named: Sequence[str] | None,
) -> tuple[int, ...]:
    """The columns that are one label each, in the table's order, or in that of labels.txt."""
    path, header = table.path, table.header
    if named is not None:
        missing = next((name for name in named if name not in header), None)
        if missing is not None:
            raise InputError(f"{path}, line 1: no column for label {missing!r} of labels.txt; columns: {shown(header)}")
        rest = [column for column in others if header[column] not in named]
        doubtful = [column for column in rest if _may_split(table, column, split)]
        _refuse_doubtful(table, doubtful, list(named))
        return tuple(header.index(name) for name in named)
    if not others:
        raise InputError(f"{path}, line 1: no column beside {header[picture]!r}; expected one a label, or 'labels'")
    good = [column for column in others if _is_values(table, column, options) or not table.holds(column)]
    bad = [column for column in others if column not in good]
    doubtful = [column for column in good if _is_no_label(table, column, split)]
    _refuse_doubtful(table, doubtful, [header[column] for column in good if column not in doubtful])
    if bad and options.values is None:
        line, cell = _first_unread(table, bad[0])
        raise InputError(
            f"{path}, line {line}: label {header[bad[0]]!r} is {cell[:40]!r}; expected 1, 0, or nothing or -1; "
            f"{options_for(table, good, bad)}"
        )
    return tuple(others)


def _first_unread(table: LabelTable, column: int) -> tuple[int, str]:
    values = Values.parse(None)
    for number, row in table.rows:
        if values.of(row[column]) is None:
            return number, row[column]
    return 1, ""


def _words(name: str) -> set[str]:
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)
    return {*re.split(r"[^a-z0-9]+", apart.lower()), column_key(name)}


def _is_no_label(table: LabelTable, column: int, split: int | None) -> bool:
    """Return whether a column of yes and no is named like a split, an id, a guess, or what describes no content."""
    if column_key(table.header[column]) in NO_CONTENT or _GUESSED.fullmatch(column_key(table.header[column])):
        return True
    words = _words(table.header[column]) & _NO_LABELS
    # A picture may also show a `train`; if the table's own name gives the split, the column is a label.
    said = split is not None or table.path.stem.lower() in SPLIT_NAMES
    return bool(words) and not (said and column_key(table.header[column]) == "train")


def _may_split(table: LabelTable, column: int, split: int | None) -> bool:
    return split is None and bool(_words(table.header[column]) & _SPLIT_WORDS) and _is_yes_or_no(table, column)


def _refuse_doubtful(table: LabelTable, doubtful: list[int], labels: list[str], option: str = "") -> None:
    if doubtful:
        name, *more = (table.header[column] for column in doubtful)
        them = f"it (and {shown(more, 3)})" if more and (labels or option) else "it"
        if chosen := labels or more:
            option = option or f"--label-columns {names_in_quotes(chosen)}"
        out = f"{option or '--label-columns'} leaves {them} out"
        raise InputError(
            f"{table.path}, line 1: column {name!r} holds yes and no, and is named like no label; --split-column "
            f"{in_quotes(name)} reads it as the split, {out}, and with it among --label-columns it is a label"
        )
