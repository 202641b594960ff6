"""What a run's report says of the run itself and of every model in it: a row each, kept while nothing changes."""

from __future__ import annotations

import logging
import time
from importlib.metadata import version
from typing import Any

import numpy as np

from edgepress.calibration.decide.label_scores import measure_decisions
from edgepress.calibration.int8.search import SLOWER
from edgepress.deploy.bench.against import compare_latency
from edgepress.deploy.bench.latency import bench, prepared
from edgepress.deploy.build.reference import REFERENCE, Reference
from edgepress.deploy.machine.device import describe_machine, installed
from edgepress.deploy.verify.agreement import DIFF_BUDGET, FLIP_BUDGET
from edgepress.deploy.verify.verification import verify
from edgepress.multilabel.bundle import Bundle, inputs_hash
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.errors import EngineUnavailableError, InputError
from edgepress.multilabel.metrics import labels_counted, mean_average_precision, prevalence
from edgepress.run.build import Splits, folder_of, write_decision_plots
from edgepress.run.evidence import engine_evidence, int8_search, label_precisions, training_curves
from edgepress.run.finetune import FINETUNED, held_to_student
from edgepress.run.latency_limit import OVER
from edgepress.run.quantize import gate
from edgepress.run.recipe import EngineName, Recipe

log = logging.getLogger("edgepress")

_HALVES: dict[EngineName, EngineName] = {
    "onnx-int8-onnxruntime": "onnx-fp16",
    "openvino-int8": "openvino-fp16",
    "tensorrt-int8": "tensorrt-fp16",
}
ROW = 3
"""Of what a row holds: one that was written before is measured again."""


def header(recipe: Recipe, splits: Splits, teachers: list[Bundle], student: Bundle) -> dict[str, Any]:
    """The report before its first row: what was run, on what, from what."""
    return {
        "edgepress": version("edgepress"),
        "verdict": "fail",
        "recipe": recipe.model_dump(mode="json"),
        "data": {
            "root": recipe.data,
            "labels": len(splits.test.labels),
            "labels_counted": labels_counted(splits.test.targets, splits.test.ignore),
            "prevalence": prevalence(splits.test.targets, splits.test.ignore),
            "train_pictures": len(splits.train),
            "val_pictures": len(splits.val),
            "test_pictures": len(splits.test),
        },
        "teacher": _teacher_summary(teachers, student),
        "student": _summary(student),
        "training": [training_curves(bundle) for bundle in (*teachers, student)],
        "made_with": {
            "fingerprints": {name: getattr(splits, name).fingerprint() for name in ("train", "val", "test")},
            "runtimes": installed(),
            "tools": student.manifest.tools,
        },
        "bench": recipe.bench.model_dump(),
        "budgets_points": recipe.verify.model_dump(),
        "machine": describe_machine(),
        "engines": [],
    }


def _summary(bundle: Bundle) -> dict[str, Any]:
    assert bundle.manifest.architecture is not None
    facts = bundle.manifest.facts
    keys = ("val_mAP", "best_epoch", "weights")
    return {
        "backbone": bundle.manifest.architecture["backbone"],
        "head": bundle.manifest.architecture["head"],
        "size": bundle.preprocess.size,
        **{key: facts[key] for key in keys if key in facts},
        "digest": bundle.digest,
    }


def _teacher_summary(teachers: list[Bundle], student: Bundle) -> dict[str, Any]:
    """What taught; of several, what they are together and each by itself."""
    each = [_summary(teacher) for teacher in teachers]
    if len(each) == 1:
        return each[0]
    together = student.manifest.facts["teacher_val_mAP"]
    names = " + ".join(one["backbone"] for one in each)
    return {"backbone": names, "size": each[0]["size"], "val_mAP": together, "ensemble": each}


