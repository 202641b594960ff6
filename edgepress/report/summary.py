"""Print a run, a search for INT8, and a data set on a terminal."""

from __future__ import annotations

from rich.console import Console

from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import shown
from edgepress.multilabel.inspection import DataReport
from edgepress.multilabel.plural import plural
from edgepress.report.overview import ABLATION_COLUMNS, ablation_rows, drop_text, seen_there
from edgepress.report.terminal import print_table
from edgepress.run.run_report import RunReport

MOST_GROUPS = 20
MOST_PICTURES = 5
MOST_LABELS = 40


def print_report(report: RunReport, console: Console) -> None:
    """Print the table, and below it what could not run and what failed, with the reasons."""
    data = report.data
    source = f" from {report.teacher.backbone}" if report.taught_by else ", taught by no teacher"
    rows = []
    for one in report.engines:
        timing = one.timing
        times = (None, None, None) if timing is None else (timing.p50_ms, timing.p90_ms, timing.p99_ms)
        rate = None if timing is None else timing.images_per_second
        measured = (_number(one.size_bytes, 1e-6, 1), _number(one.mAP, 100, 2), drop_text(one))
        timed = (*(_number(time, 1, 2) for time in times), _number(rate, 1, 0))
        changed = _number(one.flip_rate, 100, 2, "%")
        rows.append((one.engine, one.precision, *measured, changed, *timed, one.verdict))
    print_table(
        console,
        ("engine", "precision", "MB", "mAP", "drop", "changed", "p50 ms", "p90 ms", "p99 ms", "images/s", "verdict"),
        rows,
        title=f"{report.student.backbone}{source}, {plural(data.test_pictures, 'test picture')}",
        caption=(
            f"mAP over {data.labels_counted} of {data.labels} labels; random scores reach "
            f"{100 * data.prevalence:.1f} (prevalence). Latency: batch {report.recipe.bench.batch}, "
            f"{report.machine.processor}, {plural(report.machine.cores, 'core')}"
        ),
        words=("precision", "verdict"),
        spare=("precision", "images/s", "p99 ms", "p90 ms", "MB", "changed"),
    )
    if steps := ablation_rows(report):
        print_table(
            console, ABLATION_COLUMNS, steps, title="what each step changes", words=("model",), spare=("model",)
        )
    for one in report.engines:
        for reason in one.reasons:
            console.print(f"{one.engine}: {reason.verdict}: {reason}", highlight=False, soft_wrap=True)
    for line in seen_there(report):
        console.print(line, highlight=False, soft_wrap=True)
    if report.caution is not None:
        console.print(f"caution: {report.caution}", highlight=False, soft_wrap=True)


def _number(value: float | None, scale: float, digits: int, unit: str = "") -> str:
    return "" if value is None else f"{value * scale:.{digits}f}{unit}"


def print_trade(bundle: Bundle, console: Console) -> None:
    """Print what every candidate of an INT8 bundle's search reached, and below it which one was chosen."""
    calibration = bundle.manifest.calibration
    assert calibration is not None
    flips = ""  # a bundle of an earlier version has none
    if calibration.allowed_flips is not None:
        flips = f"Flips: changed decisions per predicted positive, of which {calibration.allowed_flips:g} are allowed. "
    rows = [
        (
            row.candidate,
            _number(row.val_mAP, 100, 2),
            _number(row.drop_points, 1, 2),
            _number(row.sqnr, 1, 1),
            _number(row.flips, 1, 3),
            "" if row.latency is None else str(row.latency),
            _number(row.int8_share, 100, 1, "%"),
        )
        for row in calibration.tried
    ]
    print_table(
        console,
        ("candidate", "val mAP", "drop", "SQNR dB", "flips", "latency", "in INT8"),
        rows,
        title=f"{bundle.name}: tried {calibration.tried_told}",
        caption=(
            f"fp32: val mAP {_number(calibration.val_mAP_float, 100, 2)}; allowed drop {calibration.budget:g} points. "
            f"{flips}Latency: batch 1, as a multiple of fp32's in the same runtime, 95 % interval. A candidate is left "
            "out once the time limit (--time-limit) has passed, and where it would change nothing"
        ),
        spare=("in INT8", "SQNR dB"),
    )
    if calibration.on_device:
        console.print(f"timed, and answered on val, on {calibration.measured_on}", highlight=False, soft_wrap=True)
    if calibration.disturbed is not None:
        console.print(f"caution: {calibration.disturbed}", highlight=False, soft_wrap=True)
    console.print(
        f"taken: {calibration.method}, {len(calibration.kept_float)} of {calibration.products} nodes in float",
        soft_wrap=True,
    )


