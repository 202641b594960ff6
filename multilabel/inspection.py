"""The data report: what a data set's splits hold, and what in them would spoil a training or a measurement.

It reports counts and pairs of labels, labels that cannot be learned, broken pictures, pictures that occur twice within
a split or across splits (with the same bytes or the same look), and copies of a picture whose labels differ.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from edgepress.multilabel.cores import cores
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.datasets.label_groups import BROKEN
from edgepress.multilabel.datasets.values import CellCount
from edgepress.multilabel.duplicates import difference_hash, look, near_groups, same_groups
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.frames import has_several
from edgepress.multilabel.metrics import labels_counted, left_out
from edgepress.multilabel.pictures import Picture, decode, read_bytes, read_picture
from edgepress.multilabel.plural import plural

_BLOCK = 1024

Progress = Callable[[int, int], None]
"""A function that is called with the number of pictures read and the number of all pictures."""


@dataclass(frozen=True)
class BrokenPicture:
    """A picture that cannot be read completely."""

    path: str
    reason: str


@dataclass(frozen=True)
class BrokenRule:
    """Label groups' rule that pictures' labels break."""

    rule: str
    """The rule, and how it is broken."""
    pictures: tuple[str, ...]
    """The pictures that break it."""


@dataclass(frozen=True)
class LabelPair:
    """Two labels that occur on the same pictures."""

    first: str
    second: str
    count: int
    """Number of pictures with both labels."""
    second_given_first: float
    first_given_second: float


@dataclass(frozen=True, kw_only=True)
class SplitReport:
    """One split. A cell is a picture and a label; an ignored cell counts as neither positive nor negative."""

    pictures: int
    labels_a_picture: float
    """Mean number of positive labels per picture."""
    most_labels: int
    unlabelled: int
    """Number of pictures without a positive label."""
    counts: dict[str, int]
    """From each label to the number of pictures with it, in the order of the labels."""
    imbalance: float | None
    """Most pictures of a label divided by the fewest, among labels that have one; None where no label has."""
    labels_without_positive: tuple[str, ...]
    labels_without_negative: tuple[str, ...]
    """Labels whose known cells are all positive: they measure nothing, and mAP leaves them out."""
    labels_counted: int
    """Labels with a positive and a negative cell, which enter mAP."""
    values: tuple[CellCount, ...]
    """For a table: each distinct value of its label cells, its number of cells, and what it was read as."""
    notes: tuple[str, ...]
    """Sentences about what was left out or was read differently from how it is written."""
    ignored: int
    """Number of cells whose answer nobody knows."""
    broken: tuple[BrokenPicture, ...]
    broken_rules: tuple[BrokenRule, ...]
    """Rules of label groups that labels break, as far as the labels are known."""
    with_alpha: int
    """Number of pictures that have transparency, which is left out."""
    several: int
    """Number of files that hold several pictures (animations, TIFFs of several pages), of which the first is read."""
    deep: dict[int, int]
    """From a number of bits to the number of 16-bit pictures that use so many; see `pictures.decode`."""
    pairs: tuple[LabelPair, ...]
    """Pairs of labels, with the most frequent pair first."""


@dataclass(frozen=True)
class SplitPicture:
    """A picture as a member of a group."""

    split: str
    path: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class PictureGroup:
    """Pictures that are identical or look the same."""

    pictures: tuple[SplitPicture, ...]
    """The pictures, in the order of the splits."""
    across: bool
    """Whether they are in more than one split."""


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """What `inspect_dataset` found."""

    splits: dict[str, SplitReport]
    exact_duplicates: tuple[PictureGroup, ...]
    """Files with the same bytes; groups across splits come first."""
    near_duplicates: tuple[PictureGroup, ...]
    """Different files that look the same (see `duplicates`), with exact copies; groups across splits come first."""
    conflicts: tuple[PictureGroup, ...]
    """Files with the same bytes, one of which has a label that is known to be absent from another."""

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        return asdict(self)

    def refusal(self) -> str | None:
        """Say in a sentence why `teach` and `run` would refuse the data set as it is; None where they would not."""
        broken = sum(len(split.broken) for split in self.splits.values())
        leaks = sum(group.across for group in self.exact_duplicates)
        found = [plural(broken, "picture is broken", "pictures are broken")] if broken else []
        found += [plural(leaks, "picture is in several splits", "pictures are in several splits")] if leaks else []
        return f"teach and run refuse this data set: {', and '.join(found)}" if found else None


MOST_NAMED = 8
MIN_LABELS = 1
"""The number of labels with a positive and a negative that a split needs in order to choose or to report."""


def labels_left_out(data: MultiLabelDataset) -> str | None:
    """Say in a sentence which labels of a split mAP leaves out, and why; None where it counts all of them.

    Example:
        >>> labels_left_out(load_dataset("photos", "val"))  # doctest: +SKIP
        "mAP counts 2 of 3 labels; 1 without a known negative: No Finding"
    """
    found = left_out(data.targets, data.ignore)
    kinds = [("positive", found.without_positive), ("negative", found.without_negative)]
    said = [f"{len(columns)} without a known {kind}: {_named(data, columns)}" for kind, columns in kinds if columns]
    counted = len(data.labels) - len(found.without_positive) - len(found.without_negative)
    return f"mAP counts {counted} of {len(data.labels)} labels; {'; '.join(said)}" if said else None


def too_poor(data: MultiLabelDataset) -> str | None:
    """Say why a split can neither choose nor report: no label has both a positive and a negative. None where it can."""
    if labels_counted(data.targets, data.ignore) >= MIN_LABELS:
        return None
    return (
        f"{data.root}, split {data.split!r}: {labels_left_out(data)}; a label needs a picture that is known to have it "
        "and one that is known not to (--values says what empty cells mean)"
    )


def _named(data: MultiLabelDataset, columns: tuple[int, ...]) -> str:
    names = ", ".join(data.labels.names[column] for column in columns[:MOST_NAMED])
    return names + (", …" if len(columns) > MOST_NAMED else "")


def unions(splits: Mapping[str, MultiLabelDataset]) -> dict[str, list[str]]:
    """Find splits that hold exactly the pictures of two or more others (such as VOC's trainval) and name these."""
    files = {name: set(data.paths) for name, data in splits.items()}
    found = {}
    for name, whole in files.items():
        parts = [other for other, some in files.items() if some < whole]
        if len(parts) > 1 and set().union(*(files[part] for part in parts)) == whole:
            found[name] = parts
    return found


def inspect_dataset(
    splits: Mapping[str, MultiLabelDataset],
    *,
    progress: Progress | None = None,
    top_pairs: int = 20,
    workers: int | None = None,
) -> DataReport:
    """Read every picture of every split once and report; a broken picture is a finding, not an error.

    Args:
        splits: name to split; their labels may differ, and conflicts are sought in the labels that all have.
        progress: called from time to time with the number of pictures read.
        top_pairs: number of pairs of labels to report per split.
        workers: number of threads that read and decode; at most four by default.

    Raises:
        InputError: no split was given.
    """
    if not splits:
        raise InputError("no split to inspect; expected at least one")
    members = [(name, row) for name, data in splits.items() for row in range(len(data))]
    paths = [splits[name].paths[row] for name, row in members]
    workers = workers or min(4, cores())
    read = _read_all(paths, progress, workers)
    found: dict[str, _Found] = {name: _Found([], 0, Counter()) for name in splits}
    for (name, _), path, picture in zip(members, paths, read, strict=True):
        found[name].add(path, picture)

    def groups(alike: list[list[int]]) -> tuple[PictureGroup, ...]:
        made = [_group([members[i] for i in group], splits) for group in alike]
        return tuple(sorted(made, key=lambda group: not group.across))

    def looks_of(places: list[int]) -> list[np.ndarray | None]:
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(_look_again, [paths[place] for place in places]))

    contents = [picture.content for picture in read]
    same = same_groups(contents)
    return DataReport(
        splits={name: _describe(data, found[name], top_pairs) for name, data in splits.items()},
        exact_duplicates=groups(same),
        near_duplicates=groups(near_groups(contents, [picture.look_hash for picture in read], looks_of)),
        conflicts=groups(_conflicting(same, members, splits)),
    )


