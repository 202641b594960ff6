"""run: labelled pictures to a distilled student and its engines, each verified and timed, in one report."""

from __future__ import annotations

import logging
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from calibration.thresholds import fit_decisions, measure_decisions
from deploy.device import describe_machine, installed
from deploy.latency import bench
from deploy.reference import REFERENCE, Reference
from deploy.verify import DIFF_BUDGET, DROP_BUDGET, FLIP_BUDGET, verify
from edgepress.int8 import gate
from edgepress.recipe import Recipe, TrainRecipe
from edgepress.report import read_report, write_report
from edgepress.stages import Splits, build_engine, folder_of, write_decision_plots
from multilabel.bundle import MANIFEST, Bundle, inputs_hash, require_replaceable
from multilabel.datasets import Difficult, Format, MultiLabelDataset, load_dataset, refuse_leaks
from multilabel.datasets.unlabelled import load_unlabelled
from multilabel.errors import EngineUnavailableError, InputError
from multilabel.metrics import labels_counted, mean_average_precision, prevalence
from multilabel.pictures import read_bytes

log = logging.getLogger("edgepress")


def run(recipe: Recipe) -> dict[str, Any]:
    """Every stage of a recipe; what is finished and unchanged is kept. Returns the report, also written to report.json.

    Raises:
        InputError: see the stages.
    """
    splits = splits_of(recipe)
    out = Path(recipe.out)
    if (out / MANIFEST).is_file():
        raise InputError(f"{out}: is a bundle; name another folder for the run")
    out.mkdir(parents=True, exist_ok=True)
    teachers, student = _train(recipe, splits, out)
    if not _is_main_process():  # the other processes of a launch were here to train
        return {}
    onnx = _export(student, splits, recipe, out)
    earlier = {row["key"]: row for row in read_report(out).get("engines", []) if "key" in row}
    report = _header(recipe, splits, teachers, student)
    pictures = [read_bytes(path) for path in splits.test.paths[:64]]
    for role, bundle in (*((teacher.name, teacher) for teacher in teachers), ("student", student)):
        report["engines"].append(_torch_row(role, bundle, onnx, splits.test, recipe, pictures, earlier))
    for engine in recipe.engines:
        name = folder_of(engine, recipe.compile)
        try:
            bundle = build_engine(engine, onnx, out, splits, recipe.quantize, recipe.compile)
        except EngineUnavailableError as error:
            row: dict[str, Any] = {"verdict": "not built", "reasons": [str(error)]}
        except InputError as error:
            # One target's refusal must not cost the others their results.
            row = {"verdict": "fail", "reasons": [str(error)]}
        else:
            row = _engine_row(bundle, splits.test, recipe, pictures, earlier)
        row = {"engine": name, "precision": engine.split("-")[1], **row, "required": engine in recipe.required}
        report["engines"].append(row)
        log.info("%s: %s%s", name, row["verdict"], "".join(f" ({reason})" for reason in row.get("reasons", [])))
        # Until the end the rows that are still to come are kept from the last time, and nothing is claimed.
        done = {row["engine"] for row in report["engines"]}
        later = [row for row in earlier.values() if row["engine"] not in done]
        write_report(out, {**report, "engines": [*report["engines"], *later], "verdict": "incomplete"})
    report["verdict"] = _verdict(report["engines"], recipe)
    write_report(out, report)
    return report


def splits_of(recipe: TrainRecipe) -> Splits:
    """The splits that a recipe names; see `load_splits`.

    Raises:
        InputError: also where an unlabelled picture stands in val or test.
    """
    splits = load_splits(
        recipe.data, recipe.train, recipe.val, recipe.test, format=recipe.format, difficult=recipe.difficult
    )
    if recipe.distill.unlabelled is not None:
        refuse_leaks(load_unlabelled(recipe.distill.unlabelled, splits.train.labels), [splits.val, splits.test])
    return splits


def load_splits(
    data: str, train: str, val: str, test: str, *, format: Format = "auto", difficult: Difficult = "ignore"
) -> Splits:
    """Load the three splits and read every picture once.

    Raises:
        InputError: see `load_dataset`; names the first broken picture, and one that stands in train and elsewhere.
    """
    loaded = [load_dataset(data, split, format, difficult=difficult) for split in (train, val, test)]
    for split in loaded:
        split.check_pictures()
        loaded[0].labels.require_equal(split.labels, f"the split {train!r}", f"the split {split.split!r}")
    for split in loaded[1:]:
        if labels_counted(split.targets, split.ignore) == 0:
            raise InputError(f"{data}, split {split.split!r}: no label has a positive picture: mAP is not defined")
    refuse_leaks(loaded[0], loaded[1:])
    return Splits(train=loaded[0], val=loaded[1], test=loaded[2])


def _train(recipe: Recipe, splits: Splits, out: Path) -> tuple[list[Bundle], Bundle]:
    from compress.distill import distill, require_makeable

    # What can be known to be wrong is told before hours are spent on a teacher.
    require_makeable(recipe.distill)
    require_replaceable(out / "student", "torch", "fp32", "student")
    if not recipe.teacher and recipe.teach.resize != recipe.distill.resize:
        raise InputError(
            f"resize is {recipe.teach.resize} in teach and {recipe.distill.resize} in distill: set them alike"
        )
    first, *others = teachers = teachers_of(recipe, splits)
    return teachers, distill(splits.train, splits.val, first, recipe.distill, out / "student", ensemble=others)


