"""Print what verify found as tables: the three levels, the labels that moved most, stages and layers."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from edgepress.deploy.engines.base import counted
from edgepress.deploy.engines.golden import ALLOWED_DIFF
from edgepress.deploy.verify.callers import CALLERS
from edgepress.deploy.verify.comparison import Answered, FrequencyRow, GroupRow, LabelRow
from edgepress.deploy.verify.decision_gate import Bounded, DecisionGate
from edgepress.deploy.verify.divergence import Stage
from edgepress.deploy.verify.layers import Inspection
from edgepress.deploy.verify.promises import PromiseKept
from edgepress.deploy.verify.verification import Verification
from edgepress.multilabel.errors import shown
from edgepress.multilabel.judgement import NotRun
from edgepress.multilabel.plural import plural
from edgepress.report.terminal import print_table

MOST_LABELS = 10
MINUS = "\N{MINUS SIGN}"


def print_verification(found: Verification | NotRun, console: Console) -> None:
    """Print the tables of a verification; for an engine that did not run, only the verdict and the reason."""
    if isinstance(found, Verification):
        _print_levels(found, console)
        _print_labels(found.labels, console)
        _print_groups(found.groups, console)
        _print_by_frequency(found.by_frequency, console)
        if found.stages is not None:
            _print_stages(found.stages, found.diverged_at, console)
        if found.layers is not None:
            _print_layers(found.layers, console)
        for caution in found.cautions:
            console.print(f"caution: {caution}", highlight=False, soft_wrap=True)
    for reason in found.judgement.reasons:
        console.print(f"{reason.verdict}: {reason}", highlight=False, soft_wrap=True)
    if isinstance(found, Verification) and found.caller is not None and found.verdict != "pass":
        way = CALLERS[found.caller].interpolation
        said = f"{found.caller} scales by {way}: distill --interpolation {way} trains for it (docs/pixels.md)"
        console.print(said, highlight=False, soft_wrap=True)
    console.print(f"{found.engine}: {found.verdict}", highlight=False, soft_wrap=True)


def _drop(found: Verification) -> str:
    if found.drop_points is None:
        return ""
    drop = _number(found.drop_points, 2)
    if found.drop_interval is None:
        return drop
    low, high = found.drop_interval
    return f"{drop} ({_number(low, 2)} to {_number(high, 2)})"


def _print_levels(found: Verification, console: Console) -> None:
    ran = found.ran
    largest = ALLOWED_DIFF.get(found.precision) if found.caller is None else None
    rows = (
        (f"pixels as {found.caller}", "mean difference, in grey levels", _number(found.caller_moves, 2), ""),
        ("logits", "largest difference", _number(found.max_abs_diff, 4), "" if largest is None else f"{largest:g}"),
        ("", "mean difference", _number(found.mean_abs_diff, 4), ""),
        ("", "signal to noise, dB", _number(found.sqnr_db, 1), ""),
        ("decisions", "changed", _share(found.flip_rate), ""),
        *((("", *row) for row in gate_rows(found.gate)) if found.gate is not None else ()),
        ("", "changed at the reference's thresholds", _share(found.flip_rate_kept), ""),
        ("", "pictures with the same best label", _share(found.top1_agreement), ""),
        ("", f"pictures with the same best {found.top_k}", _share(found.topk_agreement), ""),
        *promise_rows(found.promise),
        ("mAP", f"reference, over {plural(found.labels_counted, 'label')}", _number(found.mAP_reference, 2, 100), ""),
        ("", "engine", _number(found.mAP, 2, 100), ""),
        ("", "drop in points (95 % interval)", _drop(found), f"{found.budget_points:g}"),
        ("CF1, OF1", "engine, at the bundle's thresholds", _f1(found, "thresholds"), ""),
        ("", "engine, at 0.5", _f1(found, "0.5"), ""),
        ("", "engine, the best 3 of a picture", _f1(found, "top_3"), ""),
    )
    print_table(
        console,
        ("level", "measured", "", "allowed"),
        [row for row in rows if row[2]],
        title=f"{found.engine} against {found.reference}, {plural(found.num_images, 'picture')}",
        caption=", ".join(filter(None, [ran.runtime, ran.version, ran.provider, ran.precision, counted(ran.products)])),
        words=("measured",),
    )


def gate_rows(gate: DecisionGate) -> list[tuple[str, str, str]]:
    """The gate on decisions as rows: what is measured, the value with its 95 % interval, and the bound."""
    rows = [
        ("flips per predicted positive (95 % interval)", _bounded(gate.flips, 3), f"{gate.flips.allowed:g}"),
        ("net flips per predicted positive", _bounded(gate.net_flips, 3), f"±{gate.net_flips.allowed:g}"),
        ("drop of OF1 in points", _bounded(gate.OF1_drop, 2), f"{gate.OF1_drop.allowed:g}"),
        ("drop of CF1 in points", _bounded(gate.CF1_drop, 2), f"{gate.CF1_drop.allowed:g}"),
    ]
    for measure in ("recall", "precision"):
        worst = max((one for one in gate.labels if one.measure == measure), key=lambda one: one.low, default=None)
        if worst is not None:
            value = f"{_number(worst.drop, 1)} ({_number(worst.low, 1)} to {_number(worst.high, 1)}), {worst.label}"
            rows.append((f"worst label's drop of {measure}", value, f"{gate.allowed_label_drop:g}"))
    return rows


def promise_rows(found: PromiseKept | None) -> list[tuple[str, str, str, str]]:
    """A row of the table for the promise of the thresholds; none without one."""
    if found is None:
        return []
    told = f"{found.reached} of {found.told}, {len(found.broken)} clearly not"
    return [("promise", f"labels that reach a {found.promise}", told, "")]


def _bounded(one: Bounded, digits: int) -> str:
    if one.low is None or one.high is None:
        return _number(one.value, digits)
    return f"{_number(one.value, digits)} ({_number(one.low, digits)} to {_number(one.high, digits)})"


def _f1(found: Verification, answered: Answered) -> str:
    if found.f1 is None:
        return ""
    scores = found.f1[answered]
    return f"{100 * scores.CF1:.2f}, {100 * scores.OF1:.2f}"


def _print_labels(rows: Sequence[LabelRow], console: Console) -> None:
    more = len(rows) - MOST_LABELS
    cells = [
        (
            row.label,
            str(row.positives),
            _number(row.AP_reference, 2, 100),
            _number(row.AP, 2, 100),
            "" if row.moved_points is None else f"{row.moved_points:+.2f}".replace("-", MINUS),
        )
        for row in rows[:MOST_LABELS]
    ]
    print_table(
        console,
        ("label", "positives", "AP reference", "AP engine", "moved"),
        cells,
        title="AP of the labels that moved most",
        caption=f"{plural(more, 'more label')} moved less or without a positive picture (--json lists all)"
        if more > 0
        else "",
    )


def _print_groups(rows: Sequence[GroupRow], console: Console) -> None:
    if rows:
        print_table(
            console,
            ("labels that exclude each other", "pictures", "reference", "engine"),
            [
                (
                    group_name(row),
                    str(row.pictures),
                    _number(row.accuracy_reference, 2, 100),
                    _number(row.accuracy, 2, 100),
                )
                for row in rows
            ],
            title="pictures for which a group is answered right, in percent",
        )


def _print_by_frequency(rows: Sequence[FrequencyRow], console: Console) -> None:
    if rows:
        print_table(
            console,
            ("labels by frequency", "pictures of each", "mAP reference", "mAP engine", "drop"),
            [
                (
                    *frequency_cells(row),
                    _number(row.mAP_reference, 2, 100),
                    _number(row.mAP, 2, 100),
                    _number(row.drop_points, 2),
                )
                for row in rows
            ],
            title="mAP of a third of the labels each, by how many pictures show them",
        )


def frequency_cells(row: FrequencyRow) -> tuple[str, str]:
    """A third of the labels in a table: which, and how many pictures each of its labels has."""
    return f"{row.part} ({row.labels})", f"{row.fewest} to {row.most}"


def group_name(row: GroupRow) -> str:
    """A group's labels in a table."""
    return f"{shown(row.labels, 5)}{' (or none)' if row.none else ''}"


