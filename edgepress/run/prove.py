"""The second pass of a run: every model is measured on test and timed here; earlier measurements are kept."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from typing import Any

import numpy as np

from edgepress.calibration.decide.label_scores import macro_f1, measure_decisions
from edgepress.deploy.bench.benchmark import Benchmark
from edgepress.deploy.bench.latency import bench
from edgepress.deploy.build.reference import REFERENCE, Reference
from edgepress.deploy.engines import open_engine
from edgepress.deploy.engines.golden import ALLOWED_DIFF
from edgepress.deploy.machine.device import describe_machine, installed
from edgepress.deploy.verify.verification import predict_split, verify
from edgepress.multilabel.bundle import Bundle, inputs_hash
from edgepress.multilabel.confidence import Scored, drop_interval
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.errors import EngineUnavailableError, InputError
from edgepress.multilabel.judgement import Reason
from edgepress.multilabel.label_map import LabelMatch
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.metrics import decide, mean_average_precision, sigmoid
from edgepress.multilabel.plural import plural
from edgepress.multilabel.stored_answers import StoredAnswers
from edgepress.run.build import Built, write_decision_plots
from edgepress.run.evidence import int8_search, label_scores, reliability_bins
from edgepress.run.flips import find_flips
from edgepress.run.recipe import Recipe
from edgepress.run.result import EngineResult, Role, StudentDrop

log = logging.getLogger("edgepress")
_ROW = 6
"""Version of the fields of a result; a result of an earlier version is measured again."""


def prove_model(
    name: str,
    role: Role,
    bundle: Bundle,
    onnx: Bundle,
    test: MultiLabelDataset,
    recipe: Recipe,
    pictures: list[bytes],
    earlier: Mapping[str, EngineResult],
    match: LabelMatch | None = None,
) -> EngineResult:
    """Measure the model that engines are compared with (the student), that it learnt from (a teacher) or that learnt
    alone, as it is.

    Args:
        onnx: the student's bundle; its reference holds the student's logits.
        earlier: see `earlier_results`.
        match: the teacher's labels for those of the data set; what it lacks does not count.
    """
    key = _key(bundle, test, recipe, match)
    # A kept result may have another role now, because adopted teachers may have changed places.
    runtime = bundle.manifest.kind
    place: dict[str, Any] = {"engine": f"{name} ({runtime})", "role": role, "bundle": bundle.name}
    if key in earlier:
        return earlier[key].model_copy(update=place)
    log.info("timing the %s in %s", name, runtime)
    if role == "student":
        logits = Reference.load(onnx.path / REFERENCE).logits
    else:
        with open_engine(bundle) as engine:
            logits = predict_split(engine, test)
        if match is not None and not match.same:
            from edgepress.compress.mapped import mapped

            logits = mapped(logits, match)
            test = _known_to(match, test)
    return EngineResult(
        **place,
        precision="fp32",
        key=key,
        digest=bundle.digest,
        size_bytes=bundle.model_path.stat().st_size,
        mAP=mean_average_precision(test.targets, test.scores(logits), test.ignore),
        macro_F1_at_half=macro_f1(decide(sigmoid(test.scores(logits))), test),
        labels=label_scores(logits, test),
        bench=_bench(bundle, recipe, pictures),
    )


def prove_answers(answers: StoredAnswers, match: LabelMatch, test: MultiLabelDataset) -> EngineResult:
    """What a teacher's stored answers reach on test, if they are for all of its pictures; nothing is timed."""
    place: dict[str, Any] = {"engine": "teacher (answers)", "role": "teacher", "precision": "fp32"}
    size = answers.path.stat().st_size
    if answers.has(test) < len(test):
        return EngineResult(**place, digest=answers.digest, size_bytes=size)
    from edgepress.compress.stored import answers_for

    logits, test = answers_for(answers, match, test), _known_to(match, test)
    return EngineResult(
        **place,
        digest=answers.digest,
        size_bytes=size,
        mAP=mean_average_precision(test.targets, test.scores(logits), test.ignore),
        labels=label_scores(logits, test),
    )


def _known_to(match: LabelMatch, test: MultiLabelDataset) -> MultiLabelDataset:
    """The split without the cells, and the groups without the labels, that a teacher lacks."""
    has = tuple(name for name, known in zip(test.labels.names, match.known, strict=True) if known)
    return replace(test, ignore=test.ignore | ~match.known, groups=test.groups.among(LabelSpace(has)))


