"""The search space of every method: which settings of a student are tuned, and between which bounds.

A method's settings are the learning rate, the weight of each of its terms, and what belongs to such a term.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from edgepress.compress.config import DistillConfig
from edgepress.compress.methods import TERMS
from edgepress.multilabel.errors import InputError

Value: TypeAlias = float | int | str
"""Of a setting that is tuned."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """Where a setting is searched, on a logarithmic scale: factors of the method's own value."""

    low: float
    high: float
    term: str | None = None
    """The term that the setting belongs to: it is tuned where this has a weight. None for the settings of all."""

    def holds(self, name: str, config: DistillConfig) -> bool:
        """Whether the setting of this name is one of a method's."""
        if name in TERMS:
            return bool(getattr(config, name))
        return self.term is None or bool(getattr(config, self.term))


_TENFOLD = Range(low=0.1, high=10)
RANGES: Mapping[str, Range] = {
    "lr": Range(low=0.25, high=4),
    "mld": _TENFOLD,
    # The published weights of these two are for 80 epochs, and far too large for short trainings.
    "cd": Range(low=0.01, high=10),
    "id": Range(low=0.01, high=10),
    "hint": _TENFOLD,
    "mse": _TENFOLD,
    "ps": _TENFOLD,
    "kd": _TENFOLD,
    "kd_temperature": Range(low=0.25, high=2, term="kd"),
    "rkd": _TENFOLD,
    "pkt": _TENFOLD,
    "review_kd": _TENFOLD,
    "at": _TENFOLD,
    "fitnet": _TENFOLD,
    "label_map": _TENFOLD,
    "simkd": _TENFOLD,
    "soft_bce": _TENFOLD,
    "dist": _TENFOLD,
    "refined": _TENFOLD,
    "prototypes": _TENFOLD,
}
"""Every setting that trials choose, by its name in `DistillConfig`. `alone` has only the learning rate."""


@dataclass(frozen=True, kw_only=True)
class Tunable:
    """A number among a method's settings, with the method's own value and the bounds of the search."""

    name: str
    own: float
    low: float
    high: float

    def at(self, place: float) -> float:
        """The value at a place in [0, 1], to three digits."""
        return self.rounded(self.low * (self.high / self.low) ** place)

    def rounded(self, value: float) -> float:
        """A value to three digits, within the bounds."""
        return min(max(float(f"{value:.3g}"), self.low), self.high)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A setting that has one of several values, such as the backbone."""

    name: str
    own: int | str
    values: tuple[int | str, ...]

    def at(self, place: float) -> int | str:
        """The value at a place in [0, 1)."""
        return self.values[int(place * len(self.values))]


Space: TypeAlias = tuple[Tunable | Choice, ...]
Settings: TypeAlias = dict[str, Value]
"""A point of a space: a value for each name."""


def space_of(config: DistillConfig) -> tuple[Tunable, ...]:
    """The settings of a method that trials choose.

    Raises:
        InputError: a term has a weight and no range in `RANGES`.
    """
    if unknown := [name for name in config.terms if name not in RANGES]:
        raise InputError(f"{unknown[0]}: has no range of its own to be tuned in; expected {', '.join(RANGES)}")
    found = {name: (getattr(config, name), bounds) for name, bounds in RANGES.items() if bounds.holds(name, config)}
    return tuple(
        Tunable(name=name, own=own, low=own * bounds.low, high=own * bounds.high)
        for name, (own, bounds) in found.items()
    )


def spread(space: Space, count: int) -> list[Settings]:
    """The first `count` points of a search: the method's own settings, and then points that fill the space evenly.

    They are Halton's (Numerische Mathematik 2, 1960), without the first, whose place in the learning rate's range is
    the method's own. Any number of first points is spread well, so more trials only add to those that there are.
    """
    points: list[Settings] = [{one.name: one.own for one in space}]
    for number in range(2, count + 1):
        points.append(
            {one.name: one.at(_mirrored(number, base)) for one, base in zip(space, _PRIMES[: len(space)], strict=True)}
        )
    return points


_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97)


def _mirrored(number: int, base: int) -> float:
    """The digits of a number in a base, mirrored at the point: 6 is 110 in base 2, and 0.011 is 3/8."""
    place, found = 1.0, 0.0
    while number:
        number, digit = divmod(number, base)
        place /= base
        found += digit * place
    return found
