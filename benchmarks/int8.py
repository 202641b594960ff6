"""INT8 side by side: the runtimes' own defaults and edgepress, on test, each against fp32 of the same runtime.

    .venv/bin/python benchmarks/int8.py DATA STUDENT... --out OUT

Each STUDENT is a bundle of kind torch (of `distill`, `finetune` or `teach`). Rows: ONNX Runtime's `quantize_static` as
it comes, NNCF's `quantize` as it comes, and `edgepress quantize` for both. All calibrate on the same 256 training
pictures; edgepress chooses on val. The drop of test mAP has a paired bootstrap interval (pictures resampled, 95 %);
latency is at batch 1, in turns with fp32. Prints a JSON object a row.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from calibration.sensitivity import signal_to_noise
from deploy.compile import IR, ONNX, compile_openvino, derived_bundle
from deploy.engines import open_engine
from deploy.latency import compare_latency
from deploy.verify import predict_split
from edgepress.int8 import Splits, quantize_bundle
from edgepress.pipeline import load_splits
from edgepress.recipe import QuantizeConfig
from edgepress.stages import export_student
from multilabel.bundle import Bundle
from multilabel.datasets import MultiLabelDataset
from multilabel.decisions import changed_share
from multilabel.errors import InputError
from multilabel.metrics import mean_average_precision, prevalence

RESAMPLES = 200


def main() -> None:
    """Quantise every student in every way and print the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("students", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--time-limit", type=float, default=60)
    options = parser.parse_args()
    splits = load_splits(str(options.data), "train", "val", "test", format="auto", difficult="ignore")
    for student in options.students:
        folder = options.out / student.name
        onnx = export_student(student, None, None, {}, splits.test, folder / "onnx-fp32")
        for name, runtime, bundle in made(onnx, splits, folder, options.time_limit):
            try:
                found = row(name, runtime, bundle, onnx, folder, splits)
            except InputError as error:  # a default may give a graph that its own runtime refuses
                found = {"runtime": runtime, "int8": name, "refused": str(error).split(": ", 1)[1][:120]}
            print(json.dumps({"student": student.name, **found}), flush=True)


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


def calibration_pictures(onnx: Bundle, splits: Splits, config: QuantizeConfig) -> np.ndarray:
    """The pixels that edgepress calibrates on, uint8 `[N, size, size, 3]`."""
    from calibration.subset import choose_calibration_set

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

    with derived_bundle(onnx, out, kind="onnx", precision="int8", model=ONNX) as (folder, _):
        prepared = out.with_name(f"{out.name}-prepared.onnx")
        quant_pre_process(str(onnx.model_path), str(prepared), skip_symbolic_shape=True)
        quantize_static(str(prepared), str(folder / ONNX), Reader())
        prepared.unlink()
    return Bundle.open(out)


def by_nncf(onnx: Bundle, out: Path, pictures: np.ndarray) -> Bundle:
    """`nncf.quantize` with its own defaults."""
    import nncf
    import openvino as ov

    with derived_bundle(onnx, out, kind="openvino", precision="int8", model=IR) as (folder, _):
        dataset = nncf.Dataset([picture[None] for picture in pictures])  # its progress goes to stdout, between rows
        ov.save_model(nncf.quantize(ov.convert_model(str(onnx.model_path)), dataset), str(folder / IR), False)
    return Bundle.open(out)


def row(name: str, runtime: str, bundle: Bundle, onnx: Bundle, folder: Path, splits: Splits) -> dict[str, Any]:
    """What an INT8 bundle costs on test, and how fast it is."""
    test = splits.test
    base = onnx if runtime == "onnxruntime" else compile_openvino(onnx, folder / "openvino-fp32", "fp32")
    before, after = logits(base, test), logits(bundle, test)
    low, high = interval(test, before, after)
    pixels = np.stack([onnx.preprocess.load(path) for path in test.paths[:64]])
    latency = compare_latency(bundle, base, pixels)
    decisions = onnx.decisions
    theirs, own = decisions.decide(before), bundle.decisions.decide(after)
    maps = [mean_average_precision(test.targets, values, test.ignore) for values in (before, after)]
    return {
        "runtime": runtime,
        "int8": name,
        "size": onnx.preprocess.size,
        "prevalence": round(100 * prevalence(test.targets, test.ignore), 2),
        "fp32_mAP": round(100 * maps[0], 2),
        "mAP": round(100 * maps[1], 2),
        "drop": round(100 * (maps[0] - maps[1]), 2),
        "drop_95": [round(100 * low, 2), round(100 * high, 2)],
        "decisions_changed_percent": round(100 * changed_share(theirs, own, test.ignore), 2),
        "sqnr_db": round(signal_to_noise(before, after), 1),
        "latency": [round(value, 3) for value in (latency.ratio, latency.low, latency.high)],
        "method": bundle.manifest.calibration.method if bundle.manifest.calibration else None,
        "kept_float": len(bundle.manifest.calibration.kept_float) if bundle.manifest.calibration else None,
    }


def logits(bundle: Bundle, data: MultiLabelDataset) -> np.ndarray:
    """An engine's logits on a split."""
    with open_engine(bundle) as engine:
        return predict_split(engine, data)


def interval(data: MultiLabelDataset, before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """95 % of the drop of mAP over resampled pictures, both models on the same ones."""
    rng, drops = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        drawn = rng.integers(0, len(data), len(data))
        maps = [mean_average_precision(data.targets[drawn], x[drawn], data.ignore[drawn]) for x in (before, after)]
        drops.append(maps[0] - maps[1])
    low, high = np.percentile(drops, [2.5, 97.5])
    return float(low), float(high)


if __name__ == "__main__":
    main()
