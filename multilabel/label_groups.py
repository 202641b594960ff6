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
from typing import NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from edgepress.multilabel.errors import InputError, did_you_mean, shown
from edgepress.multilabel.labels import LabelName, LabelSpace, one_form
from edgepress.multilabel.settlement import Settlement

FILE = "labels.yaml"
KEYS = ("one_of", "at_most_one_of", "implies")
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
            another of its group or two of one group, or a label that could be true of no picture; names the labels.
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
        _refuse_overlap(self.exclusive)
        _Checked(self.exclusive, self.closure()).refuse()
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

    def require_known(self, labels: LabelSpace, where: str) -> None:
        """Raise an error unless every name is a label.

        Raises:
            InputError: one is not; suggests a near one.
        """
        for name in self.names:
            if name not in labels:
                near = did_you_mean(name, labels.names)
                raise InputError(f"{where}: {name!r} is no label of the data set ({shown(labels.names)}){near}")

    def as_yaml(self) -> str:
        """What `read` reads."""
        given = self.model_dump(mode="json", exclude_defaults=True)
        return yaml.safe_dump(given, allow_unicode=True, sort_keys=False)

    @classmethod
    def read(cls, path: Path) -> LabelGroups:
        """Read them from a YAML file; every scalar is the name that is written there, also `no`, `on` and `1`.

        Raises:
            InputError: the file cannot be read or has another form (says in which line), or they contradict each other.
        """
        keys = dict(_entries(_mapping(path, _composed(path)), str(path)))
        for key in keys:
            if key not in KEYS:
                raise InputError(f"{path}: unknown key {key!r}{did_you_mean(key, KEYS)}; valid keys: {', '.join(KEYS)}")
        implies = keys.get("implies")
        try:
            return cls(
                one_of=_groups(keys.get("one_of"), f"{path}, one_of"),
                at_most_one_of=_groups(keys.get("at_most_one_of"), f"{path}, at_most_one_of"),
                implies={
                    name: _names(value, f"{path}, implies {name}", single=True)
                    for name, value in (_entries(_mapping(path, implies), f"{path}, implies") if implies else ())
                },
            )
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
        raise InputError(f"{path}: not YAML ({' '.join(str(error).split())[:160]})") from None


def _mapping(path: Path, node: yaml.Node | None) -> yaml.MappingNode:
    if not isinstance(node, yaml.MappingNode):
        line = "" if node is None else f", line {node.start_mark.line + 1}"
        raise InputError(f"{path}{line}: expected keys ({', '.join(KEYS)}; under implies, labels) and their values")
    return node


def _entries(node: yaml.MappingNode, where: str) -> Iterator[tuple[str, yaml.Node]]:
    seen: set[str] = set()
    for key, value in node.value:
        (name,) = _names(key, where, single=True)
        if name in seen:
            raise InputError(f"{where}, line {key.start_mark.line + 1}: {name!r} is given twice; expected it once")
        seen.add(name)
        yield name, value


def _groups(node: yaml.Node | None, where: str) -> tuple[tuple[str, ...], ...]:
    """A list of lists; a list of names is one group."""
    if node is None:
        return ()
    if not isinstance(node, yaml.SequenceNode):
        raise InputError(f"{where}, line {node.start_mark.line + 1}: expected lists of labels, such as [front, back]")
    flat = [isinstance(one, yaml.ScalarNode) for one in node.value]
    if all(flat):
        return (_names(node, where),)
    return tuple(_names(one, where) for one in node.value)


def _names(node: yaml.Node, where: str, *, single: bool = False) -> tuple[str, ...]:
    if isinstance(node, yaml.ScalarNode) and single and node.value.strip():
        return (one_form(node.value),)
    if not isinstance(node, yaml.SequenceNode) or not all(isinstance(one, yaml.ScalarNode) for one in node.value):
        raise InputError(f"{where}, line {node.start_mark.line + 1}: expected names of labels")
    return tuple(one_form(one.value) for one in node.value)


def _refuse_overlap(groups: Sequence[Exclusive]) -> None:
    owner: dict[str, Exclusive] = {}
    for group in groups:
        if len(group.labels) < 2:
            raise ValueError(f"a group of {len(group.labels)} labels ({shown(group.labels)}); expected at least two")
        for name in group.labels:
            if name in owner and owner[name] is group:
                raise ValueError(f"{name!r} is twice in a group: {group}")
            if name in owner:
                raise ValueError(
                    f"{name!r} is in two groups: {owner[name]}, and {group}; take it out of one, or join the groups"
                )
            owner[name] = group


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
            circle = [*way[way.index(waiting) :], waiting]
            raise ValueError(f"implications go round in a circle: {' -> '.join(circle)}; they would be one label")
        else:
            way.append(waiting)
            on_way.add(waiting)


@dataclass(frozen=True)
class _Checked:
    """Whether the groups and the implications can hold together."""

    groups: tuple[Exclusive, ...]
    closure: dict[str, tuple[str, ...]]

    def refuse(self) -> None:
        """Raise ValueError where they cannot, or where a label could never be true."""
        owner = {name: group for group in self.groups for name in group.labels}
        for name, follows in self.closure.items():
            taken = {id(owner[name]): name} if name in owner else {}
            for other in follows:
                if other not in owner:
                    continue
                first = taken.setdefault(id(owner[other]), other)
                if first == name:
                    raise ValueError(f"{name!r} implies {other!r}, but {owner[other]}: they exclude each other")
                if first != other:
                    raise ValueError(f"{name!r} implies both {first!r} and {other!r}, but {owner[other]} is true")
        names = list(dict.fromkeys([*owner, *self.closure, *(one for two in self.closure.values() for one in two)]))
        settlement = Settlement.of(self.groups, self.closure, names)
        if not settlement.entangled:
            return
        for column, name in enumerate(names):
            if not settlement.possible(column):
                raise ValueError(
                    f"{name!r} could be true of no picture: what it implies or excludes leaves some one_of "
                    "group without a label; take it out, or put that group under at_most_one_of"
                )


NO_GROUPS = LabelGroups()
"""Every label is for itself."""
