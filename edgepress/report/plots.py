"""Plots that are separate SVG files, in the folder `plots` of a run, and of a comparison."""

from __future__ import annotations

import numpy as np

from edgepress.calibration.decide.label_scores import label_f1
from edgepress.calibration.decide.probabilities import expected_calibration_error, reliability
from edgepress.multilabel.bundle import Bundle, write_atomically
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.decisions import Decisions
from edgepress.multilabel.metrics import decide, sigmoid
from edgepress.multilabel.plural import plural
from edgepress.report.figures import reliability_panel, sensitivity_panel
from edgepress.report.svg import WIDTH, Axis, Panel, curve, file, grid, legend, line, linear_ticks, mark, text, widened
from edgepress.run.compared import MethodComparison

WORST = 10
"""Number of nodes that a plot of sensitivity shows."""
MOST_CURVES = 100
"""Labels with a curve of their own in the plot of thresholds; more could not be told apart."""


def write_plot(bundle: Bundle, what: str, svg: bytes) -> None:
    """Write `WHAT-NAME.svg` in the folder `plots` beside a bundle."""
    write_atomically(bundle.path.parent / "plots" / f"{what}-{bundle.name}.svg", svg)


def draw_comparison(record: MethodComparison) -> bytes:
    """Plot the students' test mAP of a comparison; see `comparison_panel`."""
    student = record.student
    title = f"{student.backbone} at {student.size} px, {plural(record.epochs, 'epoch')}, by {record.teacher.backbone}"
    return file(title, [comparison_panel(record)])


def comparison_panel(record: MethodComparison) -> Panel:
    """The students' test mAP, a row per method, best first: each seed, the mean and deviation."""
    methods = sorted(record.methods, key=lambda row: -row.test_mAP_points)
    seeds = {row.method: [100 * one.test_mAP for one in record.students if one.method == row.method] for row in methods}
    parts, top = legend([("d", "mean and deviation"), ("b", "a seed")], 14)
    bottom = top + 26 * len(methods)
    x = Axis(*widened((value for values in seeds.values() for value in values), 2.0), 118, WIDTH - 14)
    for value in linear_ticks(x.low, x.high):
        parts += [
            line(x(value), top, x(value), bottom, "grid"),
            text(x(value), bottom + 15, f"{value:g}", "middle", soft=True),
        ]
    parts.append(text((x.start + x.end) / 2, bottom + 31, "test mAP, points; dashed: the student alone", "middle"))
    for place, row in enumerate(methods):
        height, mean = top + 26 * (place + 0.5), row.test_mAP_points
        if row.method == "alone":
            parts.append(curve([(x(mean), top), (x(mean), bottom)], "bound"))
        if row.deviation is not None:
            ends = (max(x.low, mean - row.deviation), min(x.high, mean + row.deviation))
            parts.append(line(x(ends[0]), height, x(ends[1]), height, "line d"))
        parts += [mark(x(value), height, "b", 2.6) for value in seeds[row.method]]
        parts += [mark(x(mean), height, "d"), text(112, height + 4, f"{row.method} {mean:.2f}", "end")]
    return parts, bottom + 38


def draw_int8(bundle: Bundle, float_precision: np.ndarray, int8_precision: np.ndarray) -> bytes:
    """Plot the worst nodes of an INT8 bundle by the noise that each alone adds, and beside them the labels' AP on val.

    Args:
        bundle: has the calibration that names its nodes.
        float_precision: the fp32 model's AP of each label, `[C]`, NaN where there is none.
        int8_precision: the same for the INT8 model.
    """
    found = bundle.manifest.calibration
    assert found is not None
    worst = found.sensitivity[:WORST]
    nodes = [sensitivity_panel(worst, found.kept_float)] if worst else []
    labels = _against(float_precision, int8_precision, "AP of fp32", "AP of INT8; below the line INT8 costs")
    return file(f"{bundle.name} on val, {found.method}", [*nodes, labels])


