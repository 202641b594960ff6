"""Folders of labelled pictures: one reader per format, each of which returns the contents of a `MultiLabelDataset`."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgepress.multilabel.datasets import (
    azureml,
    celeba,
    coco,
    csv_table,
    cvat,
    datumaro,
    fiftyone,
    files,
    folders,
    groundtruth,
    imagefolder,
    labelme,
    labelstudio,
    nuswide,
    openimages,
    roboflow,
    tags,
    vertex,
    voc,
    webdataset,
)
from edgepress.multilabel.datasets.columns import SPLIT_NAMES
from edgepress.multilabel.datasets.contents import Reader
from edgepress.multilabel.datasets.dataset import MultiLabelDataset
from edgepress.multilabel.datasets.elsewhere import told_folders
from edgepress.multilabel.datasets.label_groups import find_groups, tell_violations
from edgepress.multilabel.datasets.mirror import dataset_folder, mirror_of
from edgepress.multilabel.datasets.no_labels import tell_no_labels, without_labels
from edgepress.multilabel.datasets.notations import are_numbers, refuse_numbers
from edgepress.multilabel.datasets.options import DataOptions, Difficult, Format
from edgepress.multilabel.datasets.unrecognised import meant_inside, nearest
from edgepress.multilabel.errors import InputError, as_path, shown
from edgepress.multilabel.folder_kinds import is_bundle
from edgepress.multilabel.labels import LabelSpace

__all__ = ["DataOptions", "Difficult", "Format", "MultiLabelDataset", "load_dataset"]

_PART = re.compile(r"(?P<split>.+)\[(?:(?P<low>\d{1,3})%)?:(?:(?P<high>\d{1,3})%)?\]")
"""A part of a split, such as `train[:90%]`."""
_SLICE = re.compile(r"(?P<split>.+)\[(?P<inside>[^\]]*)\]")
"""A slice of a split as other libraries write it, such as `train[90:]` or `train[:1000]`."""
_UNRECOGNISED = "not recognised as a data set"
_NO_TABLES = ("voc", "coco", "datumaro", "cvat", "fiftyone", "labelstudio", "labelme")
"""Formats without a table of their own, beside whose files one may say other labels."""
UNLABELLED = "unlabelled"
"""Name of the split of pictures that nobody labelled."""


# The most specific format comes first: any folder of folders with pictures looks like one label per folder.
_READERS: dict[Format, Reader] = {
    "voc": voc,
    "coco": coco,
    "datumaro": datumaro,
    "nuswide": nuswide,
    "cvat": cvat,
    "celeba": celeba,
    "vertex": vertex,
    "groundtruth": groundtruth,
    "azureml": azureml,
    "roboflow": roboflow,
    "openimages": openimages,
    "fiftyone": fiftyone,
    "labelstudio": labelstudio,
    "imagefolder": imagefolder,
    "csv": csv_table,
    "labelme": labelme,
    "tags": tags,
    "webdataset": webdataset,
    "folders": folders,
}


def load_dataset(
    path: str | Path, split: str = "test", options: DataOptions | None = None, **fields: Any
) -> MultiLabelDataset:
    """Read one split of a data set.

    Args:
        path: the data set's root folder, or the URL of shards, such as `s3://bucket/shards`.
        split: the name of any of its splits, or a part of one, as `train[:90%]` and `train[90%:]`: together these are
            all of it, and no content stands in both. A picture's part follows from its content alone, so that it
            stays where it is when others are added.
        options: how it is read, where its files do not say it themselves.
        fields: those of `DataOptions`, such as `format="voc"`, for a call without `options`.

    Raises:
        InputError: no such folder or split, an empty split, a line that cannot be read, an unknown label, a picture
            that is missing or outside the folder, a split in which every picture has the one label that exists,
            label groups that contradict each other; names the file, the line and the label. Of a URL: the store does
            not answer or refuses, or a shard is not what its index says.

    Example:
        >>> from edgepress import load_dataset
        >>> train = load_dataset("my-pictures", "train")
        >>> train.targets.shape == (len(train), len(train.labels))
        True
    """
    options = _options(options, fields)
    as_path(path, "the data set")
    if not isinstance(split, str):
        raise InputError(f"split is {split!r}; expected the name of a split, such as 'train'")
    found, root = detect_format(path, options), dataset_folder(path)
    reader = _READERS[found]
    options.refuse_unused(root, found, reader.OPTIONS)
    part = _PART.fullmatch(split)
    named = part["split"] if part else split
    if (mirror := mirror_of(root)) is not None:
        mirror.bring(named)
    try:
        read = reader.read(root, named, options)
    except files.UnknownSplitError as error:
        raise InputError(_no_slice(root, split) or f"{error}{_meant_parent(root, named, options)}") from None
    listed = files.is_file(root / "labels.txt")
    read = without_labels(read, options.no_label, f"{root}, split {split!r}")
    refuse_numbers(root, read.labels)
    if len(read.labels) == 1 and not read.ignore.any() and read.targets.all():
        raise InputError(
            f"{root}, split {split!r}: each of {len(read.paths)} pictures has the one label there is, "
            f"{read.labels.names[0]!r}; expected pictures without it, or further labels"
            f"{''.join(f' ({note})' for note in read.notes[:2])}"
        )
    groups, told = find_groups(root, read.labels, options)
    lying = told_folders(root, named, read.paths, tables=found == "csv" and options.split_column is None)
    if found == "folders" and not SPLIT_NAMES.isdisjoint(name.lower() for name in read.labels):
        lying = []  # the reader has told that these folders are labels
    whole = MultiLabelDataset(
        root=root,
        split=split,
        labels=read.labels,
        paths=list(read.paths),
        targets=read.targets,
        ignore=read.ignore,
        notes=(
            *read.notes,
            *_alike(read.labels),
            *_numbers(read.labels),
            *(() if listed else tell_no_labels(read)),
            *lying,
            *(_passed_by(root, found, options) if options.format == "auto" else ()),
            *told,
        ),
        values=read.values,
        copies=read.copies,
        groups=groups,
    )
    if said := tell_violations(whole.grouped.violations(whole.targets, whole.ignore)):
        whole = replace(whole, notes=(*whole.notes, said))
    return _part(whole, int(part["low"] or 0), int(part["high"] or 100)) if part else whole


def _no_slice(root: Path, split: str) -> str | None:
    """What is to be said of a slice or a sum of splits as Hugging Face's `datasets` takes them; None if it is neither.

    A slice by numbers would follow from the order of the files, and so move pictures when others are added.
    """
    parts = [_SLICE.fullmatch(part.strip()) for part in split.split("+")]
    if not any(parts):
        return f"{root}: {split!r} adds splits; expected one, or a part of one" if len(parts) > 1 else None
    first = next(part for part in parts if part is not None)
    inside = re.sub(r"\b\d{1,2}\b(?!%)", r"\g<0>%", first["inside"])
    meant = f"{first['split']}[{inside}]"
    return (
        f"{root}: {split!r} is a slice of Hugging Face's datasets, which edgepress does not take; expected a part in "
        f"percent, such as {meant if _PART.fullmatch(meant) else first['split'] + '[90%:]'!r}: a picture's part "
        "follows from its content (docs/data.md)"
    )


def _meant_parent(root: Path, split: str, options: DataOptions) -> str:
    """The end of a message about a missing split, where the folder is itself a split's folder of a data set that has
    it; else nothing."""
    if not files.is_folder(root.parent / split):
        return ""
    try:
        there = list_splits(root.parent, options)
    except (InputError, OSError):
        return ""  # the folder's parent is no data set
    return (
        f"; {root.parent} is a data set with that split: give that folder" if {root.name, split} <= set(there) else ""
    )


def _alike(labels: LabelSpace) -> list[str]:
    """Labels that a person would take for one: their names differ in case, in what separates words, or invisibly."""
    groups: dict[str, list[str]] = {}
    for name in labels:
        seen = "".join(one for one in unicodedata.normalize("NFKC", name) if unicodedata.category(one) != "Cf")
        groups.setdefault(" ".join(re.split(r"[\s_-]+", seen.casefold())).strip(), []).append(name)
    found = [" and ".join(map(repr, names)) for names in groups.values() if len(names) > 1]
    said = [f"read as labels of their own, though their names are almost the same: {shown(found, 5)}"] if found else []
    joined = [
        name for name in labels if len(parts := re.split(r"\s*[,;|/+&]\s*", name)) > 1 and set(parts) & set(labels)
    ]
    said += [f"read as labels of their own, though they join the names of others: {shown(joined, 5)}"] if joined else []
    return said


def _numbers(labels: LabelSpace) -> list[str]:
    return [f"the labels are numbers, taken for their names: {shown(labels.names, 5)}"] if are_numbers(labels) else []


def _options(options: DataOptions | None, fields: dict[str, Any]) -> DataOptions:
    if options is None:
        return DataOptions.parse(fields, "options")
    if not isinstance(options, DataOptions):  # a format, as it would be given on the command line
        raise InputError(f"options is {options!r}; expected DataOptions, or its fields by name, such as format='voc'")
    if fields:
        raise InputError(f"options are given, and {shown(fields)} beside them; expected one of the two")
    return options


def _part(whole: MultiLabelDataset, low: int, high: int) -> MultiLabelDataset:
    """The pictures whose hashes lie between two shares, in per cent, of all possible hashes."""
    if not low < high <= 100:
        raise InputError(f"{whole.root}, split {whole.split!r}: from {low} to {high} %; expected a part of 0 to 100 %")
    places = [int(name[:8], 16) * 100 >> 32 for name in whole.hashes()]
    rows = np.array([row for row, place in enumerate(places) if low <= place < high], dtype=np.int64)
    if not len(rows):
        raise InputError(f"{whole.root}, split {whole.split!r}: none of {len(whole)} pictures; expected a larger part")
    return whole.subset(rows)


def list_splits(path: str | Path, options: DataOptions | None = None, **fields: Any) -> list[str]:
    """The names of a data set's splits, sorted; empty where the layout is right but there is no split.

    Raises:
        InputError: as for `detect_format`; also two splits whose names differ in case alone.
    """
    options = _options(options, fields)
    found, root = detect_format(path, options), dataset_folder(path)
    return files.unlike_splits(_READERS[found].splits(root, options), str(root))


def detect_format(path: str | Path, options: DataOptions | None = None, **fields: Any) -> Format:
    """Find how a folder is laid out: the most specific format that recognises it, or the one that the options name.

    Raises:
        InputError: the folder is missing or has another layout; the message says what it is closest to and lacks. For
            a URL: see `Mirror.look`.
    """
    root = dataset_folder(path)
    options = _options(options, fields)
    if (mirror := mirror_of(root)) is not None:
        mirror.look()
    if root.is_file():
        raise InputError(f"{root}: is a file; expected the folder of a data set, such as the file's own: {root.parent}")
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected a data set: pictures, and files that say their labels")
    if options.format != "auto":
        reader = _READERS[options.format]
        if not reader.recognise(root, options):
            said = _instead(root, options)
            wanted = "" if reader.LOOKS_FOR in said else f"; expected {reader.LOOKS_FOR}"
            raise InputError(f"{root}: not recognised as {options.format}{wanted}; {said}")
        return options.format
    try:
        if (name := _recognised(root, options)) is not None:
            return name
        if is_bundle(root):
            raise InputError(
                f"{root}: is a bundle and no data set; expected a folder of pictures and their labels here"
            )
        why = f"{root}: {_UNRECOGNISED}: {nearest(root)}"
    except folders.DoubtfulError as error:
        why = str(error)
    raise InputError(why + meant_inside(root, lambda folder: _recognised(folder, options) is not None))


def _recognised(root: Path, options: DataOptions) -> Format | None:
    """The most specific format that recognises a folder and finds a split there; None where none does.

    Raises:
        DoubtfulError: it looks like a folder a label, and is probably none; says why.
    """
    for name, reader in _READERS.items():
        # labels.txt alone makes an imagefolder, but it may also accompany tables or folders of another format.
        if reader.recognise(root, options) and reader.splits(root, options):
            return name
    return None


def _passed_by(root: Path, found: Format, options: DataOptions) -> list[str]:
    """Say that a folder also holds labels in a more general format, which are not read."""
    if found not in _NO_TABLES:
        return []
    others: tuple[Format, ...] = ("imagefolder", "csv")
    for name in others:
        try:
            splits = _READERS[name].splits(root, options) if _READERS[name].recognise(root, options) else []
            if not splits:
                continue
            _READERS[name].read(root, splits[0], options)
        except InputError:
            continue  # no labels, or none that could be read
        return [f"read as {found}; {name}, which would be read by --format {name}, has labels of {shown(splits, 3)}"]
    return []


def _instead(root: Path, options: DataOptions) -> str:
    """What a folder is that was read in vain as the format that was named."""
    try:
        return f"without --format it is read as {detect_format(root, options.model_copy(update={'format': 'auto'}))}"
    except InputError as error:
        return str(error).removeprefix(f"{root}: ").replace(_UNRECOGNISED, "nor as another data set", 1)


def refuse_leaks(train: MultiLabelDataset, others: list[MultiLabelDataset]) -> None:
    """Raise an error if the content of a picture that trains or chooses is also in a split that chooses or measures.

    Raises:
        InputError: there is such a picture; the message names both files.
    """
    hashes = {name: path for name, path in zip(train.hashes(), train.paths, strict=True)}
    for other in others:
        for name, path in zip(other.hashes(), other.paths, strict=True):
            if name in hashes and train.split == UNLABELLED:
                raise InputError(
                    f"{hashes[name]} is unlabelled and is in the split {other.split!r} as well ({path}): "
                    f"take it out of the unlabelled pictures"
                )
            if name in hashes:
                raise InputError(f"{hashes[name]} is the same picture as {path}: remove it from one of the two splits")
