"""The third pass of a run: INT8 is timed against the float engine of its runtime, and every engine on the latency
budget's host. It uses only finished results, so the order in which engines are named changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from edgepress.calibration.int8.search import SLOWER
from edgepress.deploy.bench.against import compare_latency
from edgepress.deploy.bench.latency import prepared
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.run.build import Built
from edgepress.run.latency_budget import host_of_recipe, seen_on_host
from edgepress.run.recipe import Recipe
from edgepress.run.result import EngineResult, HeldTo

log = logging.getLogger("edgepress")


def relate(
    results: Sequence[EngineResult],
    built: Mapping[str, Built],
    recipe: Recipe,
    pictures: list[bytes],
    test: MultiLabelDataset,
) -> list[EngineResult]:
    """The results, with the time of INT8 as a multiple of its float engine's, and with a host's result for each engine.

    Args:
        built: the built engines, by the names of the results.
        pictures: encoded pictures to time with.
    """
    known = {one.engine: one for one in results}
    host = host_of_recipe(recipe)
    related = []
    for one in results:
        made = built.get(one.engine)
        if made is not None and made.bundle is not None:
            one = one.model_copy(update={"held_to": _held_to(one, made, known, built, pictures)})
            if host is not None:
                one = one.model_copy(update={"on_host": seen_on_host(host, made.bundle, recipe, test)})
        related.append(one)
    return related


def _held_to(
    result: EngineResult,
    made: Built,
    known: Mapping[str, EngineResult],
    built: Mapping[str, Built],
    pictures: list[bytes],
) -> HeldTo | None:
    """Compare with the first timed engine among those that it must not be slower than; None if none was timed here."""
    timed = (name for name in made.held_to if name in known and known[name].bench is not None)
    other = next((built[name].bundle for name in timed), None)
    if other is None or result.bench is None:
        return None
    assert made.bundle is not None
    kept = result.held_to
    if kept is not None and kept.digest == other.digest and not kept.ratio.slower_by_disturbance(SLOWER):
        return kept  # measured earlier on this machine; both results were kept
    return time_against(made.bundle, other, pictures)


def time_against(bundle: Bundle, other: Bundle, pictures: list[bytes]) -> HeldTo:
    """An engine's time as a multiple of another's, measured in turn."""
    ratio = compare_latency(bundle, other, np.stack([prepared(bundle, data) for data in pictures]))
    log.info("%s, time against %s: %s", bundle.name, other.name, ratio)
    return HeldTo(engine=other.name, digest=other.digest, ratio=ratio)
