"""DataOptions: what a person specifies about a data set because its files do not say it themselves."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator

from edgepress.multilabel.config import Config
from edgepress.multilabel.datasets.values import Values
from edgepress.multilabel.errors import InputError

Format = Literal[
    "auto",
    "imagefolder",
    "voc",
    "coco",
    "datumaro",
    "nuswide",
    "roboflow",
    "openimages",
    "fiftyone",
    "cvat",
    "labelstudio",
    "labelme",
    "celeba",
    "vertex",
    "groundtruth",
    "azureml",
    "csv",
    "tags",
    "webdataset",
    "folders",
]
Difficult = Literal["ignore", "positive", "negative"]
"""What a label counts as if a picture shows only difficult objects of it."""


_EVERY_FORMATS = ("format", "no_label", "label_groups")
"""The options that every format uses."""


class UnusedOptionError(InputError):
    """An option that the data set's format does not use. Exit code 2."""

    def __init__(self, option: str, message: str) -> None:
        super().__init__(message)
        self.option = option


class DataOptions(Config):
    """How a data set is read. Every field has a value that fits where nothing needs to be said."""

    format: Format = "auto"
    """How the folder is laid out."""
    difficult: Difficult = "ignore"
    """What Pascal VOC's difficult objects count as."""
    values: str | None = None
    """What the cells of a table mean, such as yes=1,no=-1,unknown=0; empty=no says it of empty ones."""
    picture_column: str | None = None
    """The column of a table that names the picture."""
    label_columns: tuple[str, ...] = ()
    """The columns of a table that are labels, or the one that lists them; all others are left out."""
    split_column: str | None = None
    """The column of a table that names the split; of a column of yes and no, yes is the split that it names."""
    separator: str | None = None
    """What separates the labels of a cell that lists them, such as ',' or ' '; none where a cell is one label."""
    no_label: tuple[str, ...] = ()
    """Names that say that a picture has no label, such as No Finding; they are no labels."""
    label_groups: str | None = None
    """A YAML file of labels that exclude each other and labels that imply others; by default labels.yaml in the data
    set's folder, if there is one."""

    @field_validator("label_columns", "no_label", mode="before")
    @classmethod
    def _by_commas(cls, given: Any) -> Any:
        """Split a text that lists names by commas, with quotes around a name that contains one."""
        is_text = isinstance(given, str) and given != ""
        return tuple(next(csv.reader([given], skipinitialspace=True), ())) if is_text else given

    @field_validator("values")
    @classmethod
    def _are_read(cls, values: str | None) -> str | None:
        if values is not None:
            try:
                Values.parse(values)
            except InputError as error:
                raise ValueError(str(error)) from None
        return values

    def as_flags(self) -> list[str]:
        """The options of a command that reads a data set so, without those that have their default."""
        flags: list[str] = []
        for name, field in type(self).model_fields.items():
            if (value := getattr(self, name)) != field.default:
                flags += [f"--{name.replace('_', '-')}", value if isinstance(value, str) else _joined(value)]
        return flags

    def refuse_unused(self, root: Path, format: str, used: frozenset[str]) -> None:
        """Raise an error if an option was given that the format does not use.

        Raises:
            UnusedOptionError: there is such an option; the message names it and the format.
        """
        for name, field in type(self).model_fields.items():
            if name not in used and name not in _EVERY_FORMATS and getattr(self, name) != field.default:
                meant = "Pascal VOC" if name == "difficult" else "tables"
                flag = f"{name}={getattr(self, name)!r}"
                raise UnusedOptionError(
                    name, f"{flag} is for {meant}; {root} is read as {format}, which does not use it"
                )


def in_quotes(text: str) -> str:
    """A text as a shell reads it, for commands in messages.

    Example:
        >>> print(in_quotes("cat, dog"), in_quotes("it's"), in_quotes("\\t"))
        'cat, dog' 'it'\\''s' $'\\t'
    """
    if text.isprintable():
        return "'" + text.replace("'", r"'\''") + "'"
    return "$'" + "".join(map(_escaped, text)) + "'"


def names_in_quotes(names: Sequence[str]) -> str:
    """Names as a shell reads them, with commas between them: the value of --label-columns or --no-label.

    Example:
        >>> print(names_in_quotes(["cat", "big, dog"]))
        'cat,"big, dog"'
    """
    return in_quotes(_joined(names))


def _escaped(char: str) -> str:
    """A character within $'...'."""
    if char in "\\'":
        return f"\\{char}"
    if char.isprintable():
        return char
    return repr(char)[1:-1] if char.isascii() else f"\\U{ord(char):08x}"


def _joined(names: Sequence[str]) -> str:
    """Names with commas between them, as `label_columns` takes them."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(names)
    return line.getvalue()
