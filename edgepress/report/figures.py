"""The plots of a report, each with the words that say the same."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgepress.multilabel.manifest import NodeNoise, Quantization
from edgepress.multilabel.plural import plural
from edgepress.report.blocks import Figure
from edgepress.report.svg import (
    SERIES,
    WIDTH,
    Axis,
    Panel,
    curve,
    grid,
    legend,
    line,
    linear_ticks,
    mark,
    picture,
    places,
    shortened,
    text,
    widened,
)
from edgepress.run.result import LabelScore, Reliability

MOST_LABELS = 40
MOST_NODES = 12
LEAST_SPAN = 2.0
"""Least range of an axis in points of mAP, so that small differences do not look large."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A point of a plot of accuracy against a cost."""

    name: str
    series: str
    """Series: a is torch, b a float engine, c INT8."""
    points: float
    """mAP, 0 to 100."""
    cost: float
    """The cost in the unit of the plot, above 0."""


_SERIES = (("a", "torch"), ("b", "float engine"), ("c", "INT8 engine"))


def draw_pareto(models: Sequence[Model], what: str, unit: str) -> Figure:
    """Plot mAP against a cost, for at least one model; a dashed line joins the models that no other beats in both.

    Args:
        what: the cost, such as latency.
    """
    best = frontier(models)
    least, most = min(model.cost for model in models), max(model.cost for model in models)
    margin = max((most / least) ** 0.1, 1.15)
    x = Axis(least / margin, most * margin, 46, WIDTH - 12, log=True)
    y = Axis(*widened((model.points for model in models), LEAST_SPAN), 262, 52)
    parts, _ = legend([one for one in _SERIES if any(model.series == one[0] for model in models)], 14)
    parts += grid(x, y, f"{what}, {unit} (log scale); left is better", "test mAP, points; up is better")
    steps: list[tuple[float, float]] = []
    for model in best:
        if steps:
            steps.append((x(model.cost), steps[-1][1]))
        steps.append((x(model.cost), y(model.points)))
    parts.append(curve(steps, "bound"))
    spots = [(x(model.cost), y(model.points)) for model in models]
    parts += [mark(*spot, model.series) for spot, model in zip(spots, models, strict=True)]
    numbers = [str(number) for number in range(1, len(models) + 1)]
    parts += [text(*place, number, "middle") for place, number in zip(places(spots, numbers), numbers, strict=True)]
    names, bottom = _numbered([model.name for model in models], 318)
    named = "; ".join(f"{one.name} {one.points:.2f} points at {one.cost:.3g} {unit}" for one in models)
    beaten = "No other model is better in both than: " + ", ".join(model.name for model in best)
    return Figure(
        svg=picture([*parts, *names], bottom),
        alt=f"Accuracy against {what} of {len(models)} models. {named}. {beaten}.",
        caption=f"Accuracy against {what}. {beaten} (dashed line).",
    )


