"""INT8 side by side: the runtimes' own defaults and edgepress, on test, each against fp32 of the same runtime.

    .venv/bin/python benchmarks/int8.py DATA STUDENT... --out OUT [--teacher TEACHER --cache CACHE]

Each STUDENT is a bundle of kind torch (of `distill`, `finetune` or `teach`). Rows: ONNX Runtime's `quantize_static` as
it comes, NNCF's `quantize` as it comes but for the head's last product (in INT8 OpenVINO refuses to compile it),
`edgepress quantize` for both, and with --teacher (unless it is the student) the same after `edgepress finetune`, its
drop from the student that was not fine-tuned. All calibrate on the same 256
training pictures; edgepress chooses on val, where the thresholds are fitted as well. The drop of test mAP has a paired
bootstrap interval (pictures resampled, 95 %); latency is at batch 1, in turns with fp32; `verdict` is that of `verify`
on test, with what its gate on decisions measured. Prints a JSON object per row; one whose fp32 is under one and a half
times what random scores reach is `undertrained`.
"""

from __future__ import annotations

import argparse
import json
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from edgepress.calibration.int8.openvino import OpenVinoQuantizer
from edgepress.compress.config import QuantizeAwareConfig
from edgepress.deploy.bench.against import compare_latency
from edgepress.deploy.build.compile import IR, ONNX, compile_openvino, derived_bundle
from edgepress.deploy.engines import open_engine
from edgepress.deploy.verify.verification import predict_split, verify
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.confidence import Scored, drop_interval
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.datasets.options import DataOptions
from edgepress.multilabel.decisions import changed_share
from edgepress.multilabel.errors import EngineUnavailableError, InputError
from edgepress.multilabel.metrics import mean_average_precision, prevalence
from edgepress.multilabel.noise import signal_to_noise
from edgepress.run.build import calibrate_bundle, export_student
from edgepress.run.quantize import quantize_bundle
from edgepress.run.recipe import DecisionsConfig, QuantizeConfig
from edgepress.run.splits import Splits, load_splits

UNDERTRAINED = 1.5
"""Multiple of prevalence under which a student's mAP says little of INT8."""


def main() -> None:
    """Quantise every student in every way and print the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("students", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--teacher", type=Path)
    parser.add_argument("--cache", type=Path, help="the teacher's outputs, as `edgepress compare` keeps them")
    parser.add_argument("--time-limit", type=float, default=60)
    options = parser.parse_args()
    splits = load_splits(str(options.data), "train", "val", "test", DataOptions())
    for student in options.students:
        name = backbone_of(student)
        folder = options.out / name
        onnx = exported(student, splits, folder / "onnx-fp32")
        ways = [made(onnx, splits, folder, options.time_limit)]
        if options.teacher is not None and options.teacher.resolve() != student.resolve():
            ways.append(finetuned(student, splits, folder, options))
        for int8, runtime, bundle in chain(*ways):
            try:
                found = row(int8, runtime, bundle, onnx, folder, splits)
            except (InputError, EngineUnavailableError) as error:
                # A default may give a graph that its own runtime refuses, or that the golden check does.
                found = {"runtime": runtime, "int8": int8, "refused": str(error).split(": ", 1)[1][:120]}
            print(json.dumps({"student": name, **found}), flush=True)


def exported(student: Path, splits: Splits, out: Path) -> Bundle:
    """A student's fp32 ONNX, with thresholds fitted on val."""
    onnx = export_student(student, None, None, {}, splits.test, out)
    return calibrate_bundle(onnx, splits.val, out.with_name(f"{out.name}-fitted"), DecisionsConfig())[0]


def backbone_of(student: Path) -> str:
    """The name of a student's backbone."""
    architecture = Bundle.open(student, kind="torch").manifest.architecture
    assert architecture is not None
    return architecture.backbone


def made(onnx: Bundle, splits: Splits, folder: Path, time_limit: float):
    """Name, runtime and INT8 bundle, one way after the other."""
    config = QuantizeConfig(time_limit=time_limit)
    ours = quantize_bundle(onnx, splits, "onnxruntime", folder / "ours-onnxruntime", config)
    openvino = quantize_bundle(onnx, splits, "openvino", folder / "ours-openvino", config)
    pictures = calibration_pictures(onnx, splits, config)
    yield "onnxruntime default", "onnxruntime", by_onnxruntime(onnx, folder / "default-onnxruntime", pictures)
    yield "edgepress", "onnxruntime", ours
    yield "nncf default", "openvino", by_nncf(onnx, folder / "default-openvino", pictures)
    yield "edgepress", "openvino", openvino


