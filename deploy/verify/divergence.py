"""Which step from torch to the engine went wrong: every bundle on the way, each compared with the one before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from edgepress.deploy.verify.agreement import DROP_BUDGET, Agreement, agree, over_budget
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.decisions import Decisions
from edgepress.multilabel.errors import EngineUnavailableError, InputError


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One bundle on the way, and how far it is from the one before it."""

    stage: str
    kind: str
    precision: str
    after: str | None = None
    """The stage that it was compared with; None of the first, and of one that did not run."""
    agreement: Agreement | None = None
    """With the stage before it."""
    beyond: list[str] = field(default_factory=list)
    """What went beyond the budgets of its precision."""
    not_run: str | None = None
    """Why it was not compared."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON: of the agreement the numbers that have a budget, and the SQNR."""
        kept = ("drop_points", "max_abs_diff", "sqnr_db", "flip_rate")
        found = {name: getattr(self.agreement, name, None) for name in kept}
        return {**{name: value for name, value in asdict(self).items() if name != "agreement"}, **found}


def walk_stages(
    bundle: Bundle,
    data: MultiLabelDataset,
    known: Mapping[str, np.ndarray],
    answer: Callable[[Bundle], np.ndarray],
    *,
    torch: np.ndarray | None,
    budget: float,
) -> list[Stage]:
    """Compare torch -> ONNX fp32 -> what was made of it -> the engine, one step at a time.

    Args:
        known: logits `[N, C]` of bundles that have run already, by digest; the engine's own among them.
        answer: runs any other; gives its logits `[N, C]` in the data set's order of labels.
        torch: torch's own logits `[N, C]` where they are stored.
        budget: largest drop in mAP points of the engine itself; the other stages have `DROP_BUDGET`.

    Returns:
        The stages, torch first. One that does not stand beside the engine, or cannot run here, says so, and the one
        after it is compared with the last that ran.
    """
    chain, missing = _ancestors(bundle)
    stages: list[Stage] = []
    before: tuple[str, np.ndarray] | None = None
    decided: Decisions | None = None
    if torch is not None and chain[0].manifest.kind != "torch":
        before = "torch (reference.npz)", torch
        stages.append(Stage(stage=before[0], kind="torch", precision="fp32"))
    # Of an fp32 ONNX that is compared with torch's own logits nothing in front of it can be at fault.
    oldest = chain[0].manifest
    exported = (oldest.kind, oldest.precision) == ("onnx", "fp32") and "calibrated_from" not in oldest.facts
    if missing is not None and not (exported and before is not None):
        stages.append(missing)
    for one in chain:
        stage = Stage(stage=one.name, kind=one.manifest.kind, precision=one.manifest.precision)
        stored = torch if one.manifest.kind == "torch" and torch is not None else known.get(one.digest)
        try:
            logits = answer(one) if stored is None else stored
        except (EngineUnavailableError, InputError) as error:
            stages.append(replace(stage, not_run=str(error)))
            continue
        finite = bool(np.isfinite(logits).all())
        if before is None:
            stages.append(stage if finite else replace(stage, beyond=["its logits are not all finite"]))
        else:
            decisions = one.decisions
            if decisions == decided:  # the one before it was refitted already: both answer by the same
                decisions = decisions.model_copy(update={"refitted_from": None})
            found = agree(logits, before[1], data, decisions)
            beyond = over_budget(found, stage.precision, budget if one is bundle else DROP_BUDGET[stage.precision])
            stages.append(replace(stage, after=before[0], agreement=found, beyond=beyond))
        if finite:  # nothing can be compared with what is not
            before, decided = (one.name, logits), one.decisions
    return stages


def first_beyond(stages: list[Stage]) -> str | None:
    """The first stage that went beyond its budgets; with those in front of it that were not compared, if any."""
    skipped: list[str] = []
    for stage in stages:
        if stage.not_run is not None:
            skipped.append(stage.stage)
        elif stage.beyond:
            return f"{stage.stage}, or {' or '.join(skipped)} before it" if skipped else stage.stage
        else:
            skipped = []
    return None


def _ancestors(bundle: Bundle) -> tuple[list[Bundle], Stage | None]:
    """A bundle and those it was made from up to torch, the oldest first; and the first that is absent, if one is."""
    chain = [bundle]
    while chain[0].manifest.kind != "torch" and (named := chain[0].manifest.parent) is not None:
        try:
            parent, reason = chain[0].open_parent(), f"does not stand beside {chain[0].name}, unchanged"
        except InputError as error:
            parent, reason = None, str(error)
        if parent is None:
            return chain, Stage(stage=named.name, kind="unknown", precision="unknown", not_run=reason)
        chain.insert(0, parent)
    return chain, None
