"""Pascal VOC, and formats laid out like it: LabelImg, VoTT, Roboflow, Datumaro, CVAT, Label Studio.

VOC2007/ImageSets/Main/<split>.txt          picture ids, one per line, with or without a suffix
VOC2007/ImageSets/Main/<label>_<split>.txt  id and 1 (present), 0 (only difficult objects) or -1 (absent)
VOC2007/Annotations/<id>.xml                objects with <name> and <difficult>; read if a label's list is missing
VOC2007/JPEGImages/<id>.jpg                 or images/

The root is the year's folder or the VOCdevkit above it. Lists are searched for in ImageSets/Main, otherwise anywhere
below ImageSets/. A split without a list of its own holds the pictures that its labels' lists name; a picture that none
of these names has no label. Without lists there, folders say the splits (see `voc_folders`), or lists beside the
annotations do (see `voc_split_lists`), and a picture without an annotation has no label. Labels are in alphabetical
order, as is usual in the field. Hidden files are left out and counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.contents import Contents
from edgepress.multilabel.datasets.finding import Pictures
from edgepress.multilabel.datasets.options import DataOptions
from edgepress.multilabel.datasets.voc_annotations import (
    Annotation,
    annotations_below,
    attributes_in,
    naming_another,
    of_hidden,
    read_annotation,
)
from edgepress.multilabel.datasets.voc_folders import (
    ALL,
    Place,
    annotations_of,
    is_split,
    pictures_of,
    places_beside,
    places_in_year,
)
from edgepress.multilabel.datasets.voc_lists import (
    ABSENT,
    DIFFICULT,
    PRESENT,
    TO_IGNORE,
    VALUES,
    Lists,
    find_lists,
    named_again,
    without_suffix,
)
from edgepress.multilabel.datasets.voc_split_lists import Beside, find_beside, unread_beside
from edgepress.multilabel.datasets.voc_unlisted import read_folder, read_listed, refuse_twice
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace, one_form
from edgepress.multilabel.plural import plural

LOOKS_FOR = "JPEGImages (or images) and ImageSets/Main or Annotations, there or in one folder below (Pascal VOC)"
OPTIONS = frozenset(("difficult",))


def recognise(root: Path, options: DataOptions) -> bool:
    """Return whether the folder, or one in it, looks like this layout."""
    return bool(_years(root) or places_beside(root))


def splits(root: Path, options: DataOptions) -> list[str]:
    """The names of the lists; without lists, those of the folders, or `all`."""
    lists = _lists_of(root)
    if lists is not None:
        return lists.splits
    places = _places(root)
    return sorted(_beside(root, places).splits or places)


def read(root: Path, split: str, options: DataOptions) -> Contents:
    """Read one split, in the list's order, or in that of ids where there is no list.

    A label with an object that is not difficult is positive, whatever else the picture holds.

    Raises:
        InputError: as for `load_dataset`; also several years, an annotation that is not XML, is larger than
            `MAX_XML_BYTES` or declares a DOCTYPE or an ENTITY, or a label's list that omits a picture of its split.
    """
    files.plain(split, f"split {split!r}")
    lists = _lists_of(root)
    return _read_unlisted(root, split, options) if lists is None else _read_lists(root, split, lists, options)


def _read_lists(root: Path, split: str, lists: Lists, options: DataOptions) -> Contents:
    if split not in lists.splits:
        raise files.unknown_split(root, split, f"ImageSets/Main/{split}.txt", lists.splits)
    year = _year(root)
    folder = annotations_of(year)
    found, hidden = annotations_below(folder)
    annotations: dict[str, Annotation] = {}
    if not lists.graded:
        annotations = {name: read_annotation(path) for name, path in found.items()}
    shown = {one_form(name) for one in annotations.values() for name in one.objects}
    labels = files.label_space(
        sorted({label for label, _ in lists.graded} or shown),
        f"{year / 'ImageSets' / 'Main'} and {folder}",
    )
    rows, again = lists.ids(split)
    if not rows:
        raise files.empty_split(lists.plain.get(split, year), split)
    notes = [*of_hidden(hidden, folder), *naming_another(annotations)]
    if lists.graded:  # the lists say the labels, so only these pictures' files count
        stems = {without_suffix(name) for name, _ in rows}
        annotations = {stem: read_annotation(path) for stem, path in found.items() if stem in stems}
    notes += attributes_in(annotations.values())
    notes += named_again(again, split)
    pictures = Pictures(*pictures_of(year))
    paths = [pictures.find(name, where) for name, where in rows]
    if lists.graded and all((label, split) in lists.graded for label in labels):
        present = _from_lists(lists, labels, [name for name, _ in rows], split)
        notes += _join_objects(present, [annotations.get(without_suffix(name)) for name, _ in rows], labels)
    elif not folder.is_dir():
        missing = next(label for label in labels if (label, split) not in lists.graded)
        raise InputError(f"{lists.folder / f'{missing}_{split}.txt'}: no such file, and no Annotations")
    else:
        present = _from_objects(folder, rows, labels, annotations)
    refuse_twice(paths, [where for _, where in rows])
    notes += [*lists.notes, *pictures.notes, *unread_beside(root, year, "ImageSets/ says the splits")]
    return _contents(labels, paths, present, options, notes)


def _read_unlisted(root: Path, split: str, options: DataOptions) -> Contents:
    """Read one split where no list in ImageSets/ names its pictures; labels are those of all splits."""
    places = _places(root)
    beside = _beside(root, places)
    known = sorted(beside.splits or places)
    if split not in known:
        raise files.unknown_split(root, split, f"ImageSets/Main/{split}.txt", known)
    listed = beside.splits.get(split)
    read = read_folder(places, split) if listed is None else read_listed(places[ALL], listed)
    refuse_twice(read.paths, read.sources)
    return _contents(read.labels, read.paths, read.present(), options, [*read.notes, *beside.notes])


def _contents(
    labels: LabelSpace, paths: list[Path], present: np.ndarray, options: DataOptions, notes: list[str]
) -> Contents:
    hard, unknown = present == DIFFICULT, present == TO_IGNORE
    targets = (present == PRESENT) | hard if options.difficult == "positive" else present == PRESENT
    ignore = unknown | hard if options.difficult == "ignore" else unknown
    return Contents(labels=labels, paths=paths, targets=targets.astype(np.uint8), ignore=ignore, notes=tuple(notes))


def _years(root: Path) -> list[Path]:
    found = [folder for folder in (root, *(root / name for name in files.folders_of(root))) if _is_year(folder)]
    return found[:1] if root in found else found


def _is_year(folder: Path) -> bool:
    if not pictures_of(folder):
        return False
    if (folder / "JPEGImages").is_dir():
        return (folder / "Annotations").is_dir() or (folder / "ImageSets").is_dir()
    # Many layouts have a folder images/: an annotation beside it makes it this layout.
    return bool(annotations_below(annotations_of(folder))[0]) and not files.named_as(folder, (".json",))


def _year(root: Path) -> Path:
    years = _years(root)
    if len(years) > 1:
        raise InputError(f"{root}: several years ({', '.join(year.name for year in years)}); give the folder of one")
    return years[0]


def _lists_of(root: Path) -> Lists | None:
    """The lists of splits; None where there are none, and folders say the splits."""
    years = _years(root)
    if not years or _each_is_a_split(years):
        return None
    year = _year(root)
    pictures, annotations = Pictures(*pictures_of(year)), annotations_of(year)
    found = find_lists(year / "ImageSets", lambda name: _is_known(name, pictures, annotations))
    return found if found.splits else None


def _each_is_a_split(years: list[Path]) -> bool:
    return len(years) > 1 and all(is_split(year.name) and not (year / "ImageSets").is_dir() for year in years)


def _places(root: Path) -> dict[str, Place]:
    """Where the annotations and pictures of every split lie, without lists of splits."""
    years = _years(root)
    if _each_is_a_split(years):
        return {year.name: Place(annotations_of(year), pictures_of(year)) for year in years}
    found = places_in_year(_year(root)) if years else places_beside(root)
    if not found and not years:
        raise InputError(f"{root}: no Pascal VOC; expected {LOOKS_FOR}")
    return found


def _beside(root: Path, places: dict[str, Place]) -> Beside:
    """The lists of splits beside the annotations, where neither ImageSets/ nor folders say the splits."""
    years = _years(root)
    year = years[0] if len(years) == 1 else root
    if list(places) == [ALL]:
        return find_beside(root, year, places[ALL])
    return Beside(notes=unread_beside(root, year, "folders say the splits"))


def _is_known(name: str, pictures: Pictures, annotations: Path) -> bool:
    """Return whether there is a picture or an annotation with this id, in the same letters: `IMG 0` is no id `img` and
    a value."""
    try:
        return bool(name) and pictures.find(name, "") is not None and not pictures.is_respelt(name)
    except InputError:
        return files.is_file(annotations / f"{name}.xml")


def _from_lists(lists: Lists, labels: LabelSpace, ids: list[str], split: str) -> np.ndarray:
    """int8 `[N, C]` from the labels' lists: `PRESENT`, `DIFFICULT` or `ABSENT`."""
    columns = [_column(lists.graded[label, split], ids, split) for label in labels]
    present = np.stack(columns, axis=1)
    gaps = present == VALUES[None]
    partly = np.flatnonzero(gaps.any(axis=1) & ~gaps.all(axis=1))
    if partly.size:
        row, label = int(partly[0]), labels.names[int(np.argmax(gaps[partly[0]]))]
        raise InputError(
            f"{lists.graded[label, split]}: no line for picture {ids[row]!r}, which the lists of other labels name"
        )
    present[gaps] = ABSENT
    return present


