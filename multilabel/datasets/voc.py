"""Pascal VOC, and what is laid out like it.

VOC2007/ImageSets/Main/<split>.txt          picture ids, one a line
VOC2007/ImageSets/Main/<label>_<split>.txt  id and 1 (present), 0 (only difficult objects) or -1 (absent)
VOC2007/Annotations/<id>.xml                objects with <name> and <difficult>; read where a label's list is missing
VOC2007/JPEGImages/<id>.jpg

The root is the year's folder or the VOCdevkit above it. Labels are in alphabetical order, the usual one of the field.
Without any list in ImageSets/Main there is one split, `all`: every annotation.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Literal, get_args
from xml.etree import ElementTree

import numpy as np

from edgepress.multilabel.datasets import files
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace

LOOKS_FOR = "JPEGImages and ImageSets/Main or Annotations, there or in one folder below (Pascal VOC)"
MAX_XML_BYTES = 4 * 1024 * 1024

Difficult = Literal["ignore", "positive", "negative"]
"""What a label is of which a picture holds only objects marked difficult."""

_ALL = "all"
_SUFFIXES = tuple(suffix for name in files.PICTURE_SUFFIXES for suffix in (name, name.upper()))
_VALUES = {"1": 1, "+1": 1, "0": 0, "-1": -1}


def recognise(root: Path) -> bool:
    """Does the folder, or one in it, look like this layout?"""
    return bool(_years(root))


def splits(root: Path) -> list[str]:
    """The names of the lists in ImageSets/Main; `all` where there is none."""
    year = _year(root)
    lists, _ = _lists(year)
    return sorted(lists) or ([_ALL] if any((year / "Annotations").glob("*.xml")) else [])


def read(
    root: Path, split: str, *, difficult: Difficult = "ignore"
) -> tuple[LabelSpace, list[Path], np.ndarray, np.ndarray]:
    """Labels, paths `[N]`, targets uint8 `[N, C]` and ignore mask bool `[N, C]` of one split, in the list's order.

    A label with an object that is not difficult is positive whatever else the picture holds.

    Args:
        root: the folder of a year, or the VOCdevkit above a single one.
        split: train, val, trainval, test or any other list's name.
        difficult: what a label with only difficult objects counts as.

    Raises:
        InputError: as `load_dataset`; several years; an annotation that is no XML, is larger than `MAX_XML_BYTES` or
            declares a DOCTYPE or an ENTITY; a label's list that does not cover the split.
    """
    if difficult not in get_args(Difficult):
        raise InputError(f"difficult is {difficult!r}; expected one of {', '.join(get_args(Difficult))}")
    files.plain(split, f"split {split!r}")
    year = _year(root)
    lists, by_class = _lists(year)
    if split not in splits(root):
        raise files.unknown_split(root, split, f"ImageSets/Main/{split}.txt", splits(root))
    annotations = {} if by_class else _annotations(year / "Annotations")
    labels = files.label_space(
        sorted({label for label, _ in by_class} or {name for names in annotations.values() for name in names}),
        f"{year / 'ImageSets' / 'Main'} and {year / 'Annotations'}",
    )
    rows = _ids(lists[split]) if lists else [(name, f"{year / 'Annotations' / name}.xml") for name in annotations]
    if not rows:
        raise files.empty_split(lists.get(split, year), split)
    pictures = files.Pictures(year / "JPEGImages")
    paths = [_picture(pictures, name, where) for name, where in rows]
    ids = [name for name, _ in rows]
    if all((label, split) in by_class for label in labels):
        present = np.stack([_column(by_class[label, split], ids, split) for label in labels], axis=1)
    elif not (year / "Annotations").is_dir():
        missing = next(label for label in labels if (label, split) not in by_class)
        raise InputError(f"{year / 'ImageSets' / 'Main' / f'{missing}_{split}.txt'}: no such file, and no Annotations")
    else:
        present = _from_objects(year / "Annotations", rows, labels, annotations)
    hard = present == 0
    targets = (present == 1) | hard if difficult == "positive" else present == 1
    ignore = hard if difficult == "ignore" else np.zeros_like(hard)
    return labels, paths, targets.astype(np.uint8), ignore


def _years(root: Path) -> list[Path]:
    found = [folder for folder in (root, *(root / name for name in files.folders_of(root))) if _is_year(folder)]
    return found[:1] if root in found else found


def _is_year(folder: Path) -> bool:
    labelled = (folder / "Annotations").is_dir() or (folder / "ImageSets" / "Main").is_dir()
    return labelled and (folder / "JPEGImages").is_dir()


def _year(root: Path) -> Path:
    years = _years(root)
    if not years:
        raise InputError(f"{root}: no Pascal VOC; expected {LOOKS_FOR}")
    if len(years) > 1:
        raise InputError(f"{root}: several years ({', '.join(year.name for year in years)}); give the folder of one")
    return years[0]


def _lists(year: Path) -> tuple[dict[str, Path], dict[tuple[str, str], Path]]:
    """The list of every split, and the list of every (label, split)."""
    main = year / "ImageSets" / "Main"
    found = {name.removesuffix(".txt"): main / name for name in files.files_of(main) if name.endswith(".txt")}
    graded = {stem for stem, path in found.items() if "_" in stem and _is_graded(path)}
    lists = {stem: path for stem, path in found.items() if stem not in graded}
    by_class = {}
    for stem in sorted(graded):
        split = max((split for split in lists if stem.endswith(f"_{split}")), key=len, default=None)
        if split is not None and stem != f"_{split}":
            by_class[stem.removesuffix(f"_{split}"), split] = found[stem]
    return lists, by_class


def _is_graded(path: Path) -> bool:
    """Does the first line hold an id and a value, as a label's list does?"""
    with path.open("rb") as file:
        words = file.readline(4096).split()
    return len(words) > 1 and words[-1].decode("utf-8", "replace") in _VALUES


