"""Model cards: a description of a bundle for its users, in Markdown as the Hugging Face hub reads it.

Numbers come from the bundle's manifest and from the report of the run that measured it, and no claim is made beyond
them. Its owner must choose the licence, so none is written.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from pathlib import Path as FilePath
from typing import Any

import yaml

from edgepress.compress.methods import TERMS
from edgepress.multilabel.bundle import Bundle, write_atomically
from edgepress.multilabel.decisions import SILENT, Decisions
from edgepress.multilabel.errors import InputError, shown
from edgepress.multilabel.manifest import MANIFEST
from edgepress.multilabel.plural import plural
from edgepress.report.blocks import Block, Code, Listing, Section, Table, Text, escaped, section_markdown
from edgepress.report.details import recipe_text
from edgepress.report.overview import drop_text, label_precision, megabytes, milliseconds, points
from edgepress.report.verification import gate_rows, promise_rows
from edgepress.run.result import EngineResult
from edgepress.run.run_report import RunReport

CARDS = "cards"
"""Folder of a run for its cards. They are outside the bundles, because a card changes when the report is made again and
a bundle never changes."""
_PRECISION = {"fp32": "32-bit float", "fp16": "16-bit float", "int8": "INT8"}


def write_cards(folder: FilePath, bundles: Sequence[Bundle], report: RunReport) -> None:
    """Write `NAME.md` for every bundle of a run, each completely or not at all; an unchanged file is kept."""
    for bundle in bundles:
        file, data = folder / f"{bundle.name}.md", card(bundle, report).encode("utf-8", "backslashreplace")
        if not file.is_file() or file.read_bytes() != data:
            write_atomically(file, data)


def card(bundle: Bundle, report: RunReport | None) -> str:
    """The card of a bundle.

    Args:
        report: the report of the run that made it, or the student that it was made from; without one the card says that
            nothing was measured.

    Raises:
        InputError: the report describes other bundles.
    """
    row = None if report is None else measured_row(bundle, report)
    sections = [
        Section("Intended use", _use(bundle)),
        Section("Labels and thresholds", _labels(bundle, row)),
        Section("Training", _training(bundle, report, row)),
        Section("Measured", _measured(bundle, report, row)),
        Section("Limits", _limits(bundle, row)),
        Section("How to reproduce", _reproduction(bundle, report, row)),
    ]
    front = yaml.safe_dump(_front_matter(bundle, report, row), sort_keys=False, allow_unicode=True)
    what = f"A multi-label image tagger, {_PRECISION[bundle.manifest.precision]}, as {bundle.manifest.kind}."
    title = f"# {escaped(_title(bundle, report))}\n\n{what}"
    return f"---\n{front}---\n\n" + "\n\n".join([title, *map(section_markdown, sections)]) + "\n"


def measured_row(bundle: Bundle, report: RunReport) -> EngineResult | None:
    """The result in a report for exactly this bundle; None where it has none and the bundle was made from the student
    of the report, as the graph with attention, one that an engine was built from, or what somebody made later.

    Raises:
        InputError: it was not made from that student, as far as the bundles beside it show.
    """
    rows = {row.digest: row for row in report.engines}
    # A teacher is no such source: students of other runs may come from it as well.
    sources = {report.student.digest, *(row.digest for row in report.engines if row.role in ("student", "engine"))}
    if bundle.digest in rows or _made_from(bundle, sources):
        return rows.get(bundle.digest)
    raise InputError(
        f"{bundle.path}: the report has no row of this bundle (digest {bundle.digest[:12]}), which was not made from "
        f"the student of the report either; it knows {_measured_names(report)}, as they were when it was made. Run "
        "again, or give the report of the run that made the bundle"
    )


def _made_from(bundle: Bundle, digests: Set[str | None]) -> bool:
    """Whether a bundle was made from one of these, directly or by bundles that stand beside it."""
    parent = bundle.manifest.parent
    if parent is None or parent.digest in digests:
        return parent is not None
    place = bundle.path.resolve().parent / parent.name
    if not (place / MANIFEST).is_file():
        return False
    beside = Bundle.open(place)
    return beside.digest == parent.digest and _made_from(beside, digests)


def _measured_names(report: RunReport) -> str:
    return ", ".join(row.engine for row in report.engines)


def _title(bundle: Bundle, report: RunReport | None) -> str:
    backbone = (bundle.manifest.architecture or bundle.manifest.facts).backbone
    if backbone is None and report is not None:
        backbone = report.student.backbone
    return f"{backbone or 'Tagger'}, {bundle.name}"


def _front_matter(bundle: Bundle, report: RunReport | None, row: EngineResult | None) -> dict[str, Any]:
    manifest = bundle.manifest
    tags = ["multi-label-classification", "edgepress", manifest.kind, manifest.precision]
    if manifest.role != "teacher" and _was_taught(bundle, report):
        tags.append("knowledge-distillation")
    fields: dict[str, Any] = {
        "library_name": "edgepress",
        "pipeline_tag": "image-classification",
        "tags": tags,
        "metrics": ["mean_average_precision"],
    }
    if report is None or row is None or row.mAP is None:
        return fields
    name = _data_name(report)
    result = {
        "task": {"type": "image-classification", "name": "Multi-label image classification"},
        "dataset": {"type": name, "name": name, "split": report.recipe.test},
        "metrics": [{"type": "mean_average_precision", "name": "mAP (mean over labels)", "value": round(row.mAP, 4)}],
    }
    return {**fields, "model-index": [{"name": _title(bundle, report), "results": [result]}]}


def _data_name(report: RunReport) -> str:
    return " ".join(FilePath(report.data.root).name.split())


def _use(bundle: Bundle) -> list[Block]:
    size = bundle.preprocess.size
    seen = bundle.preprocess
    fitted = {
        "squash": "stretched",
        "crop": "cut to its middle square and scaled",
        "letterbox": "scaled and put in the middle of a black square",
    }[seen.resize]
    return [
        Text(
            f"It says which of {len(bundle.labels)} labels a picture shows; each label is a question of its own, and "
            "none or several may be answered yes. It is meant for pictures like those that it learnt from."
        ),
        Text(
            f"It takes uint8 RGB pixels [B, {size}, {size}, 3], not normalised (the picture is {fitted}, by the "
            f"interpolation {seen.interpolation}), and gives a float32 logit a label."
        ),
        Code(caption="To tag pictures:", text=f"edgepress predict {bundle.name} PICTURE..."),
    ]


def _labels(bundle: Bundle, row: EngineResult | None) -> list[Block]:
    decisions = bundle.decisions
    fit = decisions.fit
    known = {one.label: one for one in row.labels} if row is not None else {}
    if fit is None:
        said = (
            "No thresholds were fitted for it: a label is answered yes where the sigmoid of its logit is 0.5 or more."
        )
    else:
        said = (
            f"A label is answered yes where its calibrated probability reaches its threshold, fitted for "
            f"{fit.thresholds} on {plural(fit.pictures, 'picture')} of {fit.split} "
            f"(probabilities: {fit.probabilities})."
        )
        if fit.promise is not None:
            said += f" Promised for new pictures of the same kind: a {fit.promise} ({fit.promise.method})."
    table = Table(
        caption="Every label",
        columns=(
            "label",
            "threshold",
            "positives it was fitted on",
            "positives in test",
            f"AP on test, points{' (95 % interval)' if any(one.interval for one in known.values()) else ''}",
        ),
        rows=[
            [
                name,
                _threshold(decisions, place),
                "" if fit is None else str(fit.positives[place]),
                str(known[name].positives) if name in known else "",
                label_precision(known.get(name)),
            ]
            for place, name in enumerate(bundle.manifest.labels)
        ],
    )
    return [Text(said), *(Text(one) for one in _rules(decisions)), table]


def _threshold(decisions: Decisions, place: int) -> str:
    if decisions.grouped.always_one[place]:
        return "most probable"
    threshold = decisions.thresholds[place]
    return "never" if threshold == SILENT else f"{threshold:.3f}"


def _rules(decisions: Decisions) -> list[str]:
    """What the label groups say, in sentences."""
    groups = decisions.groups
    said = [f"Exactly one is answered yes of {', '.join(group)}." for group in groups.one_of]
    said += [f"At most one is answered yes of {', '.join(group)}." for group in groups.at_most_one_of]
    return said + [
        f"Where {name} is answered yes, so is {', '.join(follows)}." for name, follows in groups.implies.items()
    ]


def _training(bundle: Bundle, report: RunReport | None, row: EngineResult | None) -> list[Block]:
    facts = bundle.manifest.facts
    adopted = report is not None and bundle.manifest.role == "teacher" and bool(report.recipe.teacher)
    said = []
    if report is not None and not adopted:
        data = report.data
        of = "Data set" if row is not None else "The student that it was made from: data set"
        said.append(
            f"{of} {_data_name(report)}: {plural(data.train_pictures, 'picture')} taught, {data.val_pictures} "
            f"chose epochs, thresholds and quantisation, {data.test_pictures} were only measured on."
        )
        if bundle.manifest.role != "teacher":
            said.append(_distillation(report, taught=_was_taught(bundle, report)))
        if row is not None and row.finetuned:
            said.append("The student was fine-tuned as its INT8 graph computes.")
    else:
        if adopted:
            said.append("It was trained before the run that measured it, which taught it nothing.")
        if facts.pictures is not None:
            said.append(f"Trained on {plural(facts.pictures, 'picture')}.")
    if facts.weights is not None:
        said.append(f"It began from these weights: {facts.weights}.")
    calibration = bundle.manifest.calibration
    if calibration is not None:
        said.append(
            f"INT8 ranges: {calibration.method}, from {plural(calibration.pictures, 'picture')} of "
            f"{calibration.split}; {plural(len(calibration.kept_float), 'node')} left in float."
        )
    # A student names its teacher as its parent, even if it did not learn from it.
    alone = bundle.manifest.role == "student" and not _was_taught(bundle, report)
    if bundle.manifest.parent is not None and not alone:
        said.append(f"Made from the bundle {bundle.manifest.parent.name} ({bundle.manifest.parent.digest[:12]}).")
    return [Listing(said)] if said else [Text("The bundle does not say how it was trained, and no report was given.")]


def _was_taught(bundle: Bundle, report: RunReport | None) -> bool:
    """Whether a teacher's term taught the student. A run may have another student that learnt alone."""
    facts = bundle.manifest.facts
    if facts.training is not None and not any(facts.training.get(name) for name in TERMS):
        return False
    return bool(report.taught_by if report is not None else facts.teachers)


