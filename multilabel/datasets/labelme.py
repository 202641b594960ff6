"""LabelMe's JSON beside the pictures: root/a.json and root/a.jpg, or both in root/<split>/.

{"flags": {"indoor": true, "night": false}, "shapes": [{"label": "boat", ...}], "imagePath": "a.jpg"}

A picture has the flags that are true and the labels of its shapes; `_background_` is no label. A picture without a file
has no label; of one with the flag `__ignore__` or a shape of that name, nobody knows the labels that it does not name.
A file belongs to the picture of its own name, because imagePath stays as it was when files are copied or renamed; where
there is no such picture, it belongs to the one that imagePath names. X-AnyLabeling writes the same files, with a score
where a model drew the shape.
Labels are in alphabetical order over all splits; without folders of splits, the one split is `all`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.contents import Contents
from edgepress.multilabel.datasets.denials import denied_in_json
from edgepress.multilabel.datasets.finding import Pictures
from edgepress.multilabel.datasets.named_labels import Item, contents_of
from edgepress.multilabel.datasets.options import DataOptions
from edgepress.multilabel.datasets.values import Values
from edgepress.multilabel.errors import InputError, shown
from edgepress.multilabel.labels import one_form
from edgepress.multilabel.plural import plural

LOOKS_FOR = "<picture>.json with imagePath and shapes beside the pictures (LabelMe)"
OPTIONS: frozenset[str] = frozenset()

_ALL = "all"
_IGNORE, _BACKGROUND = "__ignore__", "_background_"
"""The names that LabelMe reserves for what is not to be looked at, and for what is nothing."""
_EXPECTED = "LabelMe's JSON"
_VALUES = Values.parse(None)


@dataclass
class _Folder:
    """What the files of a folder say."""

    items: list[Item] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)
    """The names of all flags of pictures, true or not."""
    of_shapes: set[str] = field(default_factory=set)
    """The names of flags that shapes have."""
    attributes: set[str] = field(default_factory=set)
    """The names of attributes that shapes have (X-AnyLabeling)."""
    guessed: int = 0
    """Shapes with a score between 0 and 1."""
    denied: int = 0
    """Shapes with a score of 0."""
    difficult: int = 0
    renamed: list[str] = field(default_factory=list)
    """The files that name another picture than the one with their own name."""
    alone: list[str] = field(default_factory=list)
    """The files that name a picture, while none has their own name."""

    def notes(self) -> list[str]:
        notes = []
        if hidden := sum(not item.complete for item in self.items):
            said = plural(hidden, "picture has", "pictures have")
            notes.append(f"{said} {_IGNORE}: nobody knows the labels that are not named there")
        for name, found in (("flags", self.of_shapes), ("attributes", self.attributes)):
            if found:
                notes.append(f"{name} of shapes are no labels, and are left out: {shown(sorted(found), 5)}")
        if self.guessed:
            said = plural(self.guessed, "shape has a model's score, and is", "shapes have a model's score, and are")
            notes.append(f"{said} read as the others are")
        if self.denied:
            said = plural(self.denied, "shape has a score of 0, and is", "shapes have a score of 0, and are")
            notes.append(f"{said} left out, because 0 says no")
        if self.difficult:
            said = plural(self.difficult, "shape is", "shapes are")
            notes.append(f"{said} marked as difficult (difficult: true), and read as the others are")
        if self.renamed:
            said = "read as of the pictures with their own names, although imagePath differs"
            notes.append(f"{said}: {shown(self.renamed, 3)}")
        if self.alone:
            said = "read as of the pictures that imagePath names, because none has the file's own name"
            notes.append(f"{said}: {shown(self.alone, 3)}")
        return notes


def recognise(root: Path, options: DataOptions) -> bool:
    """Return whether the folder looks like this layout."""
    return bool(_folders(root))


def splits(root: Path, options: DataOptions) -> list[str]:
    """The folders that hold such files; `all` for the root."""
    return sorted(_folders(root))


def read(root: Path, split: str, options: DataOptions) -> Contents:
    """Read one split, in the order of the pictures' names.

    Raises:
        InputError: as for `load_dataset`; also a file that is not LabelMe's, or a flag that is neither true nor false.
    """
    files.plain(split, f"split {split!r}")
    found = _folders(root)
    if split not in found:
        raise files.unknown_split(root, split, f"{split}/<picture>.json", sorted(found))
    read = {name: _read(folder) for name, folder in found.items()}
    labels = {label for each in read.values() for item in each.items for label in item.labels}
    labels |= {name for each in read.values() for name in each.flags}
    folder, own = found[split], read[split]
    annotated = {Path(item.picture).stem for item in own.items}
    bare = [name for name in files.named_as(folder, files.PICTURE_SUFFIXES) if Path(name).stem not in annotated]
    notes = [*([files.unannotated(len(bare))] if bare else []), *own.notes()]
    if not own.items and not bare:
        raise files.empty_split(folder, split)
    whole = sorted([*own.items, *(Item(name, (), str(folder)) for name in bare)], key=lambda item: item.picture)
    return contents_of(whole, sorted(labels), Pictures(folder), folder, notes)


def _folders(root: Path) -> dict[str, Path]:
    if _fits(root):
        return {_ALL: root}
    return {name: root / name for name in files.folders_of(root) if _fits(root / name)}


def _fits(folder: Path) -> bool:
    """Return whether the first file that is named like a picture is LabelMe's."""
    stems = {Path(name).stem for name in files.named_as(folder, files.PICTURE_SUFFIXES)}
    first = next((name for name in files.named_as(folder, (".json",)) if Path(name).stem in stems), None)
    return first is not None and files.mentions(folder / first, '"shapes"', '"imagePath"')


