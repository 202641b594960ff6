"""CVAT's export "CVAT for images": root/annotations.xml and root/images/.

Every <image> has the names of its tags and shapes; its `subset` is the split, or `default` if there is none. Labels
are in the order of the task's labels in <meta>, otherwise in alphabetical order. A picture without a tag has no label.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.contents import Contents
from edgepress.multilabel.datasets.finding import Pictures
from edgepress.multilabel.datasets.options import DataOptions
from edgepress.multilabel.datasets.voc_annotations import parse_xml
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import one_form

LOOKS_FOR = "annotations.xml with <image> and <tag> (CVAT for images)"
OPTIONS: frozenset[str] = frozenset()

_FILE, _DEFAULT = "annotations.xml", "default"
_MAX_BYTES = 1024 * 1024 * 1024


def recognise(root: Path, options: DataOptions) -> bool:
    """Return whether the folder looks like this layout."""
    return files.mentions(root / _FILE, "<annotations", "<image ")


def splits(root: Path, options: DataOptions) -> list[str]:
    """The subsets of the pictures."""
    return sorted({_subset(image) for image in _parse(root).iter("image")})


def read(root: Path, split: str, options: DataOptions) -> Contents:
    """Read one split, in the file's order.

    Raises:
        InputError: as for `load_dataset`; also a picture without a name, or one that occurs twice.
    """
    files.plain(split, f"split {split!r}")
    parsed, path = _parse(root), root / _FILE
    images = list(parsed.iter("image"))
    known = sorted({_subset(image) for image in images})
    if split not in known:
        raise files.unknown_split(root, split, f'<image subset="{split}"> in {_FILE}', known)
    declared = [(item.text or "").strip() for item in parsed.iterfind("./meta//labels/label/name")]
    used = {label for image in images for label in _labels(image)}
    labels = files.label_space(dict.fromkeys(map(one_form, [*declared, *sorted(used)])), str(path))
    pictures = Pictures(root / "images" / split, root / "images", root / split, root)
    paths: list[Path] = []
    seen: dict[Path, int] = {}
    cells: list[tuple[int, int]] = []
    for number, image in enumerate(images):
        if _subset(image) != split:
            continue
        where = f"{path}, image {image.get('id', number)}"
        found = pictures.find(image.get("name") or "", where)
        if seen.setdefault(found, number) != number:
            raise InputError(f"{where}: {image.get('name')!r} stands twice; expected each picture once")
        cells += [(len(paths), labels.index(label)) for label in _labels(image)]
        paths.append(found)
    targets = np.zeros((len(paths), len(labels)), dtype=np.uint8)
    if cells:
        targets[tuple(np.array(cells).T)] = 1
    ignore = np.zeros(targets.shape, dtype=bool)
    return Contents(labels=labels, paths=paths, targets=targets, ignore=ignore, notes=tuple(pictures.notes))


def _parse(root: Path) -> ElementTree.Element:
    return parse_xml(root / _FILE, "CVAT's annotations in XML", _MAX_BYTES)


def _subset(image: ElementTree.Element) -> str:
    return (image.get("subset") or "").strip() or _DEFAULT


def _labels(image: ElementTree.Element) -> set[str]:
    return {label.strip() for item in image if (label := item.get("label"))}
