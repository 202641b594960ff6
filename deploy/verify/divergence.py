"""Find the step from the model to the engine that went wrong: each bundle is compared with the one before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from edgepress.deploy.verify.agreement import ALLOWED_DROP, beyond_allowed
from edgepress.deploy.verify.comparison import Comparison
from edgepress.deploy.verify.decision_gate import BOUNDS, Bounds
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.cells import all_finite
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.decisions import Decisions
from edgepress.multilabel.errors import EngineUnavailableError, InputError
from edgepress.multilabel.folder_kinds import is_bundle


class Stage(BaseModel):
    """One bundle on the way, and how far it is from the one before it; values that were not compared are None."""

    model_config = ConfigDict(frozen=True)

    stage: str
    kind: str
    precision: str
    after: str | None = None
    """The stage that it was compared with; None for the first stage, and for one that did not run."""
    beyond: tuple[str, ...] = ()
    """The values beyond what is allowed for its precision."""
    not_run: str | None = None
    """Why it was not compared."""
    drop_points: float | None = None
    max_abs_diff: float | None = None
    sqnr_db: float | None = None
    flip_rate: float | None = None

    @classmethod
    def of(cls, bundle: Bundle, **found: Any) -> Stage:
        return cls(stage=bundle.name, kind=bundle.manifest.kind, precision=bundle.manifest.precision, **found)


def walk_stages(
    bundle: Bundle,
    data: MultiLabelDataset,
    known: Mapping[str, np.ndarray],
    answer: Callable[[Bundle], np.ndarray],
    *,
    stored: tuple[str, np.ndarray] | None,
    budget: float,
    bounds: Bounds,
    folder: Path | None = None,
) -> list[Stage]:
    """Compare torch's model -> ONNX fp32 -> what was made of it -> the engine, one step at a time.

    Args:
        known: logits `[N, C]` of bundles that have run already, by digest; the engine's own among them.
        answer: runs any other bundle; gives its logits `[N, C]` in the data set's order of labels.
        stored: whose logits `[N, C]` are stored in reference.npz, in words, and these, if there are any: torch's own,
            or those of an adopted model.
        budget: the allowed drop in points for the engine itself; the other stages have `ALLOWED_DROP`.
        bounds: those of its decisions; the other stages have `BOUNDS`.
        folder: where large arrays are kept, as `multilabel.cells` says.

    Returns:
        The stages, that of the stored logits first, behind that whose logits they are if it is gone. A stage that is
        not beside the engine, or cannot run here, says so, and the one after it is compared with the last that ran.
    """
    chain, missing = _ancestors(bundle)
    stages: list[Stage] = []
    before: tuple[str, np.ndarray] | None = None
    decided: Decisions | None = None
    if stored is not None and chain[0].manifest.kind != "torch":
        before = stored
        stages.append(Stage(stage=before[0], kind="reference", precision="fp32"))
    if missing is not None:
        stages = _with_missing(missing, stages, chain[0])
    for one in chain:
        given = stored[1] if one.manifest.kind == "torch" and stored is not None else known.get(one.digest)
        try:
            logits = answer(one) if given is None else given
        except (EngineUnavailableError, InputError) as error:
            stages.append(Stage.of(one, not_run=str(error)))
            continue
        finite = all_finite(logits)
        if before is None:
            stages.append(Stage.of(one, beyond=() if finite else ("its logits are not all finite",)))
        else:
            decisions = one.decisions
            if decisions == decided:  # the stage before it was refitted already, so both use the same decisions
                decisions = decisions.model_copy(update={"refitted_from": None})
            compared = Comparison.on(data, logits, before[1], decisions, folder)
            precision = one.manifest.precision
            allowed = (budget, bounds) if one is bundle else (ALLOWED_DROP[precision], BOUNDS[precision])
            stages.append(_compared(one, before[0], compared, *allowed))
        if finite:  # nothing can be compared with logits that are not finite
            before, decided = (one.name, logits), one.decisions
    return stages


def _compared(one: Bundle, after: str, found: Comparison, budget: float, bounds: Bounds) -> Stage:
    beyond = beyond_allowed(found.agreement, one.manifest.precision, budget)
    beyond += found.gate(bounds, intervals=False).reasons()
    kept = found.agreement.model_dump(include={"drop_points", "max_abs_diff", "sqnr_db", "flip_rate"})
    return Stage.of(one, after=after, beyond=tuple(map(str, beyond)), **kept)


def first_beyond(stages: list[Stage]) -> str | None:
    """The first stage beyond what is allowed for it, with the stages before it that were not compared, if any."""
    skipped: list[str] = []
    for stage in stages:
        if stage.not_run is not None:
            skipped.append(stage.stage)
        elif stage.beyond:
            return f"{stage.stage}, or {' or '.join(skipped)} before it" if skipped else stage.stage
        else:
            skipped = []
    return None


def _with_missing(missing: Stage, stages: list[Stage], oldest: Bundle) -> list[Stage]:
    """The stages with one that is absent: behind the stored logits, or before them where they stand for it.

    They do where an fp32 ONNX is compared with them: nothing before it can then be at fault.
    """
    about = oldest.manifest
    exported = (about.kind, about.precision) == ("onnx", "fp32") and about.facts.calibrated_from is None
    if not (stages and exported):
        return [*stages, missing]
    said = f"{missing.not_run}; its stored logits are compared in its place"
    return [missing.model_copy(update={"not_run": said}), *stages]


def _ancestors(bundle: Bundle) -> tuple[list[Bundle], Stage | None]:
    """A bundle and those it was made from, up to torch, the oldest first; and the first one that is absent, if any."""
    chain = [bundle]
    while chain[0].manifest.kind != "torch" and (named := chain[0].manifest.parent) is not None:
        try:
            parent = chain[0].open_parent()
            there = is_bundle(chain[0].path.resolve().parent / PurePosixPath(named.name).name)
            reason = f"is not beside {chain[0].name}{', unchanged: another one has its name now' if there else ''}"
        except InputError as error:
            parent, reason = None, str(error)
        if parent is None:
            return chain, Stage(stage=named.name, kind="unknown", precision="unknown", not_run=reason)
        chain.insert(0, parent)
    return chain, None