def finetuned(student: Path, splits: Splits, folder: Path, options: argparse.Namespace):
    """As `made`, of the student fine-tuned as INT8 computes."""
    from edgepress.compress.quantize_aware import quantize_aware

    start, teacher = Bundle.open(student, kind="torch"), Bundle.open(options.teacher, kind="torch")
    settings, out = QuantizeAwareConfig(), folder / "finetuned"
    quantize_aware(splits.train, splits.val, teacher, start, settings, out, cache=options.cache)
    onnx = exported(out, splits, folder / "onnx-fp32-finetuned")
    config = QuantizeConfig(time_limit=options.time_limit)
    for runtime in ("onnxruntime", "openvino"):
        made = quantize_bundle(onnx, splits, runtime, folder / f"finetuned-{runtime}", config)
        yield "edgepress, fine-tuned", runtime, made


def calibration_pictures(onnx: Bundle, splits: Splits, config: QuantizeConfig) -> np.ndarray:
    """The pixels that edgepress calibrates on, uint8 `[N, size, size, 3]`."""
    from edgepress.calibration.int8.subset import choose_calibration_set

    chosen = choose_calibration_set(splits.train, [splits.val, splits.test], config.pictures, config.seed)
    return np.stack([onnx.preprocess.load(splits.train.paths[place]) for place in chosen])


def by_onnxruntime(onnx: Bundle, out: Path, pictures: np.ndarray) -> Bundle:
    """`quantize_static` with its own defaults, on the graph that its own preparation makes."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.feeds = iter([{"images": picture[None]} for picture in pictures])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.feeds, None)

    with derived_bundle(onnx, out, kind="onnx", precision="int8", model=ONNX) as folder:
        prepared = out.with_name(f"{out.name}-prepared.onnx")
        quant_pre_process(str(onnx.model_path), str(prepared), skip_symbolic_shape=True)
        quantize_static(str(prepared), str(folder / ONNX), Reader())
        prepared.unlink()
    return Bundle.open(out)


def by_nncf(onnx: Bundle, out: Path, pictures: np.ndarray) -> Bundle:
    """`nncf.quantize` with its own defaults, around what OpenVINO can compile."""
    import nncf
    import openvino as ov

    with derived_bundle(onnx, out, kind="openvino", precision="int8", model=IR) as folder:
        dataset = nncf.Dataset([picture[None] for picture in pictures])  # its progress goes to stdout, between rows
        float_anyway = nncf.IgnoredScope(names=OpenVinoQuantizer(onnx.model_path, pictures).always_float)
        model = ov.convert_model(str(onnx.model_path))
        ov.save_model(nncf.quantize(model, dataset, ignored_scope=float_anyway), str(folder / IR), False)
    return Bundle.open(out)


def row(name: str, runtime: str, bundle: Bundle, onnx: Bundle, folder: Path, splits: Splits) -> dict[str, Any]:
    """What an INT8 bundle costs on test, and how fast it is."""
    test = splits.test
    base = onnx if runtime == "onnxruntime" else compile_openvino(onnx, folder / "openvino-fp32", "fp32")
    before, after = logits(base, test), logits(bundle, test)
    interval = drop_interval(*(Scored(test.targets, values, test.ignore) for values in (before, after)))
    pixels = np.stack([onnx.preprocess.load(path) for path in test.paths[:64]])
    latency = compare_latency(bundle, base, pixels)
    decisions = onnx.decisions
    theirs, own = decisions.decide(before), bundle.decisions.decide(after)
    chance = prevalence(test.targets, test.ignore)
    maps = [mean_average_precision(test.targets, values, test.ignore) for values in (before, after)]
    return {
        "runtime": runtime,
        "int8": name,
        "size": onnx.preprocess.size,
        "prevalence": round(100 * chance, 2),
        "undertrained": maps[0] < UNDERTRAINED * chance,
        "fp32_mAP": round(100 * maps[0], 2),
        "mAP": round(100 * maps[1], 2),
        "drop": round(100 * (maps[0] - maps[1]), 2),
        "drop_95": interval and [round(value, 2) for value in interval],
        "decisions_changed_percent": round(100 * changed_share(theirs, own, test.ignore), 2),
        "sqnr_db": round(signal_to_noise(before, after), 1),
        "latency": [value and round(value, 3) for value in (latency.ratio, latency.low, latency.high)],
        "method": bundle.manifest.calibration.method if bundle.manifest.calibration else None,
        "kept_float": len(bundle.manifest.calibration.kept_float) if bundle.manifest.calibration else None,
        **judged(bundle, test),
    }


def judged(bundle: Bundle, test: MultiLabelDataset) -> dict[str, Any]:
    """The verdict of `verify` on test, why, and what decisions lost: each with its 95 % interval."""
    found = verify(bundle, test)
    assert found.gate is not None
    gate = {name: getattr(found.gate, name) for name in ("flips", "net_flips", "OF1_drop", "CF1_drop")}
    return {
        "verdict": found.judgement.verdict,
        "reasons": [str(reason) for reason in found.judgement.reasons],
        "gate": {name: [round(value, 4) for value in (one.value, one.low, one.high)] for name, one in gate.items()},
    }


def logits(bundle: Bundle, data: MultiLabelDataset) -> np.ndarray:
    """An engine's logits on a split."""
    with open_engine(bundle) as engine:
        return predict_split(engine, data)


if __name__ == "__main__":
    main()
