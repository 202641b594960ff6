"""LabelGroups: which labels exclude each other, and which imply others; read from a data set's labels.yaml.

    one_of:
      - [front, side, back]      # exactly one of them is true of every picture
    at_most_one_of:
      - [rain, snow]             # one of them, or none
    implies:
      sparrow: bird              # what is a sparrow is a bird, and therefore an animal
      bird: animal

`multilabel.grouped` computes with them: probabilities, decisions, violations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from edgepress.multilabel.errors import InputError, did_you_mean, shown
from edgepress.multilabel.labels import LabelName, LabelSpace, one_form
from edgepress.multilabel.settlement import Settlement
from edgepress.multilabel.yaml_lines import line_at, not_yaml

FILE = "labels.yaml"
KEYS = ("one_of", "at_most_one_of", "implies")
EXAMPLE = "keys and their values, such as one_of: [[front, back]], and on a line of its own implies: {dog: animal}"
"""What a file of label groups holds, for messages."""
_IMPLIES = "labels and what each implies, such as implies: {dog: animal, sparrow: [bird, animal]}"
MOST_BYTES = 16 * 1024 * 1024


class Exclusive(NamedTuple):
    """Labels of which at most one is true of a picture."""

    labels: tuple[str, ...]
    none: bool
    """Whether a picture may have none of them."""

    def __str__(self) -> str:
        return f"{'at most one' if self.none else 'one'} of {shown(self.labels)}"


class LabelGroups(BaseModel):
    """Which labels exclude each other and which imply others, by name; without any, each label is for itself.

    Raises:
        ValueError: they contradict each other: a label in two groups, a cycle of implications, a label that implies
            another of its group or two of one group, or a label that could be true of no picture; names the labels of
            every contradiction.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    one_of: tuple[tuple[LabelName, ...], ...] = ()
    """Groups of which exactly one label is true of every picture."""
    at_most_one_of: tuple[tuple[LabelName, ...], ...] = ()
    """Groups of which one label is true, or none."""
    implies: dict[LabelName, tuple[LabelName, ...]] = {}
    """From a label to those that are true wherever it is."""

    @model_validator(mode="after")
    def _can_be_kept(self) -> LabelGroups:
        if faults := _contradictions(self):
            raise ValueError(_told(faults))
        return self

    def __bool__(self) -> bool:
        return bool(self.one_of or self.at_most_one_of or self.implies)

    @property
    def exclusive(self) -> tuple[Exclusive, ...]:
        """The groups of both kinds."""
        return (
            *(Exclusive(labels, False) for labels in self.one_of),
            *(Exclusive(labels, True) for labels in self.at_most_one_of),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Every label that is named in them, once."""
        grouped = [name for group in self.exclusive for name in group.labels]
        return tuple(dict.fromkeys([*grouped, *self.implies, *(one for two in self.implies.values() for one in two)]))

    def closure(self) -> dict[str, tuple[str, ...]]:
        """From each label that implies others to all that follow, also by way of others.

        Raises:
            ValueError: a label follows from itself; names the way.
        """
        found: dict[str, tuple[str, ...]] = {}
        for start in self.implies:
            _follow(start, self.implies, found)
        return {name: follows for name, follows in found.items() if follows}

    def select(self, labels: LabelSpace) -> LabelGroups:
        """What is left of them for some of the labels.

        A group that loses a label may have none true, since the lost one may be. A group of one label is left out. An
        implication by way of a lost label stays.
        """
        if all(name in labels for name in self.names):
            return self
        whole: list[tuple[str, ...]] = []
        less: list[tuple[str, ...]] = []
        for group in self.exclusive:
            left = tuple(name for name in group.labels if name in labels)
            if len(left) > 1:
                (whole if len(left) == len(group.labels) and not group.none else less).append(left)
        implies = {
            name: tuple(one for one in follows if one in labels)
            for name, follows in self.closure().items()
            if name in labels
        }
        left_over = {name: follows for name, follows in implies.items() if follows}
        return LabelGroups(one_of=tuple(whole), at_most_one_of=tuple(less), implies=left_over)

    def among(self, labels: LabelSpace) -> LabelGroups:
        """The exclusive groups among some of the labels, for the answers of a model that has no others.

        Unlike `select`, which is about what is true of a picture, a group keeps its kind; one of one label is left out.
        """

        def left(groups: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
            cut = (tuple(name for name in group if name in labels) for group in groups)
            return tuple(group for group in cut if len(group) > 1)

        return LabelGroups(one_of=left(self.one_of), at_most_one_of=left(self.at_most_one_of))

    def as_yaml(self) -> str:
        """What `read` reads."""
        given = self.model_dump(mode="json", exclude_defaults=True)
        return yaml.safe_dump(given, allow_unicode=True, sort_keys=False)

    @classmethod
    def read(cls, path: Path, labels: LabelSpace | None = None, *, no_label: Sequence[str] = ()) -> LabelGroups:
        """Read them from a YAML file; every scalar is the name that is written there, also `no`, `on` and `1`.

        Args:
            labels: those that the names must be among.
            no_label: the names that were taken out of them, because they say that a picture has no label.

        Raises:
            InputError: the file cannot be read or has another form (says in which line), a name is no label (suggests a
                near one), or they contradict each other; names every fault.
        """
        keys = dict(_entries(_mapping(path, _composed(path)), str(path)))
        faults = [
            f"unknown key {key!r}{did_you_mean(key, KEYS)}; valid keys: {', '.join(KEYS)}"
            for key in keys
            if key not in KEYS
        ]
        given: dict[str, Any] = {}
        for key in KEYS:
            try:
                if key in keys:
                    given[key] = (_implications if key == "implies" else _groups)(keys[key], key)
            except InputError as error:
                faults.append(str(error))
        read = cls.model_construct(**given)
        if labels is not None:
            unknown = [name for name in read.names if name not in labels]
            taken = set(map(one_form, no_label))
            faults += [
                _taken_out(name, read)
                if name in taken
                else f"{name!r} is no label of the data set ({shown(labels.names)}){did_you_mean(name, labels.names)}"
                for name in unknown
            ]
        if faults := [*faults, *_contradictions(read)]:
            raise InputError(f"{path}: {_told(faults)}")
        try:
            return cls(**given)
        except ValidationError as error:
            said = error.errors(include_url=False)[0]["msg"]
            raise InputError(f"{path}: {said.removeprefix('Value error, ')}") from None


def is_groups_file(path: Path) -> bool:
    """Whether a YAML file has one of the keys of label groups, or one that looks like a mistyped one.

    Raises:
        InputError: it cannot be read, or is no YAML.
    """
    root = _composed(path)
    if not isinstance(root, yaml.MappingNode):
        return False
    written = [str(key.value) for key, _ in root.value if isinstance(key, yaml.ScalarNode)]
    return any(name in KEYS or did_you_mean(name, KEYS) for name in written)


def _composed(path: Path) -> yaml.Node | None:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path}: larger than any file of label groups; expected YAML, as docs/labels.md has it")
        return yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected label groups (YAML)") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise not_yaml(path, error, EXAMPLE) from None


def _mapping(where: Path | str, node: yaml.Node | None) -> yaml.MappingNode:
    if not isinstance(node, yaml.MappingNode):
        line = "" if node is None else f", {line_at(node.start_mark)}"
        raise InputError(f"{where}{line}: expected {EXAMPLE if where != 'implies' else _IMPLIES}")
    return node


def _entries(node: yaml.MappingNode, where: str) -> Iterator[tuple[str, yaml.Node]]:
    seen: set[str] = set()
    for key, value in node.value:
        (name,) = _names(key, where, single=True)
        if name in seen:
            raise InputError(f"{where}, {line_at(key.start_mark)}: {name!r} is given twice; expected it once")
        seen.add(name)
        yield name, value


def _groups(node: yaml.Node, where: str) -> tuple[tuple[str, ...], ...]:
    """A list of lists; a list of names is one group."""
    if not isinstance(node, yaml.SequenceNode):
        raise InputError(f"{where}, {line_at(node.start_mark)}: expected lists of labels, {_listed(where)}")
    flat = [isinstance(one, yaml.ScalarNode) for one in node.value]
    if all(flat):
        return (_names(node, where),)
    return tuple(_names(one, where) for one in node.value)


def _listed(key: str) -> str:
    return f"such as {key}: [[front, back], [day, night]]"


def _implications(node: yaml.Node, where: str) -> dict[str, tuple[str, ...]]:
    entries = _entries(_mapping(where, node), where)
    return {name: _names(value, f"{where} {name}", single=True) for name, value in entries}


def _names(node: yaml.Node, where: str, *, single: bool = False) -> tuple[str, ...]:
    if isinstance(node, yaml.ScalarNode) and single and node.value.strip():
        return (one_form(node.value),)
    if not isinstance(node, yaml.SequenceNode) or not all(isinstance(one, yaml.ScalarNode) for one in node.value):
        example = _IMPLIES if where.startswith("implies") else f"names of labels, {_listed(where)}"
        raise InputError(f"{where}, {line_at(node.start_mark)}: expected {example}")
    return tuple(one_form(one.value) for one in node.value)


def _taken_out(name: str, groups: LabelGroups) -> str:
    """What is wrong with a name in the groups that is no label any more."""
    exactly = any(name in group for group in groups.one_of)
    moved = ", and move the others of its group to at_most_one_of, since a picture may now have none" if exactly else ""
    return f"{name!r} is no label, because --no-label names it; take it out here{moved}"


def _told(faults: Sequence[str]) -> str:
    if len(faults) == 1:
        return faults[0]
    return f"{len(faults)} faults: " + "; ".join(f"({number}) {fault}" for number, fault in enumerate(faults, 1))


def _contradictions(groups: LabelGroups) -> list[str]:
    """Why the groups and the implications cannot hold together; whether each label is possible is asked only where
    nothing else is wrong."""
    faults = [*_overlaps(groups.exclusive)]
    found: dict[str, tuple[str, ...]] = {}
    circles: set[frozenset[str]] = set()
    for start in groups.implies:
        try:
            _follow(start, groups.implies, found)
        except _CircleError as error:
            if error.labels not in circles:
                circles.add(error.labels)
                faults.append(str(error))
    closure = {name: follows for name, follows in found.items() if follows}
    checked = _Checked(groups.exclusive, closure)
    if faults or (faults := list(checked.excluded())):
        return faults
    return list(checked.impossible())


def _overlaps(groups: Sequence[Exclusive]) -> Iterator[str]:
    owner: dict[str, Exclusive] = {}
    for group in groups:
        if len(group.labels) < 2:
            yield f"a group of {len(group.labels)} labels ({shown(group.labels)}); expected at least two"
        for name in group.labels:
            if name in owner and owner[name] is group:
                yield f"{name!r} is twice in a group: {group}"
            elif name in owner:
                yield f"{name!r} is in two groups: {owner[name]}, and {group}; take it out of one, or join the groups"
            owner[name] = group


class _CircleError(ValueError):
    """A label follows from itself."""

    def __init__(self, way: Sequence[str]) -> None:
        self.labels = frozenset(way)
        super().__init__(f"implications go round in a circle: {' -> '.join(way)}; they would be one label")


def _follow(start: str, implies: dict[str, tuple[str, ...]], found: dict[str, tuple[str, ...]]) -> None:
    """Find what follows from a label, and from each label on the way; iteratively, since a chain may be long."""
    way: list[str] = [start]
    on_way = {start}
    while way:
        name = way[-1]
        if name in found:
            on_way.discard(way.pop())
            continue
        waiting = next((one for one in implies.get(name, ()) if one not in found), None)
        if waiting is None:
            direct = implies.get(name, ())
            found[name] = tuple(dict.fromkeys([*direct, *(far for one in direct for far in found[one])]))
        elif waiting in on_way:
            raise _CircleError([*way[way.index(waiting) :], waiting])
        else:
            way.append(waiting)
            on_way.add(waiting)


@dataclass(frozen=True)
class _Checked:
    """Whether the groups and the implications can hold together."""

    groups: tuple[Exclusive, ...]
    closure: dict[str, tuple[str, ...]]

    def excluded(self) -> Iterator[str]:
        """Labels that imply what excludes them, or what excludes each other."""
        owner = {name: group for group in self.groups for name in group.labels}
        for name, follows in self.closure.items():
            taken = {id(owner[name]): name} if name in owner else {}
            for other in follows:
                if other not in owner:
                    continue
                first = taken.setdefault(id(owner[other]), other)
                if first == name:
                    yield f"{name!r} implies {other!r}, but {owner[other]}: they exclude each other"
                elif first != other:
                    yield f"{name!r} implies both {first!r} and {other!r}, but {owner[other]} is true"

    def impossible(self) -> Iterator[str]:
        """Labels that could be true of no picture."""
        owned = [name for group in self.groups for name in group.labels]
        names = list(dict.fromkeys([*owned, *self.closure, *(one for two in self.closure.values() for one in two)]))
        settlement = Settlement.of(self.groups, self.closure, names)
        if not settlement.entangled:
            return
        for column, name in enumerate(names):
            if not settlement.possible(column):
                yield (
                    f"{name!r} could be true of no picture: what it implies or excludes leaves some one_of "
                    "group without a label; take it out, or put that group under at_most_one_of"
                )


NO_GROUPS = LabelGroups()
"""Every label is for itself."""
