"""How often every promise of thresholds and every interval of the gate holds, where the truth is known.

    OMP_NUM_THREADS=1 python -m benchmarks.guarantees > benchmarks/records/guarantees-cpu.jsonl
    python -m benchmarks.guarantees --scenes DATA --run runs/quickstart >> benchmarks/records/guarantees-cpu.jsonl
    python -m benchmarks.guarantees --table benchmarks/records/guarantees-cpu.jsonl

Promises: in each of 1,000 draws a val split is drawn, thresholds are fitted on it as `calibrate` fits them, and their
true recall, precision or false-positive rate is computed from the distributions. `kept` is the share of draws and
labels in which a label keeps its promise; in the scope `all`, the share of draws in which all labels do. The last
setting has what the fixed sequence of tests assumes away: among the surest pictures the precision falls again.

Intervals: engines with noise on the logits of a finite population, whose flips and drops are exact; test sets are
drawn from it. Each number is the share of intervals that hold the truth. For the worst label, `no_label_below` is the
share of test sets on which no label's true drop lies under its corrected lower end, and `below_high` the share of
labels under their own upper end; both are to be 97.5 %.

`--scenes` fits promises on val of clipart-scenes with the logits of a run's student, and reports test once.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from edgepress.calibration.decide.criterion import Criterion
from edgepress.calibration.decide.thresholds import fit_decisions, fit_thresholds
from edgepress.deploy.verify.label_tallies import LabelTallies
from edgepress.deploy.verify.promises import promise_kept
from edgepress.multilabel.binomial import fewest_trials, share_interval
from edgepress.multilabel.confidence import resample_counts
from edgepress.multilabel.decisions import SILENT
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.metrics import sigmoid

NORMAL = NormalDist()
SURE = 5.0
"""Where the scores of the wrong pictures lie that a model is surest of, in the last setting."""


class Setting(NamedTuple):
    """A promise, and the val split that it is fitted on."""

    thresholds: str
    pictures: int
    share: float
    """Share of positives."""
    labels: int
    strength: float
    """Distance between the scores of positives and negatives, in standard deviations."""
    sure: float = 0.0
    """Share of the negatives that are among the surest pictures."""


SETTINGS = (
    Setting("recall=0.9@95%", 500, 0.13, 5, 2.0),
    Setting("recall=0.8@95%", 200, 0.13, 5, 1.2),
    Setting("recall=0.9@95%:all", 1000, 0.13, 10, 2.0),
    Setting("fpr=0.05@95%", 500, 0.13, 5, 2.0),
    Setting("precision=0.8@95%", 500, 0.13, 5, 2.5),
    Setting("precision=0.7@95%:all", 1000, 0.13, 10, 2.0),
    Setting("precision=0.8@95%", 500, 0.13, 5, 2.5, sure=0.003),
)
SCENES = ("recall=0.8@95%", "recall=0.9@90%", "fpr=0.05@95%", "precision=0.5@95%")


def main() -> None:
    """Measure every setting and print the record, or print a record as a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000, help="val splits a promise")
    parser.add_argument("--engines", type=int, default=300, help="test sets an interval")
    parser.add_argument("--scenes", type=Path, help="the data set clipart-scenes")
    parser.add_argument("--run", type=Path, help="a finished run, whose student answers it")
    parser.add_argument("--table", type=Path, help="a record to print as a table")
    options = parser.parse_args()
    if options.table:
        print("\n".join(table([json.loads(line) for line in options.table.read_text().splitlines()])))
        return
    if options.scenes:
        for row in scenes(options.scenes, options.run):
            print(json.dumps(row), flush=True)
        return
    for setting in SETTINGS:
        print(json.dumps(promise(setting, options.draws)), flush=True)
    for pictures in (300, 1000):
        print(json.dumps(intervals(pictures, options.engines)), flush=True)


def promise(setting: Setting, draws: int) -> dict[str, Any]:
    """How often a promise holds."""
    criterion = Criterion.parse(setting.thresholds)
    assert criterion.promise is not None
    kept, silent = np.empty((draws, setting.labels), bool), 0
    shape = setting.pictures, setting.labels
    for number in range(draws):
        rng = np.random.default_rng([number, setting.pictures])
        targets = rng.random(shape) < setting.share
        wrong = ~targets & (rng.random(shape) < setting.sure)
        scores = rng.normal(size=shape) + np.where(targets, setting.strength, np.where(wrong, SURE, 0.0))
        bars = fit_thresholds(targets, sigmoid(scores), None, criterion).values
        silent += int((bars == SILENT).sum())
        kept[number] = [_kept(setting, criterion.promise, bar) for bar in bars]
    each = kept.all(axis=1).mean() if criterion.promise.scope == "all" else kept.mean()
    return {"of": "promise", **setting._asdict(), "draws": draws, "kept": float(each), "silent": silent / kept.size}


def _kept(setting: Setting, wanted: Any, bar: float) -> bool:
    if bar == SILENT:  # a label that is never answered yes is never wrong; of a recall it is not kept
        return bool(wanted.kind != "recall")
    at = float(np.log(bar) - np.log1p(-bar))
    recall, rate = (1 - NORMAL.cdf(at - middle) for middle in (setting.strength, 0.0))
    rate = (1 - setting.sure) * rate + setting.sure * (1 - NORMAL.cdf(at - SURE))
    if wanted.kind == "recall":
        return bool(recall >= wanted.level)
    if wanted.kind == "fpr":
        return bool(rate <= wanted.level)
    hits, wrong = setting.share * recall, (1 - setting.share) * rate
    return bool(hits >= wanted.level * (hits + wrong))


