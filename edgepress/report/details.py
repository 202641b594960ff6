"""Sections of a report: INT8, reliability, what changed, the device, how to reproduce."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import yaml

from edgepress.deploy.bench.benchmark import Benchmark
from edgepress.deploy.engines.base import counted
from edgepress.deploy.verify.executed import int8_caution
from edgepress.multilabel.errors import shown
from edgepress.multilabel.manifest import Quantization
from edgepress.multilabel.plural import plural
from edgepress.report.blocks import Block, Code, Gallery, GalleryPicture, Listing, Table, Text
from edgepress.report.figures import draw_reliability, draw_sensitivity
from edgepress.report.verification import frequency_cells, gate_rows, group_name, promise_rows
from edgepress.run.recipe import Recipe
from edgepress.run.result import FlippedPicture
from edgepress.run.run_report import RunReport

MOST_ANSWERS = 12
"""Most labels that a report names per answer."""


def int8(report: RunReport) -> list[Block]:
    """For each INT8 engine: how it was quantised, what was tried, and the nodes that suffer most."""
    results = [one for one in report.engines if one.precision == "int8"]
    if not results:
        return [Text("No INT8 engine was asked for.")]
    blocks: list[Block] = []
    for one in results:
        if one.int8 is None:
            why = "; ".join(map(str, one.reasons)) or "its bundle does not say"
            blocks.append(Text(f"{one.engine}: nothing is known of its quantisation ({why})."))
            continue
        blocks.append(Text(_quantised(one.engine, one.int8)))
        if one.verification is not None:
            told = counted(one.verification.ran.products), int8_caution(one.int8, one.verification.ran)
            blocks += [Text(f"{one.engine}, as it was verified: {text}.") for text in told if text]
        if one.held_to is not None:
            blocks.append(Text(f"{one.engine}, time against {one.held_to.engine}: {one.held_to.ratio}."))
            blocks += [Text(f"That time: {caution}.") for caution in one.held_to.ratio.cautions]
        if one.int8.disturbed is not None:
            blocks.append(Text(f"{one.engine}, its search: {one.int8.disturbed}."))
        if one.int8.tried:
            blocks.append(_tried(one.engine, one.int8))
    figures = [draw_sensitivity(one.engine, one.int8) for one in results if one.int8 is not None]
    return [*blocks, *(figure for figure in figures if figure is not None)]


def _quantised(engine: str, found: Quantization) -> str:
    said = f"{engine}: {found.method}, calibrated on {plural(found.pictures, 'picture')} of {found.split}"
    if found.val_mAP is not None and found.val_mAP_float is not None:
        said += f"; val mAP {100 * found.val_mAP:.2f}, of the float model {100 * found.val_mAP_float:.2f}"
    if found.budget is not None:
        said += f", of which {found.budget:g} points may be lost"
    if found.val_flips is not None and found.allowed_flips is not None:
        said += f"; flips {found.val_flips:.3f} per predicted positive, {found.allowed_flips:g} allowed"
    if found.products is not None:
        said += f"; {len(found.kept_float)} of {found.products} nodes left in float"
    if found.latency is not None:
        said += f"; time against fp32{f' on {found.measured_on}' if found.on_device else ''}: {found.latency}"
    if found.missing_labels:
        said += f"; no calibration picture shows {shown(found.missing_labels)}"
    return said + "."


def _tried(engine: str, found: Quantization) -> Table:
    return Table(
        caption=f"{engine}: what was tried ({found.tried_told})",
        columns=("candidate", "val mAP", "drop in points", "SQNR dB", "flips", "time, of fp32's", "in INT8"),
        rows=[
            [
                one.candidate,
                f"{100 * one.val_mAP:.2f}",
                f"{one.drop_points:.2f}",
                f"{one.sqnr:.1f}",
                "" if one.flips is None else f"{one.flips:.3f}",
                "" if one.latency is None else f"{one.latency.ratio:.2f}",
                f"{100 * one.int8_share:.1f} %",
            ]
            for one in found.tried
        ],
        folded=True,
    )


def reliability(report: RunReport) -> list[Block]:
    """Whether probabilities match frequencies, before and after calibration."""
    measured = [(one.engine, one.decisions) for one in report.engines if one.decisions is not None]
    if not measured:
        return [Text("No engine was measured.")]
    shown = report.telling
    figure = []
    if shown is not None and shown.reliability is not None:
        figure = [draw_reliability(shown.engine, shown.reliability)]
    rows = [
        (engine, one.ece_before, one.ece_after, one.ece_by_chance, one.macro_F1_at_half, one.macro_F1)
        for engine, one in measured
    ]
    promises = [
        Text(f"{one.engine}: {what}: {value}.")
        for one in report.engines
        if one.verification is not None
        for _, what, value, _ in promise_rows(one.verification.promise)
    ]
    return [
        *figure,
        *groups(report),
        *by_frequency(report),
        *promises,
        Table(
            caption="Expected calibration error in percent (mean over labels; what is left by chance beside it), and "
            "macro-F1 in points by the sigmoid at 0.5 and by the fitted decisions. Fitted on val, measured on test. "
            "The calibrator was chosen by its log loss on val, so its ECE may be the higher one",
            columns=("engine", "ECE, sigmoid", "ECE, calibrated", "ECE by chance", "F1 at 0.5", "F1, fitted"),
            rows=[[engine, *(f"{100 * value:.1f}" for value in values)] for engine, *values in rows],
        ),
    ]


def groups(report: RunReport) -> list[Block]:
    """How often each group of labels that exclude each other is answered right, by every engine; empty without any."""
    measured = [(one.engine, one.verification.groups) for one in report.engines if one.verification is not None]
    rows = [(engine, row) for engine, found in measured for row in found]
    if not rows:
        return []
    return [
        Table(
            caption="Labels that exclude each other: pictures for which the group is answered right, in percent",
            columns=("group", "engine", "pictures", "student", "this engine"),
            rows=[
                [
                    group_name(row),
                    engine,
                    str(row.pictures),
                    *("" if one is None else f"{100 * one:.2f}" for one in (row.accuracy_reference, row.accuracy)),
                ]
                for engine, row in rows
            ],
            words=("engine",),
        )
    ]


def by_frequency(report: RunReport) -> list[Block]:
    """mAP of frequent, middle and rare labels, by every engine; empty where labels are few."""
    measured = [(one.engine, one.verification.by_frequency) for one in report.engines if one.verification is not None]
    rows = [(engine, row) for engine, found in measured for row in found]
    if not rows:
        return []
    return [
        Table(
            caption="mAP in points of a third of the labels each, by how many pictures of test show them",
            columns=("labels", "engine", "pictures of each", "student", "this engine", "drop"),
            rows=[
                [
                    frequency_cells(row)[0],
                    engine,
                    frequency_cells(row)[1],
                    *("" if one is None else f"{100 * one:.2f}" for one in (row.mAP_reference, row.mAP)),
                    "" if row.drop_points is None else f"{row.drop_points:.2f}",
                ]
                for engine, row in rows
            ],
            words=("engine",),
        )
    ]


def flips(report: RunReport) -> list[Block]:
    """The pictures on which the engine to ship decides differently from the model it came from."""
    found = report.flips
    if report.verdict == "incomplete":
        return [Text("The run was interrupted before its pictures were compared.")]
    if found is None:
        return [Text("No engine was verified, so nothing is known to have changed.")]
    engine, gates = found.engine, _gates(report)
    source = "the fine-tuned student" if found.finetuned else "the student"
    if not found.flipped:
        same = f"{engine} decides all {found.decisions} labels of the test pictures as {source} does."
        return [Text(same), *gates]
    share = 100 * found.flipped / found.decisions
    more = found.pictures - len(found.shown)
    return [
        Text(
            f"{engine} decides {found.flipped} of {found.decisions} (picture, label) cells otherwise than "
            f"{source} ({share:.2f} %), on {plural(found.pictures, 'picture')}. Of these cells the engine has "
            f"{found.right} right and {source} {found.flipped - found.right}."
        ),
        Text(
            "The surest first: where both were farthest from their thresholds."
            + (f" {plural(more, 'more picture is', 'more pictures are')} not shown." if more else "")
        ),
        Gallery([_picture(one, engine, source) for one in found.shown]),
        *gates,
    ]


def _gates(report: RunReport) -> list[Block]:
    """What the decisions of every engine lose, beside what is allowed for its precision; nothing from a report of a
    version that did not measure it."""
    gates = {one.engine: one.verification.gate for one in report.engines if one.verification is not None}
    rows = {engine: gate_rows(gate) for engine, gate in gates.items() if gate is not None}
    if not rows:
        return []
    names = list(dict.fromkeys(name for some in rows.values() for name, _, _ in some))
    cells = [
        [
            engine,
            *(next((f"{value}; {bound}" for name, value, bound in some if name == wanted), "") for wanted in names),
        ]
        for engine, some in rows.items()
    ]
    return [
        Table(
            caption="What the decisions of every engine lose against the model it was made from, with 95 % intervals, "
            "and after the semicolon what is allowed. Drops are in points",
            columns=("engine", *names),
            rows=cells,
            folded=True,
        )
    ]


def _picture(one: FlippedPicture, engine: str, source: str) -> GalleryPicture:
    told = [
        f"{'now' if flip.answer else 'no longer'} {flip.label} ({flip.before:.3f} to {flip.after:.3f}, "
        f"{'right' if flip.right else 'wrong'})"
        for flip in one.flips
    ]
    truth = _listed(one.truth)
    return GalleryPicture(
        jpeg=one.jpeg,
        alt=f"Test picture that shows: {truth}",
        name=one.picture,
        facts=[
            ("Shows", truth),
            ("Changed", "; ".join(told[:MOST_ANSWERS])),
            (f"{source[0].upper()}{source[1:]}", _listed([name for name, _ in one.before])),
            (engine, _listed([name for name, _ in one.after])),
        ],
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_ANSWERS} more" if len(names) > MOST_ANSWERS else ""
    return (", ".join(names[:MOST_ANSWERS]) + more) or "nothing"


def device(report: RunReport) -> list[Block]:
    """The machine, its state around each measurement, and warnings."""
    machine = report.machine
    facts = [
        f"Processor: {machine.processor}, {machine.cores} cores, {machine.architecture}",
        f"Board: {machine.model or 'not known'}; GPU: {machine.gpu or 'none'}",
        f"System: {machine.system}, Python {machine.python}",
        f"Clock governor: {machine.governor}",
    ]
    timed = [(one.engine, one.bench) for one in report.engines if one.bench is not None]
    if not timed:
        return [Listing(facts), Text("No model was timed.")]
    cautions = [[engine, caution] for engine, bench in timed for caution in bench.cautions]
    return [
        Listing(facts),
        Table(
            caption="State before and after each measurement",
            columns=("model", "measured, UTC", "ran on", "load", "hottest, °C", "clocks", "throttled", "peak MB"),
            words=("measured, UTC", "ran on", "clocks", "throttled"),
            rows=[_state(engine, bench) for engine, bench in timed],
        ),
        *(_cautions(cautions) if cautions else [Text("No measurement carries a caution.")]),
    ]


def _cautions(rows: list[list[str]]) -> list[Block]:
    kinds = Counter(caution.partition(":")[0] for _, caution in rows)
    said = ", ".join(f"{kind} ({count})" for kind, count in kinds.items())
    caption = "Cautions about each measurement"
    return [
        Text(f"Caution: the machine may not have been in a steady state while it was measured: {said}."),
        Table(caption=caption, columns=("model", "caution"), words=("caution",), rows=rows, folded=True),
    ]


def _state(engine: str, bench: Benchmark) -> list[str]:
    before, after = bench.before, bench.after
    hottest = [max(state.temperatures.values(), default=None) for state in (before, after)]
    throttled = sorted({*before.throttling, *after.throttling})
    return [
        engine,
        bench.when[:16].replace("T", " "),
        f"{bench.ran.runtime} {bench.ran.version} {bench.ran.provider} "
        f"{counted(bench.ran.products) or bench.ran.precision}",
        _pair(before.load, after.load),
        _pair(*hottest),
        before.clocks if before.clocks == after.clocks else f"{before.clocks} to {after.clocks}",
        ", ".join(throttled) or "no",
        "" if bench.memory.peak_mb is None else f"{bench.memory.peak_mb:.0f}",
    ]


def _pair(before: float | None, after: float | None) -> str:
    return "" if before is None or after is None else f"{before:g} to {after:g}"


def reproduction(report: RunReport) -> list[Block]:
    """The recipe, versions, hashes and seeds."""
    made, recipe = report.made_with, report.recipe
    hashes = [[one.engine, one.digest] for one in report.engines if one.digest is not None]
    hashes += [[f"split {name}", value] for name, value in made.fingerprints.items()]
    tools = [f"{name} {value}" for name, value in made.tools.items()]
    versions = dict.fromkeys([f"edgepress {report.edgepress}", *tools, *made.runtimes])
    seeds = [(name, getattr(recipe, name).seed) for name in ("teach", "distill", "quantize", "finetune")]
    return [
        Code(caption="Save the recipe below as recipe.yaml, then", text="edgepress run --recipe recipe.yaml"),
        Text(
            "On the same machine with the same versions the same seeds give the same models; on others numbers differ "
            "in their last digits, and latencies are of this machine alone."
        ),
        Listing(
            [
                f"Versions: {', '.join(versions)}",
                "Seeds: " + ", ".join(f"{name} {'as distill' if seed is None else seed}" for name, seed in seeds),
            ]
        ),
        Table(
            caption="sha256 of models and splits",
            columns=("what", "sha256"),
            words=("sha256",),
            rows=hashes,
            folded=True,
        ),
        Code(caption="The recipe, every setting", text=recipe_text(recipe), language="yaml"),
    ]


def recipe_text(recipe: Recipe) -> str:
    """A recipe as YAML for `edgepress run`, without settings that are not set or that no file may set."""
    values = recipe.model_dump(mode="json", exclude_none=True, exclude={"ssh_option"})
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True).rstrip()
