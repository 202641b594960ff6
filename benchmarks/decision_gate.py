"""What the gate on decisions lets pass: simulated engines that are sound, and engines that are wrong in one way.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.decision_gate > benchmarks/records/decision-gate-cpu.jsonl

A simulated model has a logit per label and picture, of a signal and of noise, whose strength gives the mAP of a weak, a
middling and a strong tagger. Its probabilities and thresholds are fitted on a val split as `calibrate` fits them. An
engine is the model's logits with noise of a given signal to noise; for INT8 its decisions are aligned on val as
`quantize` aligns them. Every engine has pictures of its own. Wrong engines are INT8 engines with one fault, because
INT8 has the widest bounds. Prints a JSON object a setting: how many engines failed, were unproven, and passed; `before`
is the same by the gate that came before (a drop of mAP with its interval, and at most 10 % of all decisions changed in
INT8, 0.5 % in fp16 and 0.1 % in fp32). `--table` prints a record as the table of docs/verify.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from edgepress.calibration.decide.probabilities import fit_probabilities
from edgepress.calibration.decide.thresholds import Criterion, align_decisions, fit_thresholds
from edgepress.deploy.verify.agreement import ALLOWED_DROP, beyond_allowed
from edgepress.deploy.verify.comparison import Comparison
from edgepress.deploy.verify.decision_gate import BOUNDS
from edgepress.deploy.verify.verification import checks_of
from edgepress.multilabel.confidence import Scored, doubt, drop_interval
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.decisions import Decisions
from edgepress.multilabel.judgement import Reason, Verdict, judge
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.manifest import Precision

FLIPS_BEFORE: dict[Precision, float] = {"fp32": 0.001, "fp16": 0.005, "int8": 0.1}
SQNR: dict[Precision, float] = {"fp32": 125.0, "fp16": 55.0, "int8": 30.0}
"""Signal to noise in dB of the sample's engines (runs/quickstart/report.json)."""


@dataclass(frozen=True)
class Model:
    """A simulated tagger."""

    name: str
    labels: int
    share: float
    """Mean share of positives."""
    strength: float
    """Distance between the means of a label's positives and negatives, in standard deviations."""


MODELS = (Model("weak", 30, 0.13, 1.2), Model("middling", 30, 0.13, 2.0), Model("strong", 80, 0.04, 3.2))
SOUND = ("fp32", "fp16", "int8")
FAULTS = (
    "thresholds 0.1 higher",
    "thresholds 0.1 lower",
    "one label's weights perturbed",
    "two labels' columns swapped",
    "probability calibration dropped",
    "INT8 of 15 dB",
)


OF_DECISIONS = (FAULTS[0], FAULTS[1], FAULTS[4])
"""The faults that leave the logits of the INT8 engine as they are."""