class _Read(NamedTuple):
    """One picture that was read."""

    content: str | None
    """sha256 of the file; None where it cannot be read."""
    look_hash: int | None
    """`duplicates.difference_hash`; None where it cannot be read, or shows an even surface."""
    reason: str | None
    """What is wrong with the picture."""
    alpha: bool = False
    deep: int | None = None
    """The number of bits that a picture with 16 bits per channel uses."""
    several: bool = False
    """Whether the file holds further pictures."""


@dataclass
class _Found:
    """What reading a split's pictures has shown."""

    broken: list[BrokenPicture]
    with_alpha: int
    deep: Counter[int]
    several: int = 0

    def add(self, path: Picture, picture: _Read) -> None:
        if picture.reason:
            self.broken.append(BrokenPicture(str(path), picture.reason))
        self.with_alpha += picture.alpha
        self.several += picture.several
        if picture.deep is not None:
            self.deep[picture.deep] += 1


def _read_all(paths: list[Picture], progress: Progress | None, workers: int) -> list[_Read]:
    results: list[_Read] = []
    with ThreadPoolExecutor(workers) as pool:  # reading, hashing and decoding release the interpreter lock
        for start in range(0, len(paths), _BLOCK):
            for result in pool.map(_read, paths[start : start + _BLOCK]):
                results.append(result)
                if progress and (len(results) % 100 == 0 or len(results) == len(paths)):
                    progress(len(results), len(paths))
    return results