def _ids(path: Path) -> list[tuple[str, str]]:
    """Id and where it stands, of every line."""
    rows, once = [], files.Once()
    for number, name in files.numbered_lines(path, "one picture id a line"):
        where = f"{path}, line {number}"
        once.add(name, number, where)
        rows.append((str(files.inside(name, where)), where))
    return rows


def _picture(pictures: files.Pictures, name: str, where: str) -> Path:
    for suffix in _SUFFIXES:
        path = pictures.listed(PurePosixPath(name + suffix))
        if path is not None:
            return path
    return pictures.find(PurePosixPath(f"{name}.jpg"), where)


def _column(path: Path, ids: list[str], split: str) -> np.ndarray:
    """int8 `[N]` of a label's list: 1 present, 0 difficult, -1 absent."""
    values: dict[str, int] = {}
    once, known = files.Once(), set(ids)
    for number, line in files.numbered_lines(path, "a picture id and 1, 0 or -1 a line"):
        words = line.rsplit(None, 1)
        if len(words) != 2 or words[1] not in _VALUES:
            raise InputError(f"{path}, line {number}: {line[:80]!r}; expected a picture id and 1, 0 or -1")
        once.add(words[0], number, f"{path}, line {number}")
        if words[0] not in known:
            raise InputError(f"{path}, line {number}: picture {words[0]!r} is not in {split}.txt")
        values[words[0]] = _VALUES[words[1]]
    if len(values) != len(ids):
        missing = next(name for name in ids if name not in values)
        raise InputError(f"{path}: no line for picture {missing!r}, which {split}.txt names")
    return np.array([values[name] for name in ids], dtype=np.int8)


def _annotations(folder: Path) -> dict[str, dict[str, int]]:
    """Id to objects, of every annotation, sorted by id."""
    found = {path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.rglob("*.xml")}
    return {name: _objects(found[name]) for name in sorted(found)}


def _from_objects(
    folder: Path, rows: Iterable[tuple[str, str]], labels: LabelSpace, annotations: dict[str, dict[str, int]]
) -> np.ndarray:
    """int8 `[N, C]` from annotations: 1 present, 0 only difficult objects, -1 absent."""
    rows = list(rows)
    present = np.full((len(rows), len(labels)), -1, dtype=np.int8)
    for row, (name, where) in enumerate(rows):
        path = folder / f"{name}.xml"
        if name not in annotations and not files.is_file(path):
            raise InputError(f"{path}: no such file, named by {where}")
        for label, value in (annotations[name] if name in annotations else _objects(path)).items():
            if label not in labels:
                raise InputError(f"{path}: label {label!r} has no list in ImageSets/Main, where other labels have one")
            present[row, labels.index(label)] = value
    return present


def _objects(path: Path) -> dict[str, int]:
    """Label to 1, or to 0 when all of its objects are difficult."""
    text = files.read_text(path, "an annotation in XML", MAX_XML_BYTES)
    # Entities can make a few bytes into gigabytes, and read other files; an annotation needs neither them nor a DTD.
    if "<!doctype" in (lowered := text.lower()) or "<!entity" in lowered:
        raise InputError(f"{path}: declares a DOCTYPE or an ENTITY; expected a plain annotation")
    try:
        root = ElementTree.fromstring(text)  # noqa: S314
    except (ElementTree.ParseError, ValueError) as error:
        raise InputError(f"{path}: not XML ({error}); expected an annotation") from None
    found: dict[str, int] = {}
    for number, item in enumerate(root.findall("object"), start=1):
        name = (item.findtext("name") or "").strip()
        hard = (item.findtext("difficult") or "0").strip().lower()
        if not name:
            raise InputError(f"{path}: object {number} has no name")
        if hard not in ("0", "1", "unspecified"):
            raise InputError(f"{path}: object {number} ({name!r}) has difficult {hard!r}; expected 0 or 1")
        found[name] = max(found.get(name, 0), 0 if hard == "1" else 1)
    return found