def intervals(pictures: int, engines: int, population: int = 20_000, labels: int = 10) -> dict[str, Any]:
    """How often the intervals of the gate hold the truth."""
    names = ("flips", "net_flips", "OF1_drop", "CF1_drop")
    held: dict[str, list[float]] = {name: [] for name in (*names, "no_label_below", "below_high", "share")}
    for number in range(engines):
        rng = np.random.default_rng([number, pictures])
        targets = rng.random((population, labels)) < 0.13 * rng.uniform(0.5, 1.5, labels)
        scores = 2 * targets + rng.normal(size=targets.shape)
        noise = 0.1 * rng.uniform(0.3, 3.0, labels) * rng.normal(size=targets.shape)
        before, after = scores > 1.3, scores + noise > 1.3
        nothing = np.zeros(targets.shape, bool)
        whole = LabelTallies.of(before, after, targets, nothing, None)
        rows = rng.integers(0, population, pictures)
        counts = resample_counts(pictures, 1000)
        found = LabelTallies.of(before[rows], after[rows], targets[rows], nothing[rows], counts)
        for name, (truth, _), (_, some) in zip(names, whole.overall(), found.overall(), strict=True):
            assert some is not None
            low, high = np.quantile(some, [0.025, 0.975])
            held[name].append(low <= truth <= high)
        for measure in ("recall", "precision"):
            drops = found.drops(measure, 10)
            assert drops is not None
            true = whole.exact_drops(measure)[drops.columns]
            held["no_label_below"].append((true >= drops.drop - drops.critical * drops.error).all())
            held["below_high"].append((true <= drops.drop + 1.96 * drops.error).mean())
        count, trials = found.positives, np.full(labels, pictures)
        low, high = share_interval(count, trials)
        true_share = targets.mean(axis=0)
        held["share"].append(((low <= true_share) & (true_share <= high)).mean())
    means = {name: round(float(np.mean(values)), 4) for name, values in held.items()}
    return {"of": "intervals", "pictures": pictures, "engines": engines, "labels": labels, **means}


def scenes(data: Path, run: Path) -> Iterator[dict[str, Any]]:
    """Promises that are fitted on val of a real data set, and what they reach on its test."""
    from edgepress.deploy.engines import open_engine
    from edgepress.deploy.verify.verification import predict_split
    from edgepress.multilabel.bundle import Bundle
    from edgepress.multilabel.datasets import load_dataset

    val, test = (load_dataset(data, split) for split in ("val", "test"))
    with open_engine(Bundle.open(run / "onnx-fp32")) as engine:
        answers = [predict_split(engine, split) for split in (val, test)]
    for thresholds in SCENES:
        wanted = Criterion.parse(thresholds).promise
        assert wanted is not None
        counts = (val.targets == 1).sum(axis=0) if wanted.kind != "fpr" else (val.targets == 0).sum(axis=0)
        columns = np.flatnonzero(counts >= fewest_trials(wanted.rate, wanted.risk(len(counts))))
        labels = LabelSpace(tuple(val.labels.names[column] for column in columns))
        some, other = val.with_labels(labels), test.with_labels(labels)
        decisions = fit_decisions(answers[0][:, columns], some, thresholds, "platt")
        assert decisions.fit is not None
        assert decisions.fit.promise is not None
        answered = decisions.decide(answers[1][:, columns])
        found = promise_kept(decisions.fit.promise, answered, other.targets, other.ignore, other.labels.names)
        below = wanted.kind == "fpr"
        told = [one for one in found.labels if one.count]
        possible = [one for one in told if (one.low <= wanted.level if below else one.high >= wanted.level)]
        yield {
            "of": "scenes",
            "thresholds": thresholds,
            "labels": len(columns),
            "left_out": len(counts) - len(columns),
            "silent": len(decisions.fit.unreached),
            "told": found.told,
            "reached": found.reached,
            "level_in_interval_or_better": len(possible),
            "clearly_broken": len(found.broken),
        }


def table(record: list[dict[str, Any]]) -> Iterator[str]:
    """A record as Markdown."""
    yield "| promise | val pictures | labels | true in (of draws) | never answered yes |"
    yield "| --- | --: | --: | --: | --: |"
    for row in record:
        if row["of"] == "promise":
            odd = ", surest pictures wrong" if row["sure"] else ""
            cells = (row["thresholds"] + odd, row["pictures"], row["labels"], f"{100 * row['kept']:.1f} %")
            yield f"| {' | '.join(map(str, cells))} | {100 * row['silent']:.1f} % |"
    yield ""
    yield "| test pictures | flips | net flips | OF1 | CF1 | no label below its low | labels below their high | share |"
    yield "| --: | " + "--: | " * 6 + "--: |"
    for row in record:
        if row["of"] == "intervals":
            names = ("flips", "net_flips", "OF1_drop", "CF1_drop", "no_label_below", "below_high", "share")
            yield f"| {row['pictures']} | " + " | ".join(f"{100 * row[name]:.1f} %" for name in names) + " |"
    yield ""
    yield "| promise on clipart-scenes | labels | left out | silent | told | reached | may hold | clearly broken |"
    yield "| --- | " + "--: | " * 6 + "--: |"
    for row in record:
        if row["of"] == "scenes":
            names = ("labels", "left_out", "silent", "told", "reached", "level_in_interval_or_better", "clearly_broken")
            yield f"| {row['thresholds']} | " + " | ".join(str(row[name]) for name in names) + " |"


if __name__ == "__main__":
    main()
