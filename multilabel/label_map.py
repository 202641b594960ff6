"""LabelMap and LabelMatch: which of a teacher's labels answer for each label of a data set.

A label is found by itself where the names are equal, at most but for case and separators (space, `_`, `-`). Anything
else is said by a person in a YAML file, whose keys are the data set's labels:

    dog: Golden Retriever              # the teacher's name for it
    car: [sedan, suv]                  # several: the highest counts
    person: {noisy-or: [man, woman]}   # 1 - the product of (1 - p), for probabilities of independent labels
    sofa: null                         # the teacher lacks it
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import yaml

from edgepress.multilabel.errors import InputError, did_you_mean
from edgepress.multilabel.labels import LabelSpace, one_form
from edgepress.multilabel.yaml_lines import not_yaml

Combine = Literal["max", "noisy-or"]
"""How several labels of a teacher answer for one: by the highest, or as independent causes."""
MOST_BYTES = 16 * 1024 * 1024
_NULL = "tag:yaml.org,2002:null"
_NAMED = 8
"""Most names that a message lists."""


@dataclass(frozen=True)
class Taken:
    """The labels of a teacher that answer for one label; none where the teacher lacks it."""

    names: tuple[str, ...]
    combine: Combine = "max"


@dataclass(frozen=True)
class LabelMap:
    """What a person says about labels whose names differ."""

    entries: Mapping[str, Taken] = field(default_factory=dict)
    """By the data set's label."""
    where: str = "the map"
    """The file, for messages."""

    @classmethod
    def read(cls, path: Path) -> LabelMap:
        """Read a map from a YAML file; every scalar is the name that is written there, also `no`, `on` and `1`.

        Raises:
            InputError: the file cannot be read, is not such a map, or names a label twice; says which, and in which
                line.
        """
        try:
            if path.stat().st_size > MOST_BYTES:
                raise InputError(f"{path}: larger than any map of labels; expected YAML, as docs/your-model.md has it")
            root = yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=yaml.SafeLoader)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); expected a map of labels (YAML)") from None
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            raise not_yaml(path, error, "such as dog: [retriever, husky]") from None
        if not isinstance(root, yaml.MappingNode):
            raise InputError(f"{path}: expected the data set's labels as keys, and as values the teacher's names")
        entries: dict[str, Taken] = {}
        for key, value in root.value:
            at = f"{path}, line {key.start_mark.line + 1}"
            name = _name(key, at)
            if name in entries:
                raise InputError(f"{at}: the label {name!r} is mapped twice; expected one entry for it")
            entries[name] = _taken(value, at)
        return cls(entries, str(path))


@dataclass(frozen=True)
class LabelMatch:
    """Where a teacher's answers for a data set's labels come from."""

    columns: tuple[tuple[int, ...], ...]
    """For each label of the data set the teacher's columns, none where the teacher lacks it."""
    combine: tuple[Combine, ...]
    """How several columns become one answer, per label."""
    theirs: int
    """Number of the teacher's labels."""
    told: str
    """What is to be said about it in one line; empty where the labels are the same in the same order."""

    @property
    def same(self) -> bool:
        """Whether the teacher's labels are the data set's, in its order."""
        return self.columns == tuple((column,) for column in range(self.theirs))

    @property
    def known(self) -> np.ndarray:
        """bool `[C]`, the labels that the teacher has."""
        return np.array([len(columns) > 0 for columns in self.columns])

    @property
    def single(self) -> np.ndarray:
        """bool `[C]`, the labels that are one label of the teacher's."""
        return np.array([len(columns) == 1 for columns in self.columns])