def _print_stages(stages: Sequence[Stage], diverged: str | None, console: Console) -> None:
    rows = []
    for stage in stages:
        said = f"not compared: {stage.not_run}" if stage.not_run else "; ".join(stage.beyond)
        measured = (_number(stage.drop_points, 2), _number(stage.max_abs_diff, 4), _number(stage.sqnr_db, 1))
        found = said or ("ok" if stage.after else "the start")
        rows.append((stage.stage, stage.after or "", *measured, _share(stage.flip_rate), found))
    print_table(
        console,
        ("stage", "against", "drop", "largest diff.", "SQNR dB", "changed", "found"),
        rows,
        title="from the model to the engine, each stage against the one before",
        words=("against",),
        spare=("against",),
        prose=True,
    )
    console.print(
        f"diverged first: {diverged}" if diverged else "no stage that was compared goes beyond what is allowed for it",
        highlight=False,
        soft_wrap=True,
    )


def _print_layers(found: Inspection, console: Console) -> None:
    """The table ends at the first layer that diverged, because later noise is its consequence or unknown."""
    if found.not_inspected:
        console.print(f"layers not inspected: {found.not_inspected}", highlight=False, soft_wrap=True)
        return
    rows = []
    for row in found.layers:
        numbers = (_number(row.so_far_db, 1), _number(row.alone_db, 1))
        rows.append((row.layer, row.operator, row.tensor, *numbers))
        if row.layer == found.diverged_at:
            break
    print_table(
        console,
        ("layer", "operator", "tensor", "so far", "alone"),
        rows,
        title=f"layers against {found.against}, {plural(found.pictures, 'picture')}, signal to noise in dB",
        caption=f"a layer diverged where it alone is below {found.threshold_db:g} dB (--json lists all)",
        words=("operator", "tensor"),
        spare=("tensor",),
    )
    named = found.diverged_at
    console.print(f"first layer that diverged: {named}" if named else "no layer diverged", highlight=False)


def _number(value: float | None, digits: int, scale: float = 1) -> str:
    if value is None:
        return ""
    return f"{round(value * scale, digits) + 0.0:.{digits}f}".replace("-", MINUS)  # + 0.0 avoids a negative zero


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"