def _distillation(report: RunReport, *, taught: bool) -> str:
    """What the student learnt from, and with which loss terms."""
    teachers, distill = report.taught_by, report.recipe.distill
    if not taught:
        return f"Trained on the labels alone, by no teacher, over {plural(distill.epochs_trained, 'epoch')}."
    weights = ", ".join(f"{name} {getattr(distill, name):g}" for name in ("task", *TERMS) if getattr(distill, name))
    epochs = plural(distill.epochs_trained, "epoch")
    return (
        f"Distilled from {' and '.join(one.backbone for one in teachers)} over {epochs}; "
        f"weights of the loss terms: {weights}."
    )


def _measured(bundle: Bundle, report: RunReport | None, row: EngineResult | None) -> list[Block]:
    if report is None:
        return [Text("Nothing: no report of a run was given with this bundle.")]
    if row is None:
        return [
            Text(
                f"Nothing: this bundle was made from the student of a run, which measured {_measured_names(report)}, "
                "as they were then, and not this one."
            )
        ]
    if row.mAP is None:
        return [Text(f"Nothing: {row.verdict} ({'; '.join(map(str, row.reasons)) or 'no reason is known'}).")]
    machine = report.machine
    facts = [
        f"mAP on {plural(report.data.test_pictures, 'test picture')}: {points(row.mAP)} points over "
        f"{plural(report.data.labels_counted, 'label')} (random scores: {points(report.data.prevalence)})",
    ]
    made_from = "the model it was made from"
    if drop_text(row):
        source = made_from if row.student_drop is None else "the student"
        facts.append(f"Drop against {source}, in points (95 % interval): {drop_text(row)}")
    if row.flip_rate is not None:
        facts.append(f"Decisions that differ from those of {made_from}: {100 * row.flip_rate:.2f} %")
    if row.verification is not None and row.verification.gate is not None:
        facts += [
            f"{name[0].upper()}{name[1:]}: {value} (allowed: {bound})"
            for name, value, bound in gate_rows(row.verification.gate)
        ]
    if row.verification is not None:
        facts += [
            f"{what[0].upper()}{what[1:]}: {value}" for _, what, value, _ in promise_rows(row.verification.promise)
        ]
    if row.p50_ms is not None:
        facts.append(
            f"Latency, batch {report.recipe.bench.batches[0]}, the model alone: p50 "
            f"{milliseconds(row.p50_ms)} ms on {machine.processor}, {machine.cores} cores"
        )
    facts += [f"Size: {megabytes(row.size_bytes)} MB", f"Verdict: {row.verdict}"]
    return [Listing([*facts, *map(str, row.reasons)])]