def prove_engine(
    built: Built,
    onnx: Bundle,
    test: MultiLabelDataset,
    recipe: Recipe,
    pictures: list[bytes],
    earlier: Mapping[str, EngineResult],
) -> EngineResult:
    """Verify an engine on test and time it; if this machine cannot build or run it, the result holds the reason.

    Args:
        onnx: the bundle of the student before any fine-tuning.
        earlier: see `earlier_results`.
    """
    place: dict[str, Any] = {"engine": built.name, "precision": built.precision, "required": built.required}
    bundle = built.bundle
    if bundle is None:
        return EngineResult(**place, refusal=built.refusal)
    place |= {"bundle": bundle.name, "finetuned": built.finetuned}
    key = _key(bundle, test, recipe)
    if key in earlier:
        return earlier[key].model_copy(update=place)
    measured: dict[str, Any] = {}
    try:
        measured = _verified(bundle, test, recipe, onnx if built.finetuned else None)
        measured["bench"] = _bench(bundle, recipe, pictures)
    except EngineUnavailableError as error:
        measured["refusal"] = Reason(kind="machine", text=str(error))
    except InputError as error:  # its runtime refuses the model: this engine fails, and the others go on
        measured["refusal"] = Reason(kind="model", text=str(error))
    return EngineResult(
        **place, key=key, digest=bundle.digest, size_bytes=bundle.size_bytes, int8=int8_search(bundle), **measured
    )


def _verified(bundle: Bundle, test: MultiLabelDataset, recipe: Recipe, student: Bundle | None) -> dict[str, Any]:
    """Fields of a result: what `verify` found on test, and the evidence for it.

    Args:
        student: the fp32 ONNX of the student, for an engine of the fine-tuned one.
    """
    started = time.perf_counter()
    precision = bundle.manifest.precision
    found = verify(bundle, test, budget=recipe.verify.budget(precision), bounds=recipe.verify.bounds(precision))
    pictures, seconds = plural(len(test), "picture"), time.perf_counter() - started
    log.info("verified %s on %s in %.1f s", bundle.name, pictures, seconds)
    fields: dict[str, Any] = {"verification": found.model_copy(update={"logits": None}), "mAP": found.mAP}
    logits = found.logits
    if found.mAP is None or logits is None:  # a logit is not finite, so nothing more can be measured
        return fields
    decisions = bundle.decisions.ordered(test.labels.names)
    reference = Reference.load(bundle.path / REFERENCE)
    rows = reference.rows(test.hashes())
    assert rows is not None, "a run exports, and verifies on, the same pictures"
    columns = [reference.labels.index(name) for name in test.labels.names]
    write_decision_plots(bundle, decisions, logits, decisions.probabilities(logits), test)
    return {
        **fields,
        "student_drop": None if student is None else student_drop(logits, student, test),
        "labels": label_scores(logits, test, intervals=bundle.manifest.precision == "int8"),
        "decisions": measure_decisions(decisions, logits, test),
        "reliability": reliability_bins(decisions, logits, test),
        "flips": find_flips(decisions, logits, reference.logits[rows][:, columns], test),
    }


def student_drop(logits: np.ndarray, onnx: Bundle, test: MultiLabelDataset) -> StudentDrop:
    """The mAP that an engine of the fine-tuned student loses against the student itself, which it replaces; `verify`
    compared it with the fine-tuned one.

    Args:
        logits: the engine's, finite, `[N, C]`, in the order of the pictures and labels of test.
        onnx: the student's bundle; its reference holds the student's logits for the same pictures.
    """
    student = Scored(test.targets, test.scores(Reference.load(onnx.path / REFERENCE).logits), test.ignore)
    engine = student._replace(scores=test.scores(logits))
    points = 100 * (mean_average_precision(*student) - mean_average_precision(*engine))
    return StudentDrop(points=points, interval=drop_interval(student, engine))


def _bench(bundle: Bundle, recipe: Recipe, pictures: Sequence[bytes]) -> Benchmark:
    wanted = recipe.bench
    return bench(bundle, list(pictures), batches=wanted.batches, streams=wanted.stream_counts, seconds=wanted.seconds)


def _key(bundle: Bundle, test: MultiLabelDataset, recipe: Recipe, match: LabelMatch | None = None) -> str:
    """A measurement is kept while the engine, the pictures, the machine and the way of measuring are the same."""
    precision = bundle.manifest.precision
    return inputs_hash(
        {
            "row": _ROW,
            "bundle": bundle.digest,
            "labels": None if match is None or match.same else [match.columns, match.combine],
            "test": test.fingerprint(),
            "bench": recipe.bench.model_dump(),
            "machine": asdict(describe_machine()),
            "budgets": [recipe.verify.budget(precision), asdict(recipe.verify.bounds(precision)), ALLOWED_DIFF],
            "runtimes": [f"edgepress {version('edgepress')}", *installed()],
        }
    )
