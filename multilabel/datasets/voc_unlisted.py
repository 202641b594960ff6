"""Reads a split of Pascal VOC that no list in ImageSets/ names: that of a folder, or of a list beside annotations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.finding import Pictures
from edgepress.multilabel.datasets.voc_annotations import (
    Annotation,
    attributes_in,
    naming_another,
    of_hidden,
    read_annotation,
)
from edgepress.multilabel.datasets.voc_folders import Place
from edgepress.multilabel.datasets.voc_lists import ABSENT
from edgepress.multilabel.datasets.voc_split_lists import Listed
from edgepress.multilabel.errors import InputError, shown
from edgepress.multilabel.labels import LabelSpace, one_form
from edgepress.multilabel.plural import plural


@dataclass
class Unlisted:
    """The pictures of one split."""

    labels: LabelSpace
    """The labels of all splits."""
    paths: list[Path] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    """What named each picture, for errors."""
    annotations: list[Annotation | None] = field(default_factory=list)
    """What each picture's annotation says; None if it has none."""
    notes: list[str] = field(default_factory=list)

    def present(self) -> np.ndarray:
        """int8 `[N, C]`: what the annotations' objects say of each label, otherwise `ABSENT`."""
        present = np.full((len(self.paths), len(self.labels)), ABSENT, dtype=np.int8)
        for row, annotation in enumerate(self.annotations):
            for label, value in (annotation.objects if annotation is not None else {}).items():
                column = self.labels.index(label)
                present[row, column] = max(present[row, column], value)
        return present


def read_folder(places: dict[str, Place], split: str) -> Unlisted:
    """Read the split of a folder, in the order of its pictures' paths.

    Raises:
        InputError: an annotation cannot be read, or its picture is not there.
    """
    place = places[split]
    found, hidden = place.ids()
    annotations, named = _annotations(places, split)
    pictures = Pictures(*place.pictures)
    at = {identity: pictures.find(identity, str(path)) for identity, path in found.items()}
    without = place.bare(set(at.values()))
    bare = [] if place.shared else without
    rows: list[tuple[Path, str, Annotation | None]] = []
    rows += [(path, str(found[identity]), annotations[identity]) for identity, path in at.items()]
    rows += [(path, str(path), None) for path in bare]
    rows.sort(key=lambda row: place.inside(row[0])[1])
    read = _unlisted(place, rows, named)
    read.notes = [*of_hidden(hidden, place.annotations), *naming_another(annotations)]
    read.notes += attributes_in(annotations.values())
    read.notes += [files.unannotated(len(bare))] if bare else []
    read.notes += _of_no_split(places, place, without) if place.shared else []
    read.notes += pictures.notes
    return read


def read_listed(place: Place, listed: Listed) -> Unlisted:
    """Read the split of a list, in the list's order.

    Raises:
        InputError: an annotation cannot be read, or two are of one picture of the list.
    """
    found, hidden = place.ids()
    annotations, named = _annotations({"": place}, "")
    pictures = Pictures(*place.pictures)
    own: dict[str, Annotation] = {}
    rows: list[tuple[Path, str, Annotation | None]] = []
    for path, where, ids in listed.rows:
        if len(ids) > 1:
            raise InputError(
                f"{path}: has the annotations {shown([str(found[one]) for one in ids], 3)}; expected one for each "
                "picture, so remove the others"
            )
        for identity in ids:
            pictures.find(identity, str(found[identity]))  # notes say how its name differs from the picture's
            own[identity] = annotations[identity]
        rows.append((path, where, annotations[ids[0]] if ids else None))
    read = _unlisted(place, rows, named)
    read.notes = [*of_hidden(hidden, place.annotations), *naming_another(own), *attributes_in(own.values())]
    bare = len(rows) - len(own)
    read.notes += [files.unannotated(bare)] if bare else []
    read.notes += [*listed.notes, *pictures.notes]
    return read


def _annotations(places: dict[str, Place], split: str) -> tuple[dict[str, Annotation], set[str]]:
    """The annotations of a split by their ids, and the labels of all splits."""
    annotations, named = dict[str, Annotation](), set[str]()
    for name, one in places.items():
        each = {identity: read_annotation(path) for identity, path in one.ids()[0].items()}
        named |= {one_form(label) for found in each.values() for label in found.objects}
        annotations = each if name == split else annotations
    return annotations, named


def _unlisted(place: Place, rows: Iterable[tuple[Path, str, Annotation | None]], named: set[str]) -> Unlisted:
    read = Unlisted(files.label_space(sorted(named), str(place.annotations)))
    for path, source, annotation in rows:
        read.paths.append(path)
        read.sources.append(source)
        read.annotations.append(annotation)
    return read


def _of_no_split(places: dict[str, Place], place: Place, without: list[Path]) -> list[str]:
    """Count the pictures of a shared folder that no split names.

    Args:
        without: the pictures there for which the split has no annotation.
    """
    taken: set[Path | None] = set()
    for one in places.values():
        if one.shared:
            pictures = Pictures(*one.pictures)
            taken |= {pictures.afresh().found(identity) for identity in one.ids()[0]}
        else:
            taken |= {path for folder in one.pictures for path in files.below(folder, files.PICTURE_SUFFIXES)}
    count = sum(path not in taken for path in without)
    folders = shown([f"{folder.name}/" for folder in place.pictures], 3)
    several = f"of {folders}, which several splits share,"
    said = plural(
        count,
        f"picture {several} has no annotation in any of them, and is in no split",
        f"pictures {several} have no annotation in any of them, and are in no split",
    )
    return [said] if count else []


def refuse_twice(paths: list[Path], sources: list[str]) -> None:
    """Raise an error if two rows are of one picture, whatever they say of it.

    Args:
        sources: what named each picture.
    """
    first: dict[Path, str] = {}
    for path, source in zip(paths, sources, strict=True):
        if path in first:
            raise InputError(
                f"{source}: is of the picture {path}, and so is {first[path]}; expected each picture once in a split, "
                "so remove one of the two"
            )
        first[path] = source
