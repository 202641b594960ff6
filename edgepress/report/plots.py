"""Plots of what was measured, as PNG."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

from edgepress.calibration.decide.label_scores import label_f1
from edgepress.calibration.decide.probabilities import expected_calibration_error, reliability
from edgepress.multilabel.bundle import Bundle, write_atomically
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.decisions import Decisions
from edgepress.multilabel.metrics import decide, sigmoid

log = logging.getLogger("edgepress")

BEFORE, AFTER = "#d95f02", "#1f4e79"
WORST = 20
"""Nodes that a plot of sensitivity shows."""


def draw_comparison(record: dict[str, Any]) -> bytes:
    """Test mAP of every student of a comparison, a row a method, best first: each seed, their mean and deviation."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    methods = sorted(record["methods"], key=lambda row: row["test_mAP_points"])
    figure = Figure(figsize=(8, 1.6 + 0.38 * len(methods)), layout="constrained")
    axes = figure.add_subplot()
    for place, method in enumerate(methods):
        seeds = [100 * row["test_mAP"] for row in record["students"] if row["method"] == method["method"]]
        mean = method["test_mAP_points"]
        axes.errorbar(mean, place, xerr=method["deviation"], fmt="D", color="#1f4e79", capsize=4, markersize=7)
        axes.plot(seeds, [place] * len(seeds), "o", color="#d95f02", markersize=4, alpha=0.8)
        axes.annotate(f"{mean:.2f}", (mean, place), (0, 7), textcoords="offset points", ha="center", fontsize=8)
    alone = [row["test_mAP_points"] for row in methods if row["method"] == "alone"]
    if alone:
        axes.axvline(alone[0], color="0.6", linestyle="--", linewidth=1)
    axes.set_yticks(range(len(methods)), [row["method"] for row in methods])
    axes.set_ylim(-0.7, len(methods) - 0.3)
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("test mAP (points); diamonds: mean and deviation, dots: seeds, dashed: the student alone")
    student, teacher = record["student"], record["teacher"]
    axes.set_title(
        f"{student['backbone']} at {student['size']} px, {record['epochs']} epochs, "
        f"taught by {teacher['backbone']} at {teacher['size']} px",
        fontsize=10,
    )
    FigureCanvasAgg(figure)
    return _png(figure)


def draw_int8(bundle: Bundle, float_precision: np.ndarray, int8_precision: np.ndarray) -> bytes:
    """The worst nodes of an INT8 bundle, each by the noise that it alone brings; beside them every label's AP on val.

    Args:
        bundle: with the calibration that names its nodes.
        float_precision: AP of each label by the fp32 model, `[C]`, NaN where there is none.
        int8_precision: the same by the INT8 model.
    """
    calibration = bundle.manifest.calibration
    assert calibration is not None
    figure, (left, right) = _two_axes(f"{bundle.name} on val, {calibration.method}")
    worst = list(calibration.sensitivity[:WORST])[::-1]
    kept = set(calibration.kept_float)
    colors = [BEFORE if row.node in kept else AFTER for row in worst]
    left.barh(range(len(worst)), [row.sqnr for row in worst], color=colors)
    left.set_yticks(range(len(worst)), [row.node for row in worst], fontsize=7)
    left.set_xlabel("SQNR of the logits with this node alone in INT8 (dB); short is worse")
    left.set_title(f"the worst {len(worst)} of {len(calibration.sensitivity)}; orange: left in float", fontsize=9)
    shown = ~np.isnan(float_precision)
    right.plot([0, 1], [0, 1], "--", color="0.6", linewidth=1)
    right.plot(float_precision[shown], int8_precision[shown], "o", color=AFTER, markersize=4, alpha=0.7)
    right.set_xlabel(f"AP of fp32 (mean {float_precision[shown].mean():.3f})")
    right.set_ylabel(f"AP of INT8 (mean {int8_precision[shown].mean():.3f})")
    right.set_title("each label; below the line INT8 costs", fontsize=9)
    return _png(figure)


def write_plot(bundle: Bundle, what: str, draw: Callable[[], bytes]) -> None:
    """Write `WHAT-NAME.png` in the folder `plots` beside a bundle.

    Where matplotlib is not installed, as on a device, it is said and nothing is drawn.
    """
    if find_spec("matplotlib") is None:
        log.warning("no plot %s: matplotlib is not installed here (pip install 'edgepress[train]')", what)
        return
    write_atomically(bundle.path.parent / "plots" / f"{what}-{bundle.name}.png", draw())