def teachers_of(recipe: TrainRecipe, splits: Splits) -> list[Bundle]:
    """The finished teachers that a recipe names, brought into its folder, or the one that it teaches there.

    Raises:
        InputError: see `adopt_teachers` and `teach`.
    """
    from compress.adopt import adopt_teachers
    from compress.distill import teach

    out = Path(recipe.out)
    if recipe.teacher:
        return adopt_teachers(recipe.teacher, out, splits.train.labels)
    return [teach(splits.train, splits.val, recipe.teach, out / "teacher")]


def _is_main_process() -> bool:
    from compress.gather import process_state

    return process_state().is_main_process


def _export(student: Bundle, splits: Splits, recipe: Recipe, out: Path) -> Bundle:
    from compress.checkpoint import load_model
    from deploy.export import export_onnx

    val, wanted = splits.val, recipe.decisions
    return export_onnx(
        load_model(student.path),
        splits.test,
        out / "onnx-fp32",
        parent=student.as_parent,
        identity=inputs_hash(
            {"weights": student.digest, "decisions": wanted.model_dump(), "val": val.fingerprint()},
        ),
        decisions=lambda logits: fit_decisions(logits(val), val, wanted.thresholds, wanted.probabilities),
    )


def _header(recipe: Recipe, splits: Splits, teachers: list[Bundle], student: Bundle) -> dict[str, Any]:
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
        "bench": recipe.bench.model_dump(),
        "budgets_points": DROP_BUDGET,
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


def _torch_row(
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
    if key in earlier:
        return earlier[key]
    log.info("timing the %s in torch", role)
    row: dict[str, Any] = {"key": key, "engine": f"{role} (torch)", "precision": "fp32", "size_bytes": _weights(bundle)}
    if role == "student":
        reference = Reference.load(onnx.path / REFERENCE)
        row["mAP"] = mean_average_precision(test.targets, reference.logits, test.ignore)
    else:
        from deploy.engines import open_engine
        from deploy.verify import predict_split

        with open_engine(bundle) as engine:
            row["mAP"] = mean_average_precision(test.targets, predict_split(engine, test), test.ignore)
    return {**row, **_timings(bundle, recipe, pictures), "verdict": "reference" if role == "student" else "teacher"}


def _engine_row(
    bundle: Bundle, test: MultiLabelDataset, recipe: Recipe, pictures: list[bytes], earlier: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    key = _key(bundle, test, recipe)
    if key in earlier and earlier[key]["verdict"] in ("pass", "fail"):
        return earlier[key]
    row: dict[str, Any] = {"key": key, "size_bytes": bundle.size_bytes, "digest": bundle.digest}
    try:
        started = time.perf_counter()
        result = verify(bundle, test)
        log.info("verified %s on %d pictures in %.1f s", bundle.name, len(test), time.perf_counter() - started)
        row |= {name: value for name, value in result.as_dict().items() if name != "engine"}
        slower = gate(bundle)
        if slower is not None:
            row |= {"verdict": "fail", "reasons": [*row["reasons"], slower]}
        if result.mAP is not None and result.logits is not None:
            decisions = bundle.decisions.ordered(test.labels.names)
            row["decisions"] = measure_decisions(decisions, result.logits, test)
            write_decision_plots(bundle, decisions, result.logits, decisions.probabilities(result.logits), test)
        row |= _timings(bundle, recipe, pictures)
    except EngineUnavailableError as error:
        row |= {"verdict": "not run", "reasons": [str(error)]}
    except InputError as error:  # its runtime refuses the model: that engine fails, the others go on
        row |= {"verdict": "fail", "reasons": [str(error)]}
    return row


def _timings(bundle: Bundle, recipe: Recipe, pictures: list[bytes]) -> dict[str, Any]:
    """The model's own latency at the top of a row, everything else beside it."""
    result = bench(bundle, pictures, batch=recipe.bench.batch, seconds=recipe.bench.seconds).as_dict()
    return {**result["model"], "bench": {key: value for key, value in result.items() if key != "machine"}}


def _weights(bundle: Bundle) -> int:
    return bundle.model_path.stat().st_size


def _key(bundle: Bundle, test: MultiLabelDataset, recipe: Recipe) -> str:
    """A measurement is kept while the engine, the pictures, the machine and the way of measuring are the same."""
    return inputs_hash(
        {
            "bundle": bundle.digest,
            "test": test.fingerprint(),
            "bench": recipe.bench.model_dump(),
            "machine": describe_machine(),
            "budgets": [DROP_BUDGET, DIFF_BUDGET, FLIP_BUDGET],
            "runtimes": installed(),
        }
    )


def _verdict(rows: list[dict[str, Any]], recipe: Recipe) -> str:
    """With `required`, those must all pass; without, everything that this machine can run must, and something must."""
    required = {folder_of(engine, recipe.compile) for engine in recipe.required}
    if required:
        return "pass" if required <= {row["engine"] for row in rows if row["verdict"] == "pass"} else "fail"
    verdicts = {row["verdict"] for row in rows}
    return "pass" if "pass" in verdicts and "fail" not in verdicts else "fail"