def print_data(report: DataReport, console: Console) -> None:
    """Print a data set's labels by split, and below them what would spoil a training or a measurement."""
    splits = report.splits.values()
    labels = dict.fromkeys(label for split in splits for label in split.counts)
    rows = [[label, *(str(split.counts.get(label, "")) for split in splits)] for label in labels]
    print_table(console, ["label", *report.splits], rows, title="pictures per label")
    for name, split in report.splits.items():
        imbalance = "" if split.imbalance is None else f", most over fewest {split.imbalance:.1f}"
        console.print(
            f"{name}: {plural(split.pictures, 'picture')}, {split.labels_a_picture:.2f} labels each{imbalance}, "
            f"{split.unlabelled} without a label, {plural(split.ignored, 'ignored cell')}",
            soft_wrap=True,
        )
        for pair in split.pairs[:5]:
            console.print(
                f"  {pair.first} + {pair.second}: {plural(pair.count, 'picture')}, "
                f"{pair.second_given_first:.0%} of {pair.first}, {pair.first_given_second:.0%} of {pair.second}",
                soft_wrap=True,
            )
        if split.labels_without_positive:
            console.print(f"  no picture has {shown(split.labels_without_positive, MOST_LABELS)}", soft_wrap=True)
        if split.labels_without_negative:
            names = shown(split.labels_without_negative, MOST_LABELS)
            console.print(f"  no picture is known not to have {names}: mAP leaves it out", soft_wrap=True)
        for value in split.values:
            console.print(f"  {value}", soft_wrap=True)
        if split.with_alpha:
            console.print(
                f"  {plural(split.with_alpha, 'picture has', 'pictures have')} transparency, which is left out",
                soft_wrap=True,
            )
        if split.several:
            held = plural(split.several, "file holds", "files hold")
            console.print(f"  {held} several pictures, of which the first is read", soft_wrap=True)
        for bits, count in split.deep.items():
            using = plural(count, "picture of 16 bits a channel uses", "pictures of 16 bits a channel use")
            console.print(f"  {using} {bits} of them: the upper 8 of these are read", soft_wrap=True)
        for one in split.broken_rules:
            more = f" and {len(one.pictures) - MOST_PICTURES} more" if len(one.pictures) > MOST_PICTURES else ""
            console.print(
                f"  labels break a rule: {one.rule}: {', '.join(one.pictures[:MOST_PICTURES])}{more}", soft_wrap=True
            )
        for broken in split.broken:
            console.print(f"  broken: {broken.path}: {broken.reason}", soft_wrap=True)
    for title, groups in (
        ("same file", report.exact_duplicates),
        ("looks the same", report.near_duplicates),
        ("same file, other labels", report.conflicts),
    ):
        for group in groups[:MOST_GROUPS]:
            across = " ACROSS SPLITS" if group.across else ""
            some = ", ".join(picture.path for picture in group.pictures[:MOST_PICTURES])
            more = f" and {len(group.pictures) - MOST_PICTURES} more" if len(group.pictures) > MOST_PICTURES else ""
            console.print(f"{title}{across}: {some}{more}", soft_wrap=True)
        if len(groups) > MOST_GROUPS:
            console.print(f"{title}: {len(groups) - MOST_GROUPS} more groups (--json lists all)")