def main() -> None:
    """Simulate every setting and print the record, or print a record as a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engines", type=int, default=200, help="engines a setting")
    parser.add_argument("--pictures", type=int, nargs="+", default=[1000], help="test pictures")
    parser.add_argument(
        "--resamples", type=int, default=250, help="of the drop in mAP; those of decisions are verify's"
    )
    parser.add_argument("--val", type=int, default=500, help="val pictures")
    parser.add_argument("--models", nargs="+", default=[one.name for one in MODELS], help="which of them")
    parser.add_argument("--table", type=Path, help="a record to print as a table")
    options = parser.parse_args()
    if options.table:
        print("\n".join(table([json.loads(line) for line in options.table.read_text().splitlines()])))
        return
    for pictures in options.pictures:
        for model in (one for one in MODELS if one.name in options.models):
            for row in _measure(model, pictures, options):
                print(json.dumps(row), flush=True)


def _measure(model: Model, pictures: int, options: argparse.Namespace) -> Iterator[dict]:
    kinds = (*SOUND, *FAULTS)
    now, before, numbers = ({kind: [] for kind in kinds} for _ in range(3))  # type: ignore[var-annotated]
    for number in range(options.engines):
        drops: dict[str, tuple[float, float] | None] = {}
        for kind in kinds:
            found, precision = engine(model, kind, pictures, options.val, number)
            _share_interval(found, drops, "int8" if kind in OF_DECISIONS else kind, precision, options.resamples)
            gate = found.gate(BOUNDS[precision])
            now[kind].append(judge(checks_of(found, gate, precision, ALLOWED_DROP[precision])).verdict)
            before[kind].append(judge(_before(found, precision)).verdict)
            values = gate.flips.value, gate.net_flips.value, gate.OF1_drop.value, gate.CF1_drop.value
            numbers[kind].append([found.agreement.flip_rate, *values])
    for kind in kinds:
        means = np.mean(numbers[kind], axis=0).round(4).tolist()
        yield {
            "model": model.name,
            "engine": kind,
            **{name: getattr(options, name) for name in ("engines", "val", "resamples")},
            "pictures": pictures,
            **_verdicts(now[kind]),
            "before": _verdicts(before[kind]),
            **dict(zip(("changed", "flips", "net_flips", "OF1_drop", "CF1_drop"), means, strict=True)),
        }


def _verdicts(found: list[Verdict]) -> dict[str, int]:
    return {verdict: found.count(verdict) for verdict in ("fail", "unproven", "pass")}


def _share_interval(
    found: Comparison, known: dict[str, tuple[float, float] | None], logits: str, precision: Precision, resamples: int
) -> None:
    """Give a comparison the interval of its drop in mAP, which engines with the same logits share: it takes longest."""
    drop = found.agreement.drop_points
    if logits not in known and drop is not None and drop <= ALLOWED_DROP[precision]:
        scored = (Scored(found.data.targets, one, found.data.ignore) for one in (found.reference, found.logits))
        known[logits] = drop_interval(*scored, resamples=resamples)
    vars(found)["drop_interval"] = known.get(logits)


def engine(model: Model, kind: str, pictures: int, val: int, seed: int) -> tuple[Comparison, Precision]:
    """One engine beside its reference on test pictures of its own."""
    rng = np.random.default_rng([seed, pictures, model.labels, int(10 * model.strength)])
    shares = model.share * rng.uniform(0.3, 1.9, model.labels)
    strengths = model.strength * rng.uniform(0.6, 1.4, model.labels)
    slope, offset = rng.uniform(1.0, 2.0), rng.normal(0, 0.7, model.labels)  # what calibration has to mend

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        targets = rng.random((count, model.labels)) < shares
        evidence = strengths * ((targets - 0.5) * strengths + rng.normal(size=targets.shape))
        return targets, slope * (evidence + np.log(shares / (1 - shares))) + offset

    (seen, on_val), (targets, reference) = draw(val), draw(pictures)
    precision: Precision = kind if kind in get_args(Precision) else "int8"  # type: ignore[assignment]
    power = 10 ** (-(15.0 if kind.startswith("INT8") else SQNR[precision]) / 20)

    def noisy(logits: np.ndarray) -> np.ndarray:
        spread = power * np.sqrt(np.square(on_val).mean())
        return logits + spread * rng.normal(size=logits.shape)

    names = tuple(map(str, range(model.labels)))
    calibrator = fit_probabilities(on_val, seen, None, "platt")
    fitted = fit_thresholds(seen, calibrator(on_val), None, Criterion("f1"))
    decisions = Decisions(labels=names, thresholds=tuple(fitted.values.tolist()), calibrator=calibrator)
    logits = noisy(reference)
    if precision == "int8":
        decisions = align_decisions(decisions, on_val, noisy(on_val))
    data = MultiLabelDataset(
        root=Path("simulated"),
        split="test",
        labels=LabelSpace(names),
        paths=[Path(str(row)) for row in range(pictures)],
        targets=targets.astype(np.uint8),
        ignore=np.zeros(targets.shape, bool),
    )
    logits, decisions = _broken(kind, logits, decisions, rng)
    return Comparison.on(data, logits, reference, decisions), precision


def _broken(kind: str, logits: np.ndarray, decisions: Decisions, rng: np.random.Generator):
    """An engine's logits and decisions with a fault; its reference keeps what it had."""
    theirs = decisions.refitted_from or decisions
    logits = logits.copy()
    if kind.startswith("thresholds"):
        move = 0.1 if kind.endswith("higher") else -0.1
        moved = tuple(float(np.clip(value + move, 0, 1)) for value in decisions.thresholds)
        decisions = decisions.model_copy(update={"thresholds": moved, "refitted_from": theirs})
    elif kind.startswith("one label"):
        # Noise as large as the weights, in directions of their own: the logit gets as much noise as it has signal.
        column = rng.integers(logits.shape[1])
        logits[:, column] += logits[:, column].std() * rng.normal(size=len(logits))
    elif kind.startswith("two labels"):
        one, other = rng.choice(logits.shape[1], 2, replace=False)
        logits[:, [one, other]] = logits[:, [other, one]]
    elif kind.startswith("probability"):
        plain = Decisions.plain(decisions.labels, decisions.thresholds)
        decisions = plain.model_copy(update={"refitted_from": theirs})
    return logits, decisions


def _before(found: Comparison, precision: Precision) -> Iterator[Reason]:
    """The gate that came before."""
    agreement, budget = found.agreement, ALLOWED_DROP[precision]
    reasons = beyond_allowed(agreement, precision, budget)
    if agreement.flip_rate > FLIPS_BEFORE[precision]:
        reasons.append(Reason(kind="decisions", text="too many decisions changed"))
    unproven = None if reasons else doubt(found.drop_interval, budget, len(found.data))
    return iter([*reasons, *([Reason(kind="interval", text=unproven)] if unproven else [])])


def table(record: list[dict]) -> Iterator[str]:
    """A record as Markdown: failed, unproven and passed, and in brackets by the gate that came before."""
    yield "| engine | pictures | " + " | ".join(model.name for model in MODELS) + " |"
    yield "| --- | --: |" + " --- |" * len(MODELS)
    for pictures in dict.fromkeys(row["pictures"] for row in record):
        for kind in (*SOUND, *FAULTS):
            rows = {row["model"]: row for row in record if (row["engine"], row["pictures"]) == (kind, pictures)}
            cells = [_told(rows[model.name]) if model.name in rows else "" for model in MODELS]
            yield f"| {kind} | {pictures:,} | {' | '.join(cells)} |"


def _told(row: dict) -> str:
    now, before = (
        ", ".join(str(one[verdict]) for verdict in ("fail", "unproven", "pass")) for one in (row, row["before"])
    )
    return f"{now} ({before})"


if __name__ == "__main__":
    main()
