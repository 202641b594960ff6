"""Columns of a table that hold a trace of a label in a picture: an outline, a box, a number of objects.

Where the rows of one label have a trace in some pictures and none in others, the row names the label and denies it, as
tables of masks do that have a row for each picture and class. A label that never has a trace (`No finding`) is a label
all the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from edgepress.multilabel.datasets.advice import option_for_lists
from edgepress.multilabel.datasets.tables import LabelTable, column_key
from edgepress.multilabel.datasets.values import is_empty
from edgepress.multilabel.errors import InputError

_OUTLINE = re.compile(
    r"(encoded_?)?(pixels|rle)|rles|(seg(mentation)?|mask|polygon|contour)s?(_(rle|path|file|name|points|image))?"
    r"|(bound(ing)?_?)?box(es)?|bboxes|bbox(es)?"
    r"|[xy]_?(min|max|[0-3]|top|bottom|left|right|cent(er|re))|(cent(er|re)|top|bottom|left|right)_?[xy]"
)
"""Columns of outlines and boxes, which are empty where there is none."""
_AMOUNT = re.compile(
    r"(n|no|num|nr|number)_?(of_)?(objects?|instances?|box(es)?|pixels|annotations?|regions?|detections?)"
    r"|(object|instance|box|pixel|region|detection)_?counts?|(mask_|bbox_|box_|pixel_)?area|(yes|positive)_votes"
)
"""Columns of amounts, which are 0 or empty where there is nothing."""
_SURE = frozenset("123456789")
"""What cells begin with that surely hold something, as most do."""
_NUMBER = re.compile(r"\d+([.,]\d*)?(e[+-]?\d+)?", re.IGNORECASE)


class Evidence:
    """What the rows of a table's labels have had so far in the columns that hold a trace of a label.

    A table in which no picture has several rows may have outlines of some pictures alone, so nothing is asked of it.

    Args:
        picture: the column that names the picture.
        listed: the column that names the label.
        others: the columns that are no labels.
    """

    def __init__(self, table: LabelTable, picture: int, listed: int, others: Sequence[int]) -> None:
        self._table, self._listed = table, listed
        names = [row[picture] for row in table.sample if len(row) > picture]
        keys = {column: column_key(table.header[column]) for column in others} if len(set(names)) < len(names) else {}
        self._amounts = [column for column, key in keys.items() if _AMOUNT.fullmatch(key) and self._is_numeric(column)]
        self._columns = [column for column in keys if column in self._amounts or _OUTLINE.fullmatch(keys[column])]
        self._seen: dict[tuple[int, str], bool] = {}
        self._filled: set[str] = set()
        """Labels that had a trace in every column: their next rows are most often of the same kind."""
        self._width = max((listed, *self._columns)) + 1
        for row in table.sample:
            self.add(row)

    def add(self, row: Sequence[str]) -> None:
        """Look at a row.

        Raises:
            InputError: its label has a trace here and none in another row, or the other way round; the message names
                the column, the label and the option that takes every row for a yes.
        """
        if not self._columns or len(row) < self._width:
            return
        label = row[self._listed].strip()
        cells = [row[column][:1] for column in self._columns]
        filled = "" not in cells and _SURE.issuperset(cells)
        if filled and label in self._filled:
            return
        if filled:
            self._filled.add(label)
        for column in self._columns:
            there = filled or not self._is_nothing(row[column], column)
            if self._seen.setdefault((column, label), there) != there:
                raise InputError(
                    f"{self._table.path}: column {self._table.header[column]!r} holds something in some rows of "
                    f"{self._table.header[self._listed]!r} {label[:40]!r} and nothing in others, and may say whether a "
                    f"picture has the label; {option_for_lists(self._table, [self._listed])} takes every row for a "
                    "yes; otherwise empty the label's cell in the rows that hold nothing"
                )

    def _is_numeric(self, column: int) -> bool:
        cells = [row[column] for row in self._table.sample if len(row) > column and not is_empty(row[column])]
        return all(_NUMBER.fullmatch(cell.strip()) for cell in cells)

    def _is_nothing(self, cell: str, column: int) -> bool:
        text = cell.strip()
        if is_empty(text) or not text.strip("[](){} "):
            return True
        return column in self._amounts and re.fullmatch(r"0+([.,]0*)?", text) is not None
