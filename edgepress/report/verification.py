"""Print what verify found as tables: the three levels, the labels that moved most, stages and layers."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from edgepress.deploy.verify.agreement import DIFF_BUDGET, FLIP_BUDGET
from edgepress.report.terminal import print_table

MOST_LABELS = 10
MINUS = "\N{MINUS SIGN}"


def print_verification(result: dict[str, Any], console: Console) -> None:
    """Print the tables of `Verification.as_dict`; for an engine that did not run, only the verdict and the reason."""
    if "num_images" in result:
        _print_levels(result, console)
        _print_labels(result["labels"], console)
        if result["stages"] is not None:
            _print_stages(result, console)
        if result["layers"] is not None:
            _print_layers(result["layers"], console)
    for caution in result.get("cautions", []):
        console.print(f"caution: {caution}", highlight=False, soft_wrap=True)
    for reason in result["reasons"]:
        console.print(f"{result['verdict']}: {reason}", highlight=False, soft_wrap=True)
    console.print(f"{result['engine']}: {result['verdict']}", highlight=False, soft_wrap=True)


def _drop(result: dict[str, Any]) -> str:
    if result["drop_points"] is None:
        return ""
    low, high = result["drop_interval"] or (None, None)
    return _number(result["drop_points"], 2) + ("" if low is None else f" ({_number(low, 2)} to {_number(high, 2)})")


def _print_levels(result: dict[str, Any], console: Console) -> None:
    precision, ran = result["precision"], result["ran"]
    largest, share = DIFF_BUDGET.get(precision), FLIP_BUDGET[precision]
    rows = (
        ("logits", "largest difference", _number(result["max_abs_diff"], 4), "" if largest is None else f"{largest:g}"),
        ("", "mean difference", _number(result["mean_abs_diff"], 4), ""),
        ("", "signal to noise, dB", _number(result["sqnr_db"], 1), ""),
        ("decisions", "changed", _share(result["flip_rate"]), f"{share:.1%}"),
        ("", "changed at the reference's thresholds", _share(result["flip_rate_kept"]), ""),
        ("", "pictures with the same best label", _share(result["top1_agreement"]), ""),
        ("", f"pictures with the same best {result['top_k']}", _share(result["topk_agreement"]), ""),
        ("mAP", f"reference, over {result['labels_counted']} labels", _number(result["mAP_reference"], 2, 100), ""),
        ("", "engine", _number(result["mAP"], 2, 100), ""),
        ("", "drop in points (95 % interval)", _drop(result), f"{result['budget_points']:g}"),
        ("CF1, OF1", "engine, at the bundle's thresholds", _f1(result, "thresholds"), ""),
        ("", "engine, at 0.5", _f1(result, "0.5"), ""),
        ("", "engine, the best 3 of a picture", _f1(result, "top_3"), ""),
    )
    print_table(
        console,
        ("level", "measured", "", "budget"),
        [row for row in rows if row[2]],
        title=f"{result['engine']} against {result['reference']}, {result['num_images']} pictures",
        caption=", ".join(f"{ran[key]}" for key in ("runtime", "version", "provider", "precision") if key in ran),
        words=("measured",),
    )


def _f1(result: dict[str, Any], answered: str) -> str:
    # Records of earlier versions do not have this.
    found = (result.get("f1") or {}).get(answered)
    return f"{100 * found['CF1']:.2f}, {100 * found['OF1']:.2f}" if found else ""


def _print_labels(rows: list[dict[str, Any]], console: Console) -> None:
    more = len(rows) - MOST_LABELS
    cells = [
        (
            row["label"],
            str(row["positives"]),
            _number(row["AP_reference"], 2, 100),
            _number(row["AP"], 2, 100),
            "" if row["moved_points"] is None else f"{row['moved_points']:+.2f}".replace("-", MINUS),
        )
        for row in rows[:MOST_LABELS]
    ]
    print_table(
        console,
        ("label", "positives", "AP reference", "AP engine", "moved"),
        cells,
        title="AP of the labels that moved most",
        caption=f"{more} more labels moved less or have no positive picture (--json lists all)" if more > 0 else "",
    )


def _print_stages(result: dict[str, Any], console: Console) -> None:
    rows = []
    for stage in result["stages"]:
        said = f"not compared: {stage['not_run']}" if stage["not_run"] else "; ".join(stage["beyond"])
        measured = (_number(stage["drop_points"], 2), _number(stage["max_abs_diff"], 4), _number(stage["sqnr_db"], 1))
        found = said or ("ok" if stage["after"] else "the start")
        rows.append((stage["stage"], stage["after"] or "", *measured, _share(stage["flip_rate"]), found))
    print_table(
        console,
        ("stage", "against", "drop", "largest diff.", "SQNR dB", "changed", "found"),
        rows,
        title="from torch to the engine, each stage against the one before",
        words=("against",),
        spare=("against",),
        prose=True,
    )
    diverged = result["diverged_at"]
    console.print(
        f"diverged first: {diverged}" if diverged else "no stage that was compared goes beyond its own budgets",
        highlight=False,
        soft_wrap=True,
    )


def _print_layers(found: dict[str, Any], console: Console) -> None:
    """The table ends at the first layer that diverged, because later noise is its consequence or unknown."""
    if found["not_inspected"]:
        console.print(f"layers not inspected: {found['not_inspected']}", highlight=False, soft_wrap=True)
        return
    rows = []
    for row in found["layers"]:
        numbers = (_number(row["so_far_db"], 1), _number(row["alone_db"], 1))
        rows.append((row["layer"], row["operator"], row["tensor"], *numbers))
        if row["layer"] == found["diverged_at"]:
            break
    print_table(
        console,
        ("layer", "operator", "tensor", "so far", "alone"),
        rows,
        title=f"layers against {found['against']}, {found['pictures']} pictures, signal to noise in dB",
        caption=f"a layer diverged where it alone is below {found['threshold_db']:g} dB (--json lists all)",
        words=("operator", "tensor"),
        spare=("tensor",),
    )
    named = found["diverged_at"]
    console.print(f"first layer that diverged: {named}" if named else "no layer diverged", highlight=False)


def _number(value: float | None, digits: int, scale: float = 1) -> str:
    if value is None:
        return ""
    return f"{round(value * scale, digits) + 0.0:.{digits}f}".replace("-", MINUS)  # + 0.0 avoids a negative zero


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"
