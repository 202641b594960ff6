"""A comparison of distillation methods, printed and as a document, from compare.json alone."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from edgepress.multilabel.bundle import write_atomically
from edgepress.multilabel.frequency import PARTS
from edgepress.multilabel.plural import plural
from edgepress.report.blocks import Block, Document, Figure, Listing, Section, Table, Text, to_markdown
from edgepress.report.html import to_html
from edgepress.report.plots import comparison_panel, draw_comparison
from edgepress.report.svg import picture
from edgepress.report.terminal import print_table
from edgepress.run.compared import RECORD, ComparedLabel, MethodComparison, MethodSummary
from edgepress.run.trials import shown_settings

PLOT, HTML, MARKDOWN = "compare.svg", "compare.html", "compare.md"
MOST_LABELS = 200
"""Labels of a table; of more the most frequent ones are shown."""


def print_comparison(record: MethodComparison, console: Console) -> None:
    """Print the table, best method first, and which methods differ beyond chance."""
    rows = []
    decided, parts = _has_f1(record), _parts(record)
    for row in _ranked(record):
        deviation = "" if row.deviation is None else f"{row.deviation:.2f}"
        cells = [row.method, str(row.seeds), f"{row.test_mAP_points:.2f}", deviation, f"{row.val_mAP_points:.2f}"]
        if decided and row.decided_points is not None:
            cells += [f"{row.decided_points.OF1:.2f}", f"{row.decided_points.CF1:.2f}"]
        cells += [f"{part:.2f}" for part in row.by_frequency_points[: len(parts)]]
        rows.append([*cells, *([_tuned(row, record)] if record.trials else [])])
    columns = ["method", "seeds", "test mAP", "deviation", "val mAP", *(("OF1", "CF1") if decided else ()), *parts]
    print_table(
        console,
        [*columns, *(["chosen by trials"] if record.trials else [])],
        rows,
        title=_title(record),
        caption=". ".join([_caption(record, RECORD), *_told(record)]),
        spare=("tail", "middle", "head") if parts else (),
        prose=bool(record.trials),
    )


def write_methods(folder: Path, record: MethodComparison) -> None:
    """Write compare.html, compare.md and compare.svg, each completely or not at all."""
    document = methods_document(record)
    for name, text in ((HTML, to_html(document)), (MARKDOWN, to_markdown(document))):
        write_atomically(folder / name, text.encode("utf-8", "backslashreplace"))
    write_atomically(folder / PLOT, draw_comparison(record))


def methods_document(record: MethodComparison) -> Document:
    """Everything that a comparison found, the best method first."""
    return Document(
        title=_title(record),
        headline=[f"{_caption(record, 'this page')}.", *(f"{line}." for line in _told(record))],
        sections=[
            Section("Methods", [_methods(record), _plot(record)]),
            *([Section("Beyond chance", _differences(record))] if record.significance else []),
            *([Section("By label frequency", [_by_frequency(record)])] if _parts(record) else []),
            *([Section("By label", _by_label(record))] if _has_labels(record) else []),
            *([Section("Trials", [_trials(record)])] if record.trials else []),
        ],
    )


def _ranked(record: MethodComparison) -> list[MethodSummary]:
    return sorted(record.methods, key=lambda row: -row.test_mAP_points)


def _has_f1(record: MethodComparison) -> bool:
    return all(row.decided_points is not None for row in record.methods)


def _has_labels(record: MethodComparison) -> bool:
    return bool(record.labels) and all(len(row.AP) == len(record.labels) for row in record.students)


def _parts(record: MethodComparison) -> tuple[str, ...]:
    return PARTS if all(row.by_frequency_points for row in record.methods) else ()


def _title(record: MethodComparison) -> str:
    return f"{record.student.backbone} at {record.student.size} px, {plural(record.epochs, 'epoch')}"


def _caption(record: MethodComparison, where: str) -> str:
    lead, known = record.teacher_leads_points, record.students[0].teacher_val_mAP
    said = (
        f"Teacher: {record.teacher.backbone}, val mAP {'unknown' if known is None else f'{100 * known:.2f}'}"
        f"{'' if lead is None else f', {abs(lead):.1f} points {_side(lead)} the student alone'}; "
        f"random scores reach {100 * record.prevalence:.1f}. val picks the epoch, test reports. "
        f"The rows are all that {where} holds, of this call and of earlier ones"
    )
    if _has_f1(record):
        said += "; OF1, CF1: by each student's own thresholds, fitted on val"
    if _parts(record):
        said += "; head, middle, tail: test mAP of the most frequent labels, and so on"
    return said


def _side(points: float) -> str:
    return "above" if points >= 0 else "below"


def _told(record: MethodComparison) -> list[str]:
    return list(dict.fromkeys(line for one in record.significance for line in one.told))


def _tuned(row: MethodSummary, record: MethodComparison) -> str:
    """How many trials chose a method's settings, and which."""
    count = sum(one.method == row.method for one in record.trials)
    return f"of {count}: {shown_settings(row.settings)}" if count else "not tuned"


def _methods(record: MethodComparison) -> Table:
    rows = []
    for row in _ranked(record):
        deviation = "" if row.deviation is None else f"{row.deviation:.2f}"
        cells = [row.method, str(row.seeds), f"{row.test_mAP_points:.2f}", deviation, f"{row.val_mAP_points:.2f}"]
        found = row.decided_points
        f1 = () if found is None else (found.OF1, found.CF1, found.OF1_at_half, found.CF1_at_half)
        cells += [f"{value:.2f}" for value in f1] or [""] * 4
        rows.append([*cells, _tuned(row, record)])
    columns = ("method", "seeds", "test mAP", "deviation", "val mAP", "OF1", "CF1", "OF1 at 0.5", "CF1 at 0.5")
    return Table(
        caption="Means over the seeds, in points, with the sample deviation of test mAP. OF1 and CF1 are by each "
        "student's own thresholds, fitted on val; at 0.5: by the sigmoid alone. CF1 is 2·CP·CR / (CP + CR)",
        columns=(*columns, "settings chosen by trials"),
        rows=rows,
        words=("settings chosen by trials",),
    )