def _numbered(names: Sequence[str], top: float) -> tuple[list[str], float]:
    """Names with their numbers, in two columns if they are short, and the y position where they end."""
    columns = 1 if max(map(len, names)) > 22 else 2
    lines = math.ceil(len(names) / columns)
    width = WIDTH / columns
    words = [shortened(f"{number}  {name}", width - 16) for number, name in enumerate(names, 1)]
    parts = [text(8 + at // lines * width, top + at % lines * 16, word) for at, word in enumerate(words)]
    return parts, top + 16 * lines


def frontier(models: Sequence[Model]) -> list[Model]:
    """The models that no other beats in both mAP and cost, the cheapest first."""
    best: list[Model] = []
    for model in sorted(models, key=lambda one: (one.cost, -one.points)):
        if not best or model.points > best[-1].points:
            best.append(model)
    return best


def draw_labels(models: Mapping[str, Sequence[LabelScore]]) -> Figure | None:
    """Plot every label's AP and interval for up to four models, best first by the first model; None without any AP.

    Args:
        models: the label scores of each model, by its name.
    """
    first = {row.label: row.AP for row in next(iter(models.values())) if row.AP is not None}
    names = sorted(first, key=lambda name: -first[name])
    if not names:
        return None
    shown = names if len(names) <= MOST_LABELS else [*names[: MOST_LABELS // 2], *names[-MOST_LABELS // 2 :]]
    series = list(zip(SERIES, models.items(), strict=False))
    parts, top = legend([(kind, name) for kind, (name, _) in series], 14)
    step = 5.0 * len(series) + 7
    bottom = top + 6 + step * len(shown)
    x = Axis(0, 100, 118, WIDTH - 14)
    for value in linear_ticks(0, 100):
        parts.append(line(x(value), top + 2, x(value), bottom, "grid"))
        parts.append(text(x(value), bottom + 15, f"{value:g}", "middle", soft=True))
    parts.append(text((x.start + x.end) / 2, bottom + 31, "AP on test, points, with 95 % interval", "middle"))
    for place, name in enumerate(shown):
        middle = top + 4 + step * (place + 0.5)
        parts.append(text(112, middle + 4, shortened(name, 106), "end"))
        for number, (kind, (_, rows)) in enumerate(series):
            row = next((row for row in rows if row.label == name), None)
            if row is None or row.AP is None:
                continue
            height = middle + 5 * (number - (len(series) - 1) / 2)
            if row.interval:
                low, high = (x(100 * end) for end in row.interval)
                parts.append(line(low, height, high, height, f"line {kind}"))
            parts.append(mark(x(100 * row.AP), height, kind, 2.6))
    left_out = len(names) - len(shown)
    most = f"; the {left_out} in the middle are in the table" if left_out else ""
    return Figure(
        svg=picture(parts, bottom + 38),
        alt=f"Average precision of {len(shown)} labels with intervals, by {', '.join(models)}. Best: {names[0]}, "
        f"{100 * first[names[0]]:.1f} points; worst: {names[-1]}, {100 * first[names[-1]]:.1f} points.",
        caption=f"AP of each label, best first{most}. Where intervals overlap widely the order says little.",
    )


def draw_curves(name: str, models: Mapping[str, Sequence[float]], y_name: str) -> Figure:
    """Plot values per epoch for each model, at least one finite; the first four are drawn and the others named."""
    left_out = list(models)[len(SERIES) :]
    models = dict(list(models.items())[: len(SERIES)])
    known = [value for values in models.values() for value in values if math.isfinite(value)]
    series = list(zip(SERIES, models.items(), strict=False))
    parts, top = legend([(kind, model) for kind, (model, _) in series], 14)
    x = Axis(1, max(2, *(len(values) for values in models.values())), 52, WIDTH - 14)
    y = Axis(*widened(known, max(1e-6, 0.02 * max(map(abs, known)))), top + 180, top + 22)
    parts += grid(x, y, "epoch", y_name)
    for kind, (_, values) in series:
        points = [(x(epoch), y(value)) for epoch, value in enumerate(values, 1) if math.isfinite(value)]
        parts.append(curve(points, kind))
        parts += [mark(*point, kind, 2.6) for point in points]
    said = "; ".join(f"{model} from {values[0]:.4g} to {values[-1]:.4g}" for model, values in models.items())
    epochs = max(len(values) for values in models.values())
    more = f" Not drawn: {', '.join(left_out)}." if left_out else ""
    return Figure(
        svg=picture(parts, top + 218),
        alt=f"{name} over {plural(epochs, 'epoch')}: {said}.{more}",
        caption=f"{name}.{more}",
    )


def draw_sensitivity(engine: str, found: Quantization) -> Figure | None:
    """Plot the worst nodes of an INT8 engine by the noise that each alone adds; None if none was measured."""
    worst = found.sensitivity[:MOST_NODES]
    if not worst:
        return None
    first = worst[0]
    # `calibration.int8.quantize` ranks the nodes of every other runtime by ONNX Runtime's graph.
    other = found.target not in ("onnxruntime", "tensorrt")
    whose = " Measured in ONNX Runtime's INT8 graph of the same model, not in this engine's." if other else ""
    return Figure(
        svg=picture(*sensitivity_panel(worst, found.kept_float)),
        alt=f"The {len(worst)} most sensitive of {found.products} nodes of {engine}, by the signal to noise of the "
        f"logits with that node alone in INT8. Worst: {first.node}, {first.sqnr:.1f} dB.",
        caption=f"{engine}: the {len(worst)} worst of {found.products} nodes: signal to noise of the logits with that "
        f"node alone in INT8; a short bar is worse. An outlined bar is a node that was left in float.{whose}",
    )


def sensitivity_panel(worst: Sequence[NodeNoise], kept: Sequence[str]) -> Panel:
    """Draw a bar per node: signal to noise of the logits with that node alone in INT8.

    Args:
        worst: at least one node, the worst first.
        kept: nodes that were left in float; their bars are outlined.
    """
    low = min(0.0, *(row.sqnr for row in worst))
    x = Axis(low, max(low + 1, *(row.sqnr for row in worst)) * 1.02, 6, WIDTH - 50)
    parts = []
    for place, row in enumerate(worst):
        top = 8 + 34 * place
        left_float = row.node in kept
        parts.append(text(6, top + 10, shortened(row.node + (" (in float)" if left_float else ""), WIDTH - 12)))
        width = max(1.0, x(row.sqnr) - 6)
        kind = "mark a open" if left_float else "mark a"
        parts.append(f'<rect x="6" y="{top + 15:.1f}" width="{width:.1f}" height="9" class="{kind}"/>')
        parts.append(text(12 + width, top + 24, f"{row.sqnr:.1f} dB", soft=True))
    return parts, 16 + 34 * len(worst)


def draw_reliability(engine: str, found: Reliability) -> Figure:
    """Plot how often labels are present at each probability: from the sigmoid, and calibrated."""
    bins = {"sigmoid": found.sigmoid, "calibrated": found.calibrated}
    gaps = {
        name: sum(count * abs(given - share) for given, share, count in values) / sum(one[2] for one in values)
        for name, values in bins.items()
    }
    said = ", ".join(f"{name} {100 * gap:.1f}" for name, gap in gaps.items())
    return Figure(
        svg=picture(*reliability_panel(bins)),
        alt=f"Reliability of {engine}: mean gap between the probability that was given and the share of positives, in "
        f"percent: {said}.",
        caption=f"{engine}: how often what is given a probability is so, over all labels. On the dashed line "
        f"probabilities mean what they say; mean gap: {said} %.",
    )


def reliability_panel(bins: Mapping[str, Sequence[Sequence[float]]]) -> Panel:
    """Draw the share of positives by predicted probability.

    Args:
        bins: for the sigmoid and calibrated: mean probability, share of positives and number of cells of each bin.
    """
    series = list(zip(("b", "a"), bins.items(), strict=True))
    parts, top = legend([(kind, name) for kind, (name, _) in series], 14)
    x, y = Axis(0, 100, 46, WIDTH - 14), Axis(0, 100, top + 250, top + 22)
    parts += [
        *grid(x, y, "probability that was given, %", "share of positives, %"),
        curve([(x(0), y(0)), (x(100), y(100))], "bound"),
    ]
    for kind, (_, values) in series:
        points = [(x(100 * given), y(100 * share)) for given, share, _ in values]
        parts.append(curve(points, kind))
        parts += [mark(*point, kind, 3) for point in points]
    return parts, top + 288
