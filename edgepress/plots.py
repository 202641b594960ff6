"""Plots of what was measured, as PNG."""

from __future__ import annotations

import io
from typing import Any


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
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