def _plot(record: MethodComparison) -> Figure:
    means = "; ".join(f"{row.method} {row.test_mAP_points:.2f}" for row in _ranked(record))
    return Figure(
        svg=picture(*comparison_panel(record)), alt=f"test mAP by method: {means}", caption="Test mAP by method"
    )


def _differences(record: MethodComparison) -> list[Block]:
    blocks: list[Block] = []
    for one in record.significance:
        rows = []
        for row in one.differences:
            low, high = row.interval
            rows.append((row.method, f"{row.points:+.2f}", f"{low:+.2f} to {high:+.2f}", str(row.seeds), row.verdict))
        blocks.append(
            Table(
                caption=f"Test mAP minus that of {one.reference}, in points, with the 95 % interval of each; the "
                f"critical difference, for all methods at once, is {one.critical_points:.2f}",
                columns=("method", "difference", "interval", "seeds", "verdict"),
                rows=rows,
                words=("verdict",),
            )
        )
    said = (
        "A difference is better or worse if it is at least the critical one, and open otherwise. Test pictures were "
        "drawn with replacement, the same for all methods, and the common seeds as well."
    )
    return [*blocks, Text(said)]


def _by_frequency(record: MethodComparison) -> Table:
    said = []
    for part in PARTS:
        counts = [one.test_positives for one in record.labels if one.part == part]
        said += (
            [f"{part}: {plural(len(counts), 'label')} with {min(counts)} to {max(counts)} test pictures"]
            if counts
            else []
        )
    return Table(
        caption=f"Test mAP of the most frequent third of the labels, the middle and the rarest ({'; '.join(said)})",
        columns=("method", *PARTS),
        rows=[(row.method, *(f"{value:.2f}" for value in row.by_frequency_points)) for row in _ranked(record)],
    )


def _by_label(record: MethodComparison) -> list[Block]:
    methods = [row.method for row in _ranked(record)]
    order = sorted(range(len(record.labels)), key=lambda at: -record.labels[at].train_positives)[:MOST_LABELS]
    few = (
        f"; the {MOST_LABELS} most frequent of {len(record.labels)} labels" if len(record.labels) > MOST_LABELS else ""
    )
    tables: list[Block] = []
    for name, what in (("AP", "Test AP"), ("F1", "Test F1 by each student's own thresholds")):
        means = {method: _means(record, method, name) for method in methods}
        rows = [(*_named(record.labels[at]), *(means[method][at] for method in methods)) for at in order]
        tables.append(
            Table(
                caption=f"{what} of each label in points, the most frequent first{few}",
                columns=("label", "train pictures", "test pictures", *methods),
                rows=rows,
                folded=name == "F1",
            )
        )
    best = record.significance[0].reference if record.significance else methods[0]
    return [*([Listing(_farthest(record, best))] if len(methods) > 1 else []), *tables]


def _named(label: ComparedLabel) -> tuple[str, str, str]:
    return label.label, str(label.train_positives), str(label.test_positives)


def _column(record: MethodComparison, method: str, name: str) -> list[float | None]:
    """A method's value of every label in points, the mean over its seeds."""
    columns: list[Sequence[float | None]] = [getattr(row, name) for row in record.students if row.method == method]
    means: list[float | None] = []
    for values in zip(*columns, strict=True):
        known = [value for value in values if value is not None]
        means.append(100 * statistics.mean(known) if len(known) == len(values) else None)
    return means


def _means(record: MethodComparison, method: str, name: str) -> list[str]:
    return ["" if value is None else f"{value:.1f}" for value in _column(record, method, name)]


def _farthest(record: MethodComparison, best: str) -> list[str]:
    """The labels at which a method is farthest above and below the best one."""
    own, said = _column(record, best, "AP"), []
    for row in _ranked(record):
        if row.method == best:
            continue
        gaps = [
            (value - theirs, record.labels[at].label)
            for at, (value, theirs) in enumerate(zip(own, _column(record, row.method, "AP"), strict=True))
            if value is not None and theirs is not None
        ]
        if gaps:
            (least, lost), (most, won) = min(gaps), max(gaps)
            said.append(
                f"{best} against {row.method}: from {least:+.1f} points of AP at {lost} to {most:+.1f} at {won}"
            )
    return said


def _trials(record: MethodComparison) -> Table:
    rows = []
    for one in record.trials:
        short, last = one.trainings[0], one.trainings[-1]
        took = sum(training.seconds for training in one.trainings)
        vals = ["" if training.val_mAP is None else f"{100 * training.val_mAP:.2f}" for training in (short, last)]
        epochs, after = (f"{short.epochs}", "") if short is last else (f"{short.epochs}, {last.epochs}", vals[1])
        what = one.state, shown_settings(one.settings)
        rows.append((f"{one.method} {one.number + 1}", epochs, vals[0], after, f"{took:.0f}", *what))
    return Table(
        caption="Trials that chose the methods' settings on val. Those that went on were trained again for all epochs",
        columns=("trial", "epochs", "val mAP", "after all epochs", "seconds", "state", "settings"),
        rows=rows,
        words=("state", "settings"),
        folded=True,
    )
