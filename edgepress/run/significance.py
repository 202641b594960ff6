"""Which methods of a comparison differ beyond chance: a paired bootstrap over test pictures and seeds.

In each resample the same pictures are drawn for all methods, and the same seeds for both methods of a pair, so that
what both share cancels (Efron and Tibshirani, An Introduction to the Bootstrap, 1993). Few seeds vary less than the
seeds that they stand for, by √((n − 1)/n): their deviation from their mean is enlarged by as much (Rao and Wu, Journal
of the American Statistical Association 83, 1988).
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from edgepress.multilabel.confidence import LEAST_PICTURES, LEVEL
from edgepress.multilabel.plural import plural
from edgepress.run.result import Interval, Typed

Seeds = Mapping[int, np.ndarray]
"""The students of a method by their seeds: test mAP in points of every resample of the pictures, float64 `[R]`."""


class MethodDifference(Typed):
    """Test mAP of a method minus that of the one it is compared with, in points."""

    method: str
    points: float
    """Over the seeds that both have."""
    interval: Interval
    seeds: int
    verdict: Literal["better", "worse", "open"]
    """Better or worse where the difference is at least the critical one."""


class Significance(Typed):
    """What tells the methods apart from one of them."""

    reference: str
    critical_points: float
    """Chance alone makes no difference from the reference as large as this, with 95 % confidence for all methods at
    once."""
    differences: tuple[MethodDifference, ...]
    told: tuple[str, ...]
    """The same in sentences."""


def against(
    reference: str,
    resampled: Mapping[str, Seeds],
    measured: Mapping[str, Mapping[int, float]],
    pictures: int,
) -> Significance | None:
    """Compare every method with one of them; None where there is no other with a seed of its, or pictures are few.

    Args:
        resampled: the methods' students; all have the same resamples.
        measured: test mAP in points of the same students.
        pictures: number of test pictures.
    """
    own = resampled.get(reference)
    others = {name: sorted(seeds.keys() & own.keys()) for name, seeds in resampled.items()} if own else {}
    others = {name: seeds for name, seeds in others.items() if seeds and name != reference}
    if not others or pictures < LEAST_PICTURES:
        return None
    assert own is not None
    drawn, points = {}, {}
    for name, seeds in others.items():
        drawn[name] = _with_seeds(np.stack([resampled[name][seed] - own[seed] for seed in seeds]))
        points[name] = statistics.mean(measured[name][seed] - measured[reference][seed] for seed in seeds)
    farthest = np.nanmax([np.abs(values - np.nanmean(values)) for values in drawn.values()], axis=0)
    critical = float(np.nanquantile(farthest, LEVEL))
    ends = (1 - LEVEL) / 2, (1 + LEVEL) / 2
    differences = tuple(
        MethodDifference(
            method=name,
            points=points[name],
            interval=tuple(np.nanquantile(drawn[name], ends).tolist()),
            seeds=len(others[name]),
            verdict="open" if abs(points[name]) < critical else ("better" if points[name] > 0 else "worse"),
        )
        for name in sorted(others, key=lambda name: -points[name])
    )
    return Significance(
        reference=reference,
        critical_points=critical,
        differences=differences,
        told=_told(reference, critical, differences, pictures),
    )


def _with_seeds(differences: np.ndarray) -> np.ndarray:
    """Differences of every resample `[R]`, with seeds drawn as well, from those of each seed `[S, R]`."""
    count, resamples = differences.shape
    mean = differences.mean(axis=0)
    if count == 1:
        return mean
    drawn = np.random.default_rng(count).integers(0, count, (count, resamples))
    moved = np.take_along_axis(differences, drawn, axis=0).mean(axis=0) - mean
    return mean + np.sqrt(count / (count - 1)) * moved


def _told(reference: str, critical: float, differences: Sequence[MethodDifference], pictures: int) -> tuple[str, ...]:
    said = [
        f"Differences from {reference} of at least {critical:.2f} points are beyond chance (95 %, all methods at once)"
    ]
    for verdict, words in (
        ("better", "Better than it: {}"),
        ("worse", "Worse than it: {}"),
        ("open", "Not told apart from it: {}"),
    ):
        found = [
            f"{one.method} ({one.points:+.2f}, {one.interval[0]:+.2f} to {one.interval[1]:+.2f})"
            for one in differences
            if one.verdict == verdict
        ]
        if found:
            said.append(words.format(", ".join(found)))
    single = [one.method for one in differences if one.seeds == 1]
    what = plural(pictures, "test picture")
    if len(single) == len(differences):
        said.append(f"{what} were drawn again and again. There is one seed, and another may change more")
    else:
        alone = f". With {', '.join(single)} it has one seed in common, and another may change more" if single else ""
        said.append(f"{what} and the seeds were drawn again and again{alone}")
    return tuple(said)
