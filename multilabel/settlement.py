"""Settlement: a picture's answers that contradict neither the groups of exclusive labels nor the implications.

Labels are numbers here. The order of what is settled, for one picture with a probability p per label that is at least
that of every label that implies it:

1. every group of which exactly one is true gets its most probable label that leaves each other such group one (where
   implications join several such groups, the first is the one whose labels imply the others');
2. every other label that is answered yes by itself is taken, the most probable first, together with what it implies,
   unless this would make a second label of a group true; then it is not answered yes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

Taken: TypeAlias = Mapping[int, int]
"""From a group to the one of its labels that is true."""


@dataclass(frozen=True)
class Settlement:
    """Groups of exclusive labels and what each label implies, as numbers."""

    groups: tuple[tuple[int, ...], ...]
    none: tuple[bool, ...]
    """Whether a picture may have no label of each group."""
    closure: Mapping[int, tuple[int, ...]]
    """From each label that implies others to all that follow."""

    @classmethod
    def of(
        cls,
        groups: Iterable[tuple[Sequence[str], bool]],
        closure: Mapping[str, Sequence[str]],
        names: Sequence[str],
    ) -> Settlement:
        """The same by names, each of which is in `names`."""
        index = {name: place for place, name in enumerate(names)}
        groups = tuple(groups)
        return cls(
            tuple(tuple(index[name] for name in labels) for labels, _ in groups),
            tuple(none for _, none in groups),
            {index[name]: tuple(index[one] for one in follows) for name, follows in closure.items()},
        )

    @cached_property
    def group_of(self) -> dict[int, int]:
        """From each grouped label to its group."""
        return {label: number for number, labels in enumerate(self.groups) for label in labels}

    @cached_property
    def entangled(self) -> tuple[int, ...]:
        """The groups of exactly one whose labels imply labels of other groups, or are implied so; implying ones first.

        A choice in one of them may leave another without a possible label.
        """
        touched = {number: self._touched(number) for number, none in enumerate(self.none) if not none}
        joined = {number for number, others in touched.items() if others}
        joined |= {other for others in touched.values() for other in others if not self.none[other]}
        order: list[int] = []
        for start in sorted(joined):
            waiting = [(start, False)]
            while waiting:
                number, done = waiting.pop()
                if number in order:
                    continue
                if done:
                    order.append(number)
                    continue
                waiting.append((number, True))
                above = {other for other in joined if number in touched.get(other, ())} - set(order)
                waiting += [(other, False) for other in sorted(above) if (other, True) not in waiting]
        return tuple(order)

    def _touched(self, number: int) -> set[int]:
        """The other groups of which some label of this one implies a label."""
        found = {
            self.group_of[one]
            for label in self.groups[number]
            for one in self.closure.get(label, ())
            if one in self.group_of
        }
        return found - {number}

    def possible(self, label: int) -> bool:
        """Whether some picture may have the label."""
        taken = self._with(label, {})
        return taken is not None and self._choose(None, taken, self.entangled) is not None

    def settle(self, p: Sequence[float], yes: Sequence[bool]) -> set[int]:
        """The labels that are answered yes.

        Args:
            p: `[C]`, at least that of every label that implies it.
            yes: `[C]`, the labels that are answered yes by themselves.
        """
        taken = self._choose(p, {}, self.entangled)
        assert taken is not None, "groups that cannot be kept are refused when they are read"
        found = set(taken.values())
        for number, labels in enumerate(self.groups):
            if not self.none[number] and number not in taken:
                best = max(labels, key=lambda label: p[label])
                taken = {**taken, number: best}
                found.add(best)
        for label in sorted((label for label, said in enumerate(yes) if said), key=lambda label: -p[label]):
            more = self._with(label, taken)
            if more is not None:
                taken = more
                found.add(label)
        return found.union(*(self.closure.get(label, ()) for label in found))

    def _with(self, label: int, taken: Taken) -> Taken | None:
        """What is taken once the label is; None where it contradicts that."""
        more = dict(taken)
        for one in (label, *self.closure.get(label, ())):
            number = self.group_of.get(one)
            if number is not None and more.setdefault(number, one) != one:
                return None
        return more

    def _choose(self, p: Sequence[float] | None, taken: Taken, pending: tuple[int, ...]) -> Taken | None:
        """Take a label of each pending group, the most probable that leaves the others one; None where none does."""
        if not pending:
            return taken
        number, rest = pending[0], pending[1:]
        if number in taken:
            return self._choose(p, taken, rest)
        labels = self.groups[number]
        for label in labels if p is None else sorted(labels, key=lambda label: -p[label]):
            more = self._with(label, taken)
            found = None if more is None else self._choose(p, more, rest)
            if found is not None:
                return found
        return None