def earlier_rows(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows of an earlier report that a run may keep, by their keys: those that were measured whole, without what
    was said of a latency budget, which this run may not have."""
    kept = {}
    for row in report.get("engines", []):
        if "key" in row and "bench" in row:
            kept[row["key"]] = {name: value for name, value in row.items() if name != "there"}
            if "reasons" in row:
                kept[row["key"]]["reasons"] = [one for one in row["reasons"] if not one.startswith(OVER)]
    return kept


def torch_row(
    role: str,
    bundle: Bundle,
    onnx: Bundle,
    test: MultiLabelDataset,
    recipe: Recipe,
    pictures: list[bytes],
    earlier: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """The torch model that engines are compared with (the student), or that it learnt from (the teacher)."""
    key = _key(bundle, test, recipe)
    # A model may be kept in another role: adopted teachers may have changed places.
    named = {"engine": f"{role} (torch)", "verdict": "reference" if role == "student" else "teacher"}
    if key in earlier:
        return {**earlier[key], **named}
    log.info("timing the %s in torch", role)
    row: dict[str, Any] = {"key": key, **named, "precision": "fp32", "size_bytes": _weights(bundle)}
    if role == "student":
        logits = Reference.load(onnx.path / REFERENCE).logits
    else:
        from edgepress.deploy.engines import open_engine
        from edgepress.deploy.verify.verification import predict_split

        with open_engine(bundle) as engine:
            logits = predict_split(engine, test)
    row["mAP"] = mean_average_precision(test.targets, logits, test.ignore)
    row |= {"digest": bundle.digest, "labels": label_precisions(logits, test)}
    return {**row, **_timings(bundle, recipe, pictures)}


def engine_row(
    bundle: Bundle,
    onnx: Bundle,
    test: MultiLabelDataset,
    recipe: Recipe,
    pictures: list[bytes],
    earlier: dict[str, dict[str, Any]],
    half: Bundle | None = None,
) -> dict[str, Any]:
    """An engine, verified on test, held to the student and timed; `not run` where this machine cannot run it.

    Args:
        onnx: of the student, not fine-tuned.
        earlier: see `earlier_rows`.
        half: of an INT8 engine the fp16 engine for the same runtime, which must not be faster.
    """
    key = _key(bundle, test, recipe, half)
    if key in earlier:
        return earlier[key]
    row: dict[str, Any] = {"key": key, "size_bytes": bundle.size_bytes, "digest": bundle.digest}
    row["int8"] = int8_search(bundle)
    if bundle.name.endswith(FINETUNED):  # also where it cannot run here: a host may, and then its bundle is shipped
        row |= {"finetuned": True, "bundle": bundle.name}
    try:
        started = time.perf_counter()
        result = verify(bundle, test, budget=recipe.verify.budget(bundle.manifest.precision))
        log.info("verified %s on %d pictures in %.1f s", bundle.name, len(test), time.perf_counter() - started)
        row |= {name: value for name, value in result.as_dict().items() if name != "engine"}
        slower = gate(bundle)
        if slower is not None:
            row |= {"verdict": "fail", "reasons": [*row["reasons"], slower]}
        if result.mAP is not None and result.logits is not None:
            decisions = bundle.decisions.ordered(test.labels.names)
            row = held_to_student(bundle, row, result.logits, onnx, test)
            row["decisions"] = measure_decisions(decisions, result.logits, test)
            row |= engine_evidence(bundle, decisions, result.logits, row["labels"], test)
            write_decision_plots(bundle, decisions, result.logits, decisions.probabilities(result.logits), test)
        row |= _timings(bundle, recipe, pictures)
        if half is not None:
            row = held_to_half(bundle, half, row, pictures)
    except EngineUnavailableError as error:
        row |= {"verdict": "not run", "reasons": [str(error)]}
    except InputError as error:  # its runtime refuses the model: that engine fails, the others go on
        row |= {"verdict": "fail", "reasons": [str(error)]}
    return row


def half_of(engine: EngineName, built: dict[str, Bundle], rows: list[dict[str, Any]], recipe: Recipe) -> Bundle | None:
    """The fp16 engine that an INT8 engine is timed against: of the same runtime, built by this run, and run here."""
    if engine not in _HALVES:
        return None
    name = folder_of(_HALVES[engine], recipe.compile)
    return built[name] if any(row["engine"] == name and "p50_ms" in row for row in rows) else None


def held_to_half(bundle: Bundle, half: Bundle, row: dict[str, Any], pictures: list[bytes]) -> dict[str, Any]:
    """An INT8 engine's row with its time as a multiple of the fp16 engine's, in turn; slower beyond chance it fails."""
    latency = compare_latency(bundle, half, np.stack([prepared(bundle, data) for data in pictures]))
    row |= {"against_fp16": {"engine": half.name, **latency.model_dump()}}
    if latency.slower(SLOWER):
        row |= {"verdict": "fail", "reasons": [*row["reasons"], f"slower than {half.name} ({latency})"]}
    return row


def _timings(bundle: Bundle, recipe: Recipe, pictures: list[bytes]) -> dict[str, Any]:
    """The model's own latency at the first batch size at the top of a row, everything else beside it."""
    wanted = recipe.bench
    result = bench(
        bundle, pictures, batches=wanted.batches, streams=wanted.stream_counts, seconds=wanted.seconds
    ).as_dict()
    model = result["cells"][0]["model"]
    shown = ("p50_ms", "p90_ms", "p95_ms", "p99_ms", "max_ms", "mean_ms", "images_per_second", "calls")
    return {
        **{name: model[name] for name in shown},
        "bench": {key: value for key, value in result.items() if key != "machine"},
    }


def _weights(bundle: Bundle) -> int:
    return bundle.model_path.stat().st_size


def _key(bundle: Bundle, test: MultiLabelDataset, recipe: Recipe, half: Bundle | None = None) -> str:
    """A measurement is kept while the engine, the pictures, the machine and the way of measuring are the same."""
    return inputs_hash(
        {
            "row": ROW,
            "bundle": bundle.digest,
            "half": half.digest if half else None,
            "test": test.fingerprint(),
            "bench": recipe.bench.model_dump(),
            "machine": describe_machine(),
            "budgets": [recipe.verify.budget(bundle.manifest.precision), DIFF_BUDGET, FLIP_BUDGET],
            "runtimes": [f"edgepress {version('edgepress')}", *installed()],
        }
    )


def verdict_of(rows: list[dict[str, Any]], recipe: Recipe) -> str:
    """With `required`, those must all pass; without, everything that this machine can run must, and something must."""
    required = {folder_of(engine, recipe.compile) for engine in recipe.required}
    if required:
        return "pass" if required <= {row["engine"] for row in rows if row["verdict"] == "pass"} else "fail"
    verdicts = {row["verdict"] for row in rows}
    return "pass" if "pass" in verdicts and not verdicts & {"fail", "unproven"} else "fail"
