"""What is said of a data set beside an engine's verdict: labels that changed, and pictures that prove little."""

from __future__ import annotations

import numpy as np

from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.cells import all_finite, row_parts
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.datasets.together import FEWEST_TO_PROVE
from edgepress.multilabel.judgement import Reason
from edgepress.multilabel.metrics import left_out, told_constant
from edgepress.multilabel.plural import plural


def label_checks(bundle: Bundle, data: MultiLabelDataset, targets: np.ndarray, ignore: np.ndarray) -> list[Reason]:
    """What is wrong with a data set's labels: they must still be those of the bundle and of the reference.

    Args:
        targets: of the reference, `[N, C]`, as is `ignore`.
    """
    reasons = []
    if bundle.labels.names != data.labels.names and data.orders_labels:
        text = "the data set has the bundle's labels in another order: give its labels.txt the bundle's order"
        reasons.append(Reason(kind="labels", text=text))
    changed = sum(
        int(((targets[part] != data.targets[part]) | (ignore[part] != data.ignore[part])).any(axis=1).sum())
        for part in row_parts(targets, ignore)
    )
    if changed:
        text = f"the labels of {plural(changed, 'picture')} have changed since the reference was made: export again"
        reasons.append(Reason(kind="labels", text=text))
    return reasons


def weak_proof(data: MultiLabelDataset, logits: np.ndarray) -> tuple[str, ...]:
    """Why a split proves little: it has few pictures, or labels without a positive or a negative one, or the engine's
    logits `[N, C]` of a label are the same for every picture."""
    cautions = []
    if len(data) < FEWEST_TO_PROVE:
        cautions.append(
            f"only {plural(len(data), 'picture')}: with fewer than {FEWEST_TO_PROVE} a drop in mAP says little"
        )
    left = left_out(data.targets, data.ignore)
    for kind, columns in (("positive", left.without_positive), ("negative", left.without_negative)):
        if columns:
            named = ", ".join(data.labels.names[column] for column in columns[:5]) + (
                ", ..." if len(columns) > 5 else ""
            )
            cautions.append(
                f"{len(columns)} of {len(data.labels)} labels have no {kind} picture and are not proven by mAP: {named}"
            )
    if all_finite(logits) and (said := told_constant(logits, data.labels.names)):
        cautions.append(said)
    return tuple(cautions)


def other_groups(bundle: Bundle, data: MultiLabelDataset) -> str | None:
    """What is to be said where the data set's label groups are not those of the bundle's decisions."""
    own = bundle.decisions.groups
    if own == data.groups or not data.groups:
        return None
    has = "other label groups" if own else "no label groups"
    return (
        f"the bundle has {has} than the data set: its answers follow its own (edgepress calibrate takes the data set's)"
    )