def match_labels(ours: LabelSpace, theirs: LabelSpace, given: LabelMap | None, whose: str) -> LabelMatch:
    """Find the teacher's labels for each label of a data set: those of the map, else those of an equal name.

    Args:
        given: what a person says about labels whose names differ.
        whose: what messages call the teacher.

    Raises:
        InputError: the map names an unknown label, one of the teacher's labels answers for two, several of its names
            are equal to one label but for case and separators, or no label is found at all.

    Example:
        >>> from edgepress.multilabel.labels import LabelSpace
        >>> ours, theirs = LabelSpace(("t-shirt", "sofa")), LabelSpace(("hat", "T_Shirt"))
        >>> match_labels(ours, theirs, None, "the teacher").columns
        ((1,), ())
    """
    entries = given.entries if given is not None else {}
    where = given.where if given is not None else ""
    _require_known(entries, where, ours, theirs, whose)
    found: dict[str, Taken] = {}
    alike: dict[str, list[str]] = {}
    for name in theirs:
        alike.setdefault(_plain(name), []).append(name)
    ours_alike = Counter(_plain(name) for name in ours)
    by_form: list[str] = []
    for name in ours:
        if name in entries:
            found[name] = entries[name]
        elif name in theirs:
            found[name] = Taken((name,))
        elif len(near := alike.get(_plain(name), [])) > 1 or (near and ours_alike[_plain(name)] > 1):
            raise InputError(
                f"{whose}: {name!r} may be its {_listed(near)}, which differ in case and separators alone: say which "
                f"in a map (teacher_labels), as {name}: {near[0]}"
            )
        else:
            found[name] = Taken(tuple(near))
            by_form += [name] if near else []
    _require_once(found, entries, where, whose)
    if not any(taken.names for taken in found.values()):
        raise InputError(
            f"{whose}: none of its {len(theirs)} labels ({_listed(theirs.names)}) is a label of the data set "
            f"({_listed(ours.names)}); say which is which in a map (teacher_labels)"
        )
    columns = tuple(tuple(theirs.index(name) for name in found[label].names) for label in ours)
    match = LabelMatch(columns, tuple(found[label].combine for label in ours), len(theirs), "")
    if match.same:
        return match
    return LabelMatch(match.columns, match.combine, match.theirs, _told(found, entries, by_form, theirs, where, whose))


def _taken(node: yaml.Node, at: str) -> Taken:
    combine: Combine = "max"
    if isinstance(node, yaml.MappingNode):
        if len(node.value) != 1 or _name(node.value[0][0], at) not in get_args(Combine):
            raise InputError(f"{at}: expected one of {', '.join(get_args(Combine))}, and a list of names")
        combine = _name(node.value[0][0], at)  # type: ignore[assignment] # one of the two words
        node = node.value[0][1]
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            raise InputError(f"{at}: expected a list of the teacher's names for {combine}")
    if isinstance(node, yaml.SequenceNode):
        if not node.value:
            raise InputError(f"{at}: expected the teacher's names, or null where it has no such label")
        return Taken(tuple(_name(one, at) for one in node.value), combine)
    return Taken(() if node.tag == _NULL else (_name(node, at),))


def _name(node: yaml.Node, at: str) -> str:
    if not isinstance(node, yaml.ScalarNode) or node.tag == _NULL:
        raise InputError(f"{at}: expected a label's name")
    return one_form(node.value)


def _require_known(entries: Mapping[str, Taken], where: str, ours: LabelSpace, theirs: LabelSpace, whose: str) -> None:
    for name, taken in entries.items():
        if name not in ours:
            near = did_you_mean(name, ours.names)
            raise InputError(f"{where}: {name!r} is no label of the data set ({_listed(ours.names)}){near}")
        for one in taken.names:
            if one not in theirs:
                near = did_you_mean(one, theirs.names)
                raise InputError(
                    f"{where}: {one!r}, for {name!r}, is no label of {whose} ({_listed(theirs.names)}){near}"
                )


def _require_once(found: Mapping[str, Taken], entries: Mapping[str, Taken], where: str, whose: str) -> None:
    owners: dict[str, str] = {}
    for name, taken in found.items():
        for one in taken.names:
            if one in owners:
                by = owners[one]
                free = next((owner for owner in (by, name) if owner not in entries), None)
                mend = f"add {free}: null if {free!r} is not meant" if free else "expected it once"
                raise InputError(f"{where or whose}: its {one!r} is mapped twice, to {by!r} and to {name!r}; {mend}")
            owners[one] = name


def _told(
    found: Mapping[str, Taken],
    entries: Mapping[str, Taken],
    by_form: list[str],
    theirs: LabelSpace,
    where: str,
    whose: str,
) -> str:
    used = [one for taken in found.values() for one in taken.names]
    has = [name for name, taken in found.items() if taken.names]
    by_map = [name for name in has if name in entries]
    lacking = [name for name, taken in found.items() if not taken.names]
    by_name = len(has) - len(by_map) - len(by_form)
    said = [f"{by_name} by name"] if by_name else []
    if by_form:
        pairs = (f"{name} = {found[name].names[0]}" for name in by_form)
        said.append(f"{len(by_form)} by name but for case and separators ({_shown(pairs)})")
    if by_map:
        said.append(f"{len(by_map)} by {where}")
    parts = [f"{whose}: {len(has)} of {len(found)} labels are found, {', '.join(said)}"]
    if lacking:
        parts.append(f"it does not teach {_shown(lacking)}, which it lacks")
    if unused := len(theirs) - len(used):
        parts.append(f"{unused} of its {len(theirs)} labels are not used")
    return "; ".join(parts)


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _listed(names: Iterable[str]) -> str:
    return _shown(repr(name) for name in names)


def _shown(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:_NAMED]) + (f", … ({len(names)} in all)" if len(names) > _NAMED else "")