def draw_reliability(logits: np.ndarray, probabilities: np.ndarray, data: MultiLabelDataset, name: str) -> bytes:
    """Plot how often labels are present at each probability, over the cells of all labels, and every label's ECE.

    Args:
        logits: `[N, C]`, in the order of the pictures and labels of `data`.
        probabilities: `[N, C]`, calibrated, by a fit that did not see the picture.
        name: name of the bundle, for the title.
    """
    known, bins, errors = ~data.ignore, {}, []
    for what, p in (("sigmoid", sigmoid(np.asarray(logits, np.float64))), ("calibrated", probabilities)):
        cells = data.targets[known][:, None], p[known][:, None]
        (found,) = reliability(*cells)
        bins[f"{what}: ECE {expected_calibration_error(*cells)[0]:.4f}"] = list(zip(*found, strict=True))
        errors.append(expected_calibration_error(data.targets, p, data.ignore))
    labels = _against(errors[0], errors[1], "ECE of the sigmoid", "ECE calibrated; below the line is better")
    return file(f"{name} on {data.split}, {plural(len(data), 'picture')}", [reliability_panel(bins), labels])


def draw_thresholds(decisions: Decisions, logits: np.ndarray, data: MultiLabelDataset, name: str) -> bytes:
    """Plot every label's F1 against the threshold, with its own marked; beside it F1 at 0.5 and at its own threshold.

    Args:
        decisions: in the order of the labels of `data`.
        logits: `[N, C]`, in the order of the pictures and labels of `data`.
        name: name of the bundle, for the title.

    Raises:
        ValueError: no picture shows any label, so F1 is not defined.
    """
    p, at = decisions.probabilities(logits), np.linspace(0.01, 0.99, 99)
    curves = np.stack([label_f1(data.targets, decide(p, one), data.ignore) for one in at])
    shown = np.flatnonzero(~np.isnan(curves[0]))
    if not len(shown):
        raise ValueError("no picture shows any label: F1 is not defined")
    own = label_f1(data.targets, decisions.decide(logits), data.ignore)
    half = label_f1(data.targets, decide(sigmoid(np.asarray(decisions.scores(logits), np.float64))), data.ignore)
    parts, top = legend([("b", "macro-F1, one threshold for all"), ("a", "each label's own")], 14)
    x, y = Axis(0, 1, 46, WIDTH - 14), Axis(0, 1, top + 250, top + 22)
    parts += grid(x, y, "threshold on the calibrated probability", "F1")
    drawn = shown[np.argsort(-data.targets.sum(axis=0)[shown], kind="stable")[:MOST_CURVES]]
    for values, kind in (*((curves[:, label], "thin") for label in drawn), (curves[:, shown].mean(axis=1), "b")):
        parts.append(curve([(x(one), y(value)) for one, value in zip(at, values, strict=True)], kind))
    parts += [mark(x(decisions.thresholds[label]), y(own[label]), "a", 3) for label in drawn]
    labels = _against(half, own, "F1, sigmoid at 0.5", "F1, own threshold; above the line is better")
    few = f", the {len(drawn)} most frequent of {len(shown)} labels above" if len(drawn) < len(shown) else ""
    return file(f"{name} on {data.split}, {plural(len(data), 'picture')}{few}", [(parts, top + 288), labels])


def _against(before: np.ndarray, after: np.ndarray, before_name: str, after_name: str) -> Panel:
    """A mark per label at its value before and after; on the dashed line both are equal. NaN is left out."""
    known = ~np.isnan(before) & ~np.isnan(after)
    most = 1.05 * max([*before[known], *after[known], 1e-9])
    x, y = Axis(0, most, 46, WIDTH - 14), Axis(0, most, 281, 53)
    names = [
        f"{name} (mean {values[known].mean():.3f})" for name, values in ((before_name, before), (after_name, after))
    ]
    parts = [*grid(x, y, *names), curve([(x(0), y(0)), (x(most), y(most))], "bound")]
    parts += [mark(x(one), y(other), "a", 3) for one, other in zip(before[known], after[known], strict=True)]
    return parts, 319