def _join_objects(present: np.ndarray, annotations: list[Annotation | None], labels: LabelSpace) -> list[str]:
    """Raise cells that a list denies and an annotation has an object of, in place; what was found, in words.

    VOC's own lists say what its annotations say. Datumaro writes into the lists the labels of whole pictures alone, and
    boxes into the annotations.
    """
    raised, other = 0, dict[str, int]()
    for row, one in enumerate(annotations):
        for name, value in (one.objects if one is not None else {}).items():
            if (label := one_form(name)) not in labels:
                other[label] = other.get(label, 0) + 1
            elif value > present[row, column := labels.index(label)]:
                raised += 1
                present[row, column] = value
    notes = []
    if raised:
        notes.append(f"{raised} cells follow an object in Annotations/ where the label's list in ImageSets/ says less")
    if other:
        named = ", ".join(f"{label} ({plural(number, 'picture')})" for label, number in sorted(other.items())[:5])
        has = "has no list in ImageSets/, and is" if len(other) == 1 else "have no list in ImageSets/, and are"
        notes.append(f"{plural(len(other), 'label')} of objects in Annotations/ {has} left out: {named}")
    return notes


def _column(path: Path, ids: list[str], split: str) -> np.ndarray:
    """int8 `[N]` from a label's list, with the value of key None for a picture without a line."""
    values: dict[str, int] = {}
    lines: dict[str, int] = {}
    known = {without_suffix(name) for name in ids}
    for number, line in files.numbered_lines(path, "a picture id and 1, 0 or -1 a line"):
        words = line.rsplit(None, 1)
        if len(words) != 2 or words[1] not in VALUES:
            raise InputError(f"{path}, line {number}: {line[:80]!r}; expected a picture id and 1, 0 or -1")
        name, value = without_suffix(words[0]), VALUES[words[1]]
        if name not in known:
            raise InputError(f"{path}, line {number}: picture {words[0]!r} is not in {split}.txt")
        if values.setdefault(name, value) != value:
            raise InputError(
                f"{path}, line {number}: {words[0]!r} occurs twice (first on line {lines[name]}), with different values"
            )
        lines.setdefault(name, number)
    return np.array([values.get(without_suffix(name), VALUES[None]) for name in ids], dtype=np.int8)


def _from_objects(
    folder: Path,
    rows: Iterable[tuple[str, str]],
    labels: LabelSpace,
    annotations: dict[str, Annotation],
) -> np.ndarray:
    """int8 `[N, C]` from annotations: what their objects say of each label, otherwise `ABSENT`."""
    rows = list(rows)
    present = np.full((len(rows), len(labels)), ABSENT, dtype=np.int8)
    for row, (name, where) in enumerate(rows):
        stem = next((one for one in (name, without_suffix(name)) if one in annotations), without_suffix(name))
        found = annotations.get(stem)
        if found is None:
            path = folder / f"{stem}.xml"
            if not files.is_file(path):
                raise InputError(f"{path}: no such file, named by {where}")
            found = read_annotation(path)
        for label, value in found.objects.items():
            if label not in labels:
                raise InputError(
                    f"{folder / stem}.xml: label {label!r} has no list in ImageSets/Main, where other labels have one"
                )
            present[row, labels.index(label)] = value
    return present