def _read(folder: Path) -> _Folder:
    found = _Folder()
    beside: dict[str, list[str]] = {}
    for name in files.named_as(folder, files.PICTURE_SUFFIXES):
        beside.setdefault(Path(name).stem, []).append(name)
    for name in files.named_as(folder, (".json",)):
        path = folder / name
        content = files.read_json(path, _EXPECTED)
        shapes, picture, own = content.get("shapes"), content.get("imagePath"), _checked(content.get("flags"), path)
        if not isinstance(shapes, list) or not isinstance(picture, str):
            raise InputError(f"{path}: no shapes, or no imagePath; expected {_EXPECTED}")
        labels = [label for number, shape in enumerate(shapes) for label in _label(shape, number, path, found)]
        own.pop(_BACKGROUND, None)
        complete = not own.pop(_IGNORE, False) and _IGNORE not in labels
        found.flags.update(own)
        has = (*(flag for flag, value in own.items() if value), *(label for label in labels if label != _IGNORE))
        found.items.append(Item(_picture(path, picture, beside.get(path.stem, []), found), has, str(path), complete))
    return found


def _label(shape: Any, number: int, path: Path, found: _Folder) -> list[str]:
    """The label of a shape; none for the background, and for what a score of 0 denies.

    Raises:
        InputError: it has no label, or a score between 0 and 1, which a machine guessed.
    """
    label = shape.get("label") if isinstance(shape, dict) else None
    if not isinstance(label, str):
        raise InputError(f"{path}: a shape without a label; expected {_EXPECTED}")
    for key, names in (("flags", found.of_shapes), ("attributes", found.attributes)):
        about = shape.get(key)
        given = about.items() if isinstance(about, dict) else ()
        names.update(name for name, value in given if value or denied_in_json(name, value))
    score, difficult = shape.get("score"), shape.get("difficult")
    if isinstance(score, int | float) and 0 < score < 1:
        found.guessed += 1  # X-AnyLabeling keeps a model's score when a person has looked at the shape
    elif score not in (None, "") and not files.score_says_yes(score, f"{path}, shapes[{number}] ({label!r})"):
        found.denied += 1
        return []
    found.difficult += bool(difficult) and _VALUES.of(str(difficult)) != "no"
    return [label] if label != _BACKGROUND else []


def _picture(path: Path, named: str, own: list[str], found: _Folder) -> str:
    """The picture of a file.

    Args:
        named: its imagePath, which may name a folder of the machine on which it was written; pictures lie beside files.
        own: the pictures beside it with its own name.
    """
    last = named.replace("\\", "/").rpartition("/")[2]
    if last in own:
        return last
    same = _spelt(Path(last).stem) == _spelt(path.stem)
    if not own:
        found.alone += [] if same else [f"{path.name} names {last}"]
        return last
    found.renamed += [] if same or not last else [f"{path.name} names {last}"]
    alike = [name for name in own if _spelt(name) == _spelt(last)] or own
    return alike[0] if len(alike) == 1 else path.stem  # of several nobody knows which


def _spelt(name: str) -> str:
    return one_form(name).casefold()


def _checked(flags: Any, path: Path) -> dict[str, bool]:
    if flags is None:
        return {}
    if not isinstance(flags, dict) or not all(isinstance(value, bool) for value in flags.values()):
        raise InputError(f"{path}: flags are {str(flags)[:80]!r}; expected names with true or false")
    return flags