def draw_reliability(logits: np.ndarray, probabilities: np.ndarray, data: MultiLabelDataset, name: str) -> bytes:
    """How often what is given a probability is so, over the cells of all labels; beside it every label's ECE.

    Args:
        logits: `[N, C]`, in the order of the pictures and labels of `data`.
        probabilities: `[N, C]`, calibrated, by a fit that did not see the picture.
        name: of the bundle, for the title.
    """
    figure, (left, right) = _two_axes(f"{name} on {data.split}, {len(data)} pictures")
    known = ~data.ignore
    errors = []
    for what, color, p in (
        ("sigmoid", BEFORE, sigmoid(np.asarray(logits, np.float64))),
        ("calibrated", AFTER, probabilities),
    ):
        cells = data.targets[known][:, None], p[known][:, None]
        ((predicted, observed, _),) = reliability(*cells)
        pooled = expected_calibration_error(*cells)[0]
        left.plot(predicted, observed, "o-", color=color, markersize=4, label=f"{what}: ECE {pooled:.4f}")
        errors.append(expected_calibration_error(data.targets, p, data.ignore))
    left.plot([0, 1], [0, 1], "--", color="0.6", linewidth=1)
    left.set_xlabel("mean probability of a bin (bins of equal mass)")
    left.set_ylabel("share of positives")
    left.legend(loc="upper left")
    most = 1.05 * max(np.nanmax(error) for error in errors) + 1e-9
    right.plot([0, most], [0, most], "--", color="0.6", linewidth=1)
    right.plot(*errors, "o", color=AFTER, markersize=4, alpha=0.7)
    right.set_xlabel(f"ECE of the sigmoid (mean {np.nanmean(errors[0]):.4f})")
    right.set_ylabel(f"ECE calibrated (mean {np.nanmean(errors[1]):.4f})")
    right.set_title("each label; below the line is better", fontsize=9)
    return _png(figure)


def draw_thresholds(decisions: Decisions, logits: np.ndarray, data: MultiLabelDataset, name: str) -> bytes:
    """F1 of every label against the threshold, with the one it has; beside it F1 at 0.5 and at the label's own.

    Args:
        decisions: in the order of the labels of `data`.
        logits: `[N, C]`, in the order of its pictures and labels.
        name: of the bundle, for the title.

    Raises:
        ValueError: no picture shows any label, so F1 is not defined.
    """
    figure, (left, right) = _two_axes(f"{name} on {data.split}, {len(data)} pictures")
    p = decisions.probabilities(logits)
    grid = np.linspace(0.01, 0.99, 99)
    curves = np.stack([label_f1(data.targets, decide(p, at), data.ignore) for at in grid])
    shown = ~np.isnan(curves[0])
    if not shown.any():
        raise ValueError("no picture shows any label: F1 is not defined")
    own = label_f1(data.targets, decisions.decide(logits), data.ignore)
    half = label_f1(data.targets, decide(sigmoid(np.asarray(logits, np.float64))), data.ignore)
    left.plot(grid, curves[:, shown], color="0.75", linewidth=0.7)
    left.plot(grid, curves[:, shown].mean(axis=1), color=BEFORE, label="macro-F1, one threshold for all")
    chosen = np.array(decisions.thresholds)
    left.plot(chosen[shown], own[shown], "o", color=AFTER, markersize=4, label="each label's own")
    left.set_xlabel("threshold on the calibrated probability")
    left.set_ylabel("F1")
    left.legend(loc="lower center", fontsize=8)
    right.plot([0, 1], [0, 1], "--", color="0.6", linewidth=1)
    right.plot(half[shown], own[shown], "o", color=AFTER, markersize=4, alpha=0.7)
    right.set_xlabel(f"F1, sigmoid at 0.5 (mean {np.nanmean(half):.3f})")
    right.set_ylabel(f"F1, calibrated, own threshold (mean {np.nanmean(own):.3f})")
    right.set_title("each label; above the line is better", fontsize=9)
    return _png(figure)


def _two_axes(title: str) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.6), layout="constrained")
    figure.suptitle(title, fontsize=10)
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2)
    for one in axes:
        one.grid(alpha=0.3)
    return figure, axes


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