def _read(path: Picture) -> _Read:
    content = None
    try:
        data = read_bytes(path)
        content = hashlib.sha256(data).hexdigest()
        picture = decode(data, str(path))
        seen = difference_hash(picture.pixels)
        used = picture.used if picture.bits > 8 else None
        return _Read(content, seen, None, picture.alpha, used, has_several(data))
    except InputError as error:
        return _Read(content, None, str(error).removeprefix(f"{path}: "))


def _look_again(path: Picture) -> np.ndarray | None:
    try:
        return look(read_picture(path))
    except InputError:  # it was readable before
        return None


def _describe(data: MultiLabelDataset, found: _Found, top_pairs: int) -> SplitReport:
    positive = (data.targets == 1) & ~data.ignore
    counts = positive.sum(axis=0)
    a_picture = positive.sum(axis=1)
    present = counts[counts > 0]
    return SplitReport(
        pictures=len(data),
        labels_a_picture=float(a_picture.mean()) if len(data) else 0.0,
        most_labels=int(a_picture.max(initial=0)),
        unlabelled=int((a_picture == 0).sum()),
        counts={name: int(count) for name, count in zip(data.labels, counts, strict=True)},
        imbalance=float(present.max() / present.min()) if present.size else None,
        labels_without_positive=tuple(name for name, count in zip(data.labels, counts, strict=True) if not count),
        labels_without_negative=tuple(
            data.labels.names[column] for column in left_out(data.targets, data.ignore).without_negative
        ),
        labels_counted=labels_counted(data.targets, data.ignore),
        values=data.values,
        notes=tuple(note for note in data.notes if not note.startswith(BROKEN)),  # they are in broken_rules
        ignored=int(data.ignore.sum()),
        broken=tuple(found.broken),
        broken_rules=tuple(
            BrokenRule(one.rule, tuple(str(data.paths[row]) for row in one.rows))
            for one in data.grouped.violations(data.targets, data.ignore)
        ),
        with_alpha=found.with_alpha,
        several=found.several,
        deep=dict(sorted(found.deep.items())),
        pairs=_pairs(positive, data.labels.names, top_pairs),
    )


def _pairs(positive: np.ndarray, names: tuple[str, ...], most: int) -> tuple[LabelPair, ...]:
    alone, labels = positive.sum(axis=0), len(names)
    found, counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
    for start in range(0, len(positive), 8192):  # memory holds the pairs that occur, not labels times labels
        codes = [_codes(np.flatnonzero(row), labels) for row in positive[start : start + 8192]]
        found, where = np.unique(np.concatenate([found, *codes]), return_inverse=True)
        before = np.concatenate([counts, np.ones(len(where) - len(counts), np.int64)])
        counts = np.bincount(where, before, minlength=len(found)).astype(np.int64)
    best = np.argsort(-counts, kind="stable")[:most]
    pairs = ((int(found[i]) // labels, int(found[i]) % labels, int(counts[i])) for i in best)
    return tuple(
        LabelPair(names[a], names[b], count, float(count / alone[a]), float(count / alone[b])) for a, b, count in pairs
    )


def _codes(columns: np.ndarray, labels: int) -> np.ndarray:
    """A number for each pair of a picture's labels, in the order of the labels."""
    first, second = np.triu_indices(len(columns), k=1)
    return columns[first] * labels + columns[second]


def _conflicting(
    same: list[list[int]], members: list[tuple[str, int]], splits: Mapping[str, MultiLabelDataset]
) -> list[list[int]]:
    everyone = set.intersection(*(set(data.labels.names) for data in splits.values()))
    names = [name for name in next(iter(splits.values())).labels if name in everyone]
    columns = {split: np.array([data.labels.index(name) for name in names], int) for split, data in splits.items()}
    found = []
    for group in same:
        rows = [(splits[split], row, columns[split]) for split, row in (members[i] for i in group)]
        yes = np.stack([data.targets[row, column] == 1 for data, row, column in rows])
        known = np.stack([~data.ignore[row, column] for data, row, column in rows])
        if ((yes & known).any(axis=0) & (~yes & known).any(axis=0)).any():
            found.append(group)
    return found


def _group(rows: list[tuple[str, int]], splits: Mapping[str, MultiLabelDataset]) -> PictureGroup:
    pictures = []
    for split, row in rows:
        data = splits[split]
        positive = np.flatnonzero((data.targets[row] == 1) & ~data.ignore[row])
        pictures.append(SplitPicture(split, str(data.paths[row]), tuple(data.labels.names[i] for i in positive)))
    return PictureGroup(tuple(pictures), len({split for split, _ in rows}) > 1)