def _limits(bundle: Bundle, row: EngineResult | None) -> list[Block]:
    limits = [
        "Pictures of another kind than the training data were not tried, nor was anything of bias between groups of "
        "people, places or times.",
        "Probabilities were calibrated for how often each label occurs in val; where labels are rarer or more frequent "
        "they mislead."
        if bundle.decisions.fit
        else "Its sigmoid was not calibrated: 0.8 need not mean 80 %.",
    ]
    weak = [one.label for one in (row.labels if row else ()) if one.AP is None or one.positives < 10]
    if weak:
        limits.append(f"Labels with fewer than 10 positive test pictures, whose AP says little: {shown(weak, 20)}.")
    limits += [f"{one[0].upper()}{one[1:]}." for one in (row.verification.cautions if row and row.verification else ())]
    if bundle.manifest.built_for:
        built = ", ".join(f"{name} {value}" for name, value in bundle.manifest.built_for if value is not None)
        limits.append(f"It was built for: {built}.")
    return [Listing(limits)]


def _reproduction(bundle: Bundle, report: RunReport | None, row: EngineResult | None) -> list[Block]:
    tools = ", ".join(f"{name} {value}" for name, value in bundle.manifest.tools.items())
    blocks: list[Block] = [Listing([f"Digest of the bundle: {bundle.digest}", f"Made with: {tools or 'not recorded'}"])]
    if report is None:
        return [*blocks, Text("No recipe is known: no report was given.")]
    what = "" if row is not None else "For the student that it was made from: "
    said = f"{what}edgepress {report.edgepress}, this recipe as recipe.yaml, and: edgepress run --recipe recipe.yaml"
    return [*blocks, Code(caption=said, text=recipe_text(report.recipe), language="yaml")]
