"""Plots as SVG, drawn by hand: text stays text, colours follow the page's, and no library is needed to make them.

They are 360 units wide, so that a telephone shows them at about their own size. Series differ by mark and dash as well
as by colour.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from edgepress.report.style import PLOT_STYLE

Panel = tuple[list[str], float]
"""The drawing, `WIDTH` wide, and its height."""
WIDTH = 360.0
SERIES = "abcd"
"""Classes of the style sheet, one per series."""
_LETTER = 6.4
"""Approximate width of a letter of the plots' text."""
_DASHES = {"a": "", "b": ' stroke-dasharray="6 3"', "c": ' stroke-dasharray="2 2"', "d": ' stroke-dasharray="8 2 2 2"'}


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high`, laid from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The position of a value."""
        low, high, value = (
            (math.log(one) for one in (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        )
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values within the axis, at most seven."""
        if not self.log:
            return linear_ticks(self.low, self.high)
        for steps in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            found = [step * 10.0**decade for decade in decades for step in steps]
            found = [value for value in found if self.low <= value <= self.high]
            if len(found) <= 7:
                return found
        return found[:: math.ceil(len(found) / 7)]


def linear_ticks(low: float, high: float) -> list[float]:
    """Three to seven multiples of 1, 2 or 5 times a power of ten from `low` to `high`."""
    step = 10.0 ** math.floor(math.log10((high - low) / 2))
    step = next(step * factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 6)
    return [step * number for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def widened(values: Iterable[float], least: float, share: float = 0.08) -> tuple[float, float]:
    """The range of values with a margin, at least `least` wide, so that small differences do not look large."""
    values = list(values)
    low, high = min(values), max(values)
    middle, half = (low + high) / 2, max((high - low) * (1 + 2 * share), least) / 2
    return middle - half, middle + half


def picture(parts: Iterable[str], height: float) -> str:
    """The whole plot; it is hidden from screen readers, which read its alternative text."""
    return f'<svg viewBox="0 0 {WIDTH:g} {height:g}" aria-hidden="true" focusable="false">{"".join(parts)}</svg>'


def file(title: str, panels: Sequence[Panel]) -> bytes:
    """An SVG file with its own style: the title, and below it the panels side by side."""
    width, top = WIDTH * len(panels), 26
    drawn = "".join(
        f'<g transform="translate({WIDTH * place:g} {top})">{"".join(parts)}</g>'
        for place, (parts, _) in enumerate(panels)
    )
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{1.5 * width:g}" viewBox="0 0 {width:g} '
        f'{top + max(height for _, height in panels):g}"><title>{escape(title)}</title><style>{PLOT_STYLE}</style>'
        f"{text(8, 16, shortened(title, width - 16))}{drawn}</svg>\n"
    )
    # XML allows no control characters, but a name may contain any.
    return "".join(one for one in svg if one == "\n" or one.isprintable()).encode("utf-8", "backslashreplace")


def text(x: float, y: float, words: str, anchor: str = "start", soft: bool = False) -> str:
    """Words at a place; `anchor` is start, middle or end."""
    kind = ' class="soft"' if soft else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line; `kind` is a class of the style sheet."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def curve(points: Sequence[tuple[float, float]], series: str) -> str:
    """Points joined by the line of a series; `bound` and `thin` are lines that are no series."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    kind = f"line {series}" if series in SERIES else series
    return f'<polyline points="{path}" class="{kind}"{_DASHES.get(series, "")}/>'


def mark(x: float, y: float, series: str, size: float = 4) -> str:
    """The mark of a series: a is a disc, b a square, c a triangle, d an open diamond."""
    kind = f'class="mark {series}"'
    if series == "a":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:g}" {kind}/>'
    if series == "b":
        return f'<rect x="{x - size:.1f}" y="{y - size:.1f}" width="{2 * size:g}" height="{2 * size:g}" {kind}/>'
    corners = [(0, -1.3), (1.2, 0.9), (-1.2, 0.9)] if series == "c" else [(0, -1.4), (1.4, 0), (0, 1.4), (-1.4, 0)]
    points = " ".join(f"{x + size * right:.1f},{y + size * down:.1f}" for right, down in corners)
    return f'<polygon points="{points}" {kind}/>'


def grid(x: Axis, y: Axis, x_name: str, y_name: str, percent: str = "") -> list[str]:
    """Axes with their ticks and names; the name of the y axis is above it."""
    parts = []
    for value in x.ticks():
        parts.append(line(x(value), y.start, x(value), y.end, "grid"))
        parts.append(text(x(value), y.start + 15, f"{value:g}{percent}", "middle", soft=True))
    for value in y.ticks():
        parts.append(line(x.start, y(value), x.end, y(value), "grid"))
        parts.append(text(x.start - 5, y(value) + 4, f"{round(value, 9):g}{percent}", "end", soft=True))
    parts.append(f'<path d="M{x.start:.1f} {y.end:.1f}V{y.start:.1f}H{x.end:.1f}" class="axis"/>')
    parts.append(text((x.start + x.end) / 2, y.start + 31, x_name, "middle"))
    parts.append(text(4, y.end - 9, y_name))
    return parts


def legend(names: Sequence[tuple[str, str]], top: float) -> tuple[list[str], float]:
    """Marks with their names, as many per line as fit, and the top of the free space below them.

    Args:
        names: series and name.
        top: y position of the first line.
    """
    parts, x = [], 8.0
    for series, name in names:
        needed = 22 + _LETTER * len(name)
        if x > 8 and x + needed > WIDTH:
            x, top = 8.0, top + 17
        parts += [mark(x, top - 4, series), text(x + 10, top, name)]
        x += needed
    return parts, top + 17


def shortened(words: str, width: float) -> str:
    """Words cut in the middle if they do not fit into a width."""
    most = max(3, int(width / _LETTER))
    if len(words) <= most:
        return words
    head = (most - 1) // 2
    return f"{words[:head]}\N{HORIZONTAL ELLIPSIS}{words[len(words) - (most - 1 - head) :]}"


def places(points: Sequence[tuple[float, float]], labels: Sequence[str]) -> list[tuple[float, float]]:
    """Positions of the short labels of points (middle of the base line), so that none covers a point or a label."""
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in points]
    found = []
    for (x, y), label in zip(points, labels, strict=True):
        half = _LETTER * len(label) / 2
        tries = [
            (x + right * (reach + half), y + 4 + down * reach)
            for reach in (10, 18, 28, 40)
            for right, down in ((0, -1), (1, 0), (-1, 0), (0, 1), (0.8, -0.8), (-0.8, -0.8), (0.8, 0.8), (-0.8, 0.8))
        ]
        boxes = [(left - half, low - 11, left + half, low + 2) for left, low in tries]
        free = (place for place, box in zip(tries, boxes, strict=True) if not any(_meet(box, one) for one in taken))
        place = next(free, tries[0])
        taken.append((place[0] - half, place[1] - 11, place[0] + half, place[1] + 2))
        found.append(place)
    return found


def _meet(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
