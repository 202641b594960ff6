"""Decisions of an INT8 bundle, aligned to those of the fp32 bundle that it was made from."""

from __future__ import annotations

import logging

import numpy as np

from edgepress.calibration.decide.thresholds import decisions_again
from edgepress.deploy.engines import open_engine
from edgepress.deploy.verify.verification import predict_split
from edgepress.multilabel.bundle import Bundle, rewrite_bundle
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.decisions import Decisions, changed_share, flips_per_yes
from edgepress.multilabel.facts import DecisionsChanged, Facts

log = logging.getLogger("edgepress")


def split_logits(bundle: Bundle, data: MultiLabelDataset, device: str = "cpu", *, unproven: bool = False) -> np.ndarray:
    """An engine's logits `[N, C]` on a split, in its order; arguments as `open_engine`."""
    with open_engine(bundle, device, unproven=unproven) as engine:
        return predict_split(engine, data)


def align_decisions_to(
    parent: Bundle, reference: np.ndarray, logits: np.ndarray, val: MultiLabelDataset
) -> tuple[Decisions | None, Facts]:
    """The parent's decisions aligned to the INT8 model, and how many change on val with the alignment and without.

    Args:
        reference: the parent's logits on val, `[N, C]`.
        logits: those of the INT8 model, `[N, C]`.

    Returns:
        The decisions and the shares of changed ones; None, and nothing, where none were fitted for the parent.
    """
    before = parent.manifest.decisions
    if before is None:
        return None, Facts()
    after = decisions_again(before, reference, logits, val)
    theirs = before.decide(reference)
    changed = DecisionsChanged(
        val_changed_kept=changed_share(theirs, before.decide(logits), val.ignore),
        val_changed_refitted=changed_share(theirs, after.decide(logits), val.ignore),
    )
    log.info(
        "  decisions changed on val: %.2f %% as they were, %.2f %% fitted to INT8",
        100 * changed.val_changed_kept,
        100 * changed.val_changed_refitted,
    )
    return after, Facts(decisions=changed)


def align_again(made: Bundle, parent: Bundle, val: MultiLabelDataset, allowed: float) -> Bundle | None:
    """A finished INT8 bundle with decisions aligned to those that its parent has now.

    None if it changes more of them per predicted positive than is `allowed`, because another graph may not.
    """
    log.info("%s: aligning its decisions to those of %s", made.path, parent.path)
    # As in the search, whatever the processor: decisions are fitted to the answers that the engine gives here.
    reference, logits = (split_logits(bundle, val, unproven=True) for bundle in (parent, made))
    decisions, facts = align_decisions_to(parent, reference, logits, val)
    now, calibration = decisions or parent.decisions, made.manifest.calibration
    assert calibration is not None
    flips = flips_per_yes(parent.decisions.decide(reference), now.decide(logits), val.ignore)
    if flips > allowed:
        log.info(
            "%s: %.3f of them change per predicted positive, %g are allowed: searching again", made.path, flips, allowed
        )
        return None
    tried = tuple(one.model_copy(update={"flips": None}) for one in calibration.tried)  # of the decisions before
    calibration = calibration.model_copy(update={"val_flips": flips, "tried": tried})
    changed = {"decisions": decisions, "facts": facts, "calibration": calibration}
    return rewrite_bundle(made, made.path, parent=parent.as_parent, **changed)
