"""LabelMe's JSON beside the pictures: root/a.json and root/a.jpg, or both in root/<split>/.

{"flags": {"indoor": true, "night": false}, "shapes": [{"label": "boat", ...}], "imagePath": "a.jpg"}

A picture has the flags that are true and the labels of its shapes; `_background_` is no label. A picture without a file
has no label; of one with the flag `__ignore__` or a shape of that name, nobody knows the labels that it does not name.
Labels are in alphabetical order over all splits; without folders of splits, the one split is `all`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.contents import Contents
from edgepress.multilabel.datasets.denials import denied_in_json
from edgepress.multilabel.datasets.finding import Pictures
from edgepress.multilabel.datasets.named_labels import Item, contents_of
from edgepress.multilabel.datasets.options import DataOptions
from edgepress.multilabel.errors import InputError, shown
from edgepress.multilabel.plural import plural

LOOKS_FOR = "<picture>.json with imagePath and shapes beside the pictures (LabelMe)"
OPTIONS: frozenset[str] = frozenset()

_ALL = "all"
_IGNORE, _BACKGROUND = "__ignore__", "_background_"
"""The names that LabelMe reserves for what is not to be looked at, and for what is nothing."""
_EXPECTED = "LabelMe's JSON"


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
    labels = {label for items, _, _ in read.values() for item in items for label in item.labels}
    labels |= {name for _, names, _ in read.values() for name in names}
    folder, (own, _, flags) = found[split], read[split]
    annotated = {Path(item.picture).stem for item in own}
    bare = [name for name in files.named_as(folder, files.PICTURE_SUFFIXES) if Path(name).stem not in annotated]
    notes = [files.unannotated(len(bare))] if bare else []
    if hidden := sum(not item.complete for item in own):
        said = plural(hidden, "picture has", "pictures have")
        notes.append(f"{said} {_IGNORE}: nobody knows the labels that are not named there")
    if flags:
        notes.append(f"flags of shapes are no labels, and are left out: {shown(sorted(flags), 5)}")
    if not own and not bare:
        raise files.empty_split(folder, split)
    whole = sorted([*own, *(Item(name, (), str(folder)) for name in bare)], key=lambda item: item.picture)
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


def _read(folder: Path) -> tuple[list[Item], set[str], set[str]]:
    """The pictures of a folder, the names of all flags, and those of flags that shapes have."""
    items: list[Item] = []
    flags: set[str] = set()
    of_shapes: set[str] = set()
    for name in files.named_as(folder, (".json",)):
        path = folder / name
        content = files.read_json(path, _EXPECTED)
        shapes, picture, own = content.get("shapes"), content.get("imagePath"), _checked(content.get("flags"), path)
        if not isinstance(shapes, list) or not isinstance(picture, str):
            raise InputError(f"{path}: no shapes, or no imagePath; expected {_EXPECTED}")
        labels: list[str] = []
        for shape in shapes:
            label = shape.get("label") if isinstance(shape, dict) else None
            if not isinstance(label, str):
                raise InputError(f"{path}: a shape without a label; expected {_EXPECTED}")
            labels += [label] if label != _BACKGROUND else []
            about = shape.get("flags")
            given = about.items() if isinstance(about, dict) else ()
            of_shapes.update(name for name, value in given if value or denied_in_json(name, value))
        own.pop(_BACKGROUND, None)
        complete = not own.pop(_IGNORE, False) and _IGNORE not in labels
        flags.update(own)
        # imagePath may name a folder of the machine on which it was written; the picture lies beside the file.
        last = picture.replace("\\", "/").rpartition("/")[2]
        has = (*(flag for flag, value in own.items() if value), *(label for label in labels if label != _IGNORE))
        items.append(Item(last, has, str(path), complete))
    return items, flags, of_shapes


def _checked(flags: Any, path: Path) -> dict[str, bool]:
    if flags is None:
        return {}
    if not isinstance(flags, dict) or not all(isinstance(value, bool) for value in flags.values()):
        raise InputError(f"{path}: flags are {str(flags)[:80]!r}; expected names with true or false")
    return flags
