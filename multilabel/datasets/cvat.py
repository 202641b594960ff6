"""CVAT's export "CVAT for images": root/annotations.xml and root/images/.

root/annotations.xml           the `subset` of an <image> is the split, or `default` if there is none
root/<split>.xml               one file a split, as Datumaro writes it
root/<split>/annotations.xml   one export a split

Every <image> has the names of its tags and shapes. Labels are in the order of the task's labels in <meta>, otherwise
in alphabetical order. A picture without a tag has no label. Attributes are no labels, nor are the points of skeletons,
which the task declares as labels with a <parent>.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.contents import Contents
from edgepress.multilabel.datasets.elsewhere import Elsewhere
from edgepress.multilabel.datasets.finding import Pictures
from edgepress.multilabel.datasets.options import DataOptions
from edgepress.multilabel.datasets.voc_annotations import parse_xml
from edgepress.multilabel.errors import InputError, shown
from edgepress.multilabel.labels import one_form
from edgepress.multilabel.plural import plural

LOOKS_FOR = "annotations.xml, or <split>.xml, with <image> and <tag> (CVAT for images)"
OPTIONS: frozenset[str] = frozenset()

_FILE, _DEFAULT = "annotations.xml", "default"
_ALL = ""
"""The key of the file that holds every split."""
_SPEAKS = ("<annotations", "<image ")
_MAX_BYTES = 1024 * 1024 * 1024


def recognise(root: Path, options: DataOptions) -> bool:
    """Return whether the folder looks like this layout."""
    return bool(_files(root))


def splits(root: Path, options: DataOptions) -> list[str]:
    """The subsets of the pictures, or one split a file."""
    found = _files(root)
    if _ALL in found:
        return files.unlike_splits({_subset(image) for image in _images(found[_ALL])}, f"{found[_ALL]}: subset")
    return sorted(found)


def read(root: Path, split: str, options: DataOptions) -> Contents:
    """Read one split, in the file's order.

    Raises:
        InputError: as for `load_dataset`; also a picture without a name, or one that occurs twice.
    """
    files.plain(split, f"split {split!r}")
    found = _files(root)
    if split not in (known := splits(root, options)):
        raise files.unknown_split(root, split, f"<image subset={split!r}> in {_FILE}, and no {split}.xml", known)
    path = found.get(_ALL) or found[split]
    parsed = {one: _parse(one) for one in found.values()}
    labels = files.label_space(_names(parsed.values()), str(path))
    if tracks := sum(1 for _ in parsed[path].iter("track")):
        raise InputError(
            f"{path}: {plural(tracks, 'track')} of a video, whose frames are no files; export the task "
            "as CVAT for images"
        )
    images = [image for image in parsed[path].iter("image") if _ALL not in found or _subset(image) == split]
    if not images:
        raise files.empty_split(path, split)
    pictures = Pictures(
        path.parent / "images" / split,
        path.parent / "images",
        path.parent / split,
        path.parent,
        root / "images",
        elsewhere=Elsewhere(root, split),
    )
    rows: dict[Path, int] = {}
    targets = np.zeros((len(images), len(labels)), dtype=np.uint8)
    for row, image in enumerate(images):
        where = f"{path}, image {image.get('id', row)}"
        if rows.setdefault(pictures.find(image.get("name") or "", where), row) != row:
            raise InputError(f"{where}: {image.get('name')!r} occurs twice; expected each picture once")
        targets[row, [labels.index(label) for label in _labels(image)]] = 1
    notes = list(pictures.notes)
    if attributes := sorted({one.get("name") or "" for image in images for one in image.iter("attribute")}):
        notes.append(f"{path.name}: attributes of labels are no labels, and are left out: {shown(attributes, 5)}")
    if automatic := sum(item.get("source") == "auto" for image in images for item in image):
        notes.append(f"{path.name}: {plural(automatic, 'label has', 'labels have')} the source auto, a model's")
    if parts := [name for name in _declared(parsed[path], parts=True) if name not in labels]:
        notes.append(
            f"{path.name}: parts of skeletons are no labels, and are left out: {shown(dict.fromkeys(parts), 5)}"
        )
    ignore = np.zeros(targets.shape, dtype=bool)
    return Contents(labels=labels, paths=list(rows), targets=targets, ignore=ignore, notes=tuple(notes))


def _files(root: Path) -> dict[str, Path]:
    """The file of all splits under the key `_ALL`, or the file of each split."""
    if files.mentions(root / _FILE, *_SPEAKS):
        return {_ALL: root / _FILE}
    names = files.named_as(root, (".xml",))
    found = {name[: -len(".xml")]: root / name for name in names if files.mentions(root / name, *_SPEAKS)}
    folders = files.folders_of(root) if not found else []
    return found or {name: root / name / _FILE for name in folders if files.mentions(root / name / _FILE, *_SPEAKS)}


def _parse(path: Path) -> ElementTree.Element:
    return parse_xml(path, "CVAT's annotations in XML", _MAX_BYTES)


def _images(path: Path) -> Iterator[ElementTree.Element]:
    return _parse(path).iter("image")


def _names(parsed: Iterable[ElementTree.Element]) -> list[str]:
    """The labels of all files: first those that tasks declare, in their order."""
    parsed = list(parsed)
    declared = [name for one in parsed for name in _declared(one)]
    used = {label for one in parsed for image in one.iter("image") for label in _labels(image)}
    return list(dict.fromkeys(map(one_form, [*declared, *sorted(used)])))


def _declared(parsed: ElementTree.Element, *, parts: bool = False) -> list[str]:
    """The labels that a task declares, or the parts of its skeletons, which it declares as labels with a parent."""
    return [
        one_form((label.findtext("name") or "").strip())
        for label in parsed.iterfind("./meta//labels/label")
        if label.find("name") is not None and bool((label.findtext("parent") or "").strip()) == parts
    ]


def _subset(image: ElementTree.Element) -> str:
    return (image.get("subset") or "").strip() or _DEFAULT


def _labels(image: ElementTree.Element) -> set[str]:
    return {label.strip() for item in image if (label := item.get("label"))}
