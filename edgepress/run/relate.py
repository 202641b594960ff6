"""The third pass of a run: INT8 timed against the float engine of its runtime, and every engine on the latency budget's
host. It looks at finished results alone, so the order in which engines are named changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np

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
    """The results with how long INT8 takes of its float engine, and with what a host says of each engine.

    Args:
        built: by the names of the results.
        pictures: encoded, to time on.
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
    """Against the first engine that it is held to of those that were timed here; None where none was."""
    timed = (name for name in made.held_to if name in known and known[name].bench is not None)
    other = next((built[name].bundle for name in timed), None)
    if other is None or result.bench is None:
        return None
    assert made.bundle is not None
    if result.held_to is not None and result.held_to.digest == other.digest:
        return result.held_to  # measured before, on this machine: both results were kept
    return time_against(made.bundle, other, pictures)


def time_against(bundle: Bundle, other: Bundle, pictures: list[bytes]) -> HeldTo:
    """An engine's time as a multiple of another's, in turn."""
    ratio = compare_latency(bundle, other, np.stack([prepared(bundle, data) for data in pictures]))
    log.info("%s, time against %s: %s", bundle.name, other.name, ratio)
    return HeldTo(engine=other.name, digest=other.digest, ratio=ratio)
