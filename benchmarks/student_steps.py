"""The steps of `benchmarks/students.py`: what is measured of one backbone in each runtime, and how."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from edgepress.deploy.bench.against import median_interval
from edgepress.deploy.engines import Engine, open_engine
from edgepress.multilabel.bundle import Bundle, inputs_hash, write_bundle
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.manifest import Kind
from edgepress.multilabel.noise import decibels, signal_to_noise

SIZE = 96
CALIBRATED, JUDGED, FITTED = 16, 16, 32
"""Pictures on which ranges are measured, noise is measured, and norms are fitted."""
PAIRS = 11
BLOCK_SECONDS = 0.008


def onnx(name: str, folder: Path, data: MultiLabelDataset) -> dict[str, Any]:
    """Export, equality with torch at batches of 1 to 5, and ONNX Runtime's INT8."""
    from edgepress.calibration.int8.qdq import OnnxQuantizer
    from edgepress.compress.models import fuse

    pixels = pictures(data)
    model = student(name, data, pixels)
    parent = export(model, folder, data)
    found: dict[str, Any] = {
        "parameters": sum(one.numel() for one in fuse(model).parameters()),
        "backbone_parameters": sum(one.numel() for one in fuse(model).backbone.parameters()),
        "apart": apart_from_torch(model, parent, pixels),
        "fp32_bytes": parent.size_bytes,
    }
    try:
        quantizer = OnnxQuantizer(parent.model_path, scratch(folder), pixels[:CALIBRATED], "onnxruntime")
        found["macs"] = int(sum(quantizer.macs.values()))
        quantizer.write(folder / "int8.onnx", "min-max")
        left = quantizer.float_nodes(folder / "int8.onnx", quantizer.products)
        found["int8_macs"] = round(1 - sum(quantizer.macs[one] for one in left) / sum(quantizer.macs.values()), 3)
    except Exception as error:  # ONNX Runtime's quantiser raises types of its own
        with open_engine(parent, threads=1, unproven=True) as engine:
            found["fp32_ms"] = in_turns(engine, engine, pixels)["first_ms"]
        return {**found, "int8_error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
    quantized = as_bundle(folder / "int8.onnx", parent, "onnx", "model.onnx")
    return {**found, **both(quantized, parent, parent, pixels, same=True)}


def student(name: str, data: MultiLabelDataset, pixels: np.ndarray) -> Any:
    """The untrained student of a backbone, the same in every process."""
    import torch

    from edgepress.compress.config import ModelConfig
    from edgepress.compress.untrained import make_untrained

    torch.set_num_threads(1)
    config = ModelConfig.parse({"backbone": name, "size": SIZE, "weights": "none"}, "students")
    return make_untrained(config, data.labels, pixels[:FITTED])


def export(model: Any, folder: Path, data: MultiLabelDataset) -> Bundle:
    from edgepress.deploy.build.export import export_onnx

    folder.mkdir(exist_ok=True)
    identity = inputs_hash(model.config.model_dump())
    return export_onnx(model, data.subset(np.arange(8)), folder / "onnx-fp32", identity=identity)


def parent_of(name: str, folder: Path, data: MultiLabelDataset, pixels: np.ndarray) -> Bundle:
    """The ONNX bundle of a backbone; a folder that the table's figures are not from has none yet."""
    made = folder / "onnx-fp32"
    return Bundle.open(made) if made.is_dir() else export(student(name, data, pixels), folder, data)


def apart_from_torch(model: Any, parent: Bundle, pixels: np.ndarray) -> float:
    """The largest difference of a logit at batches of 1 to 5, as a share of the largest logit or of 1."""
    expected, worst = model.answer(pixels[-5:]), 0.0
    with open_engine(parent, threads=1, unproven=True) as engine:
        for batch in range(1, 6):
            worst = max(worst, float(np.abs(engine(pixels[-5:][:batch]) - expected[:batch]).max()))
    return float(f"{worst / max(1.0, float(np.abs(expected).max())):.2g}")


def openvino(name: str, folder: Path, data: MultiLabelDataset) -> dict[str, Any]:
    """OpenVINO's engines."""
    from edgepress.calibration.int8.openvino import OpenVinoQuantizer
    from edgepress.deploy.build.compile import compile_openvino

    pixels = pictures(data)
    parent = parent_of(name, folder, data, pixels)
    floats = compile_openvino(parent, folder / "openvino-fp32", "fp32")
    quantizer = OpenVinoQuantizer(parent.model_path, pixels[:CALIBRATED])
    quantizer.write(folder / "model.xml", "nncf")
    quantized = as_bundle(folder / "model.xml", parent, "openvino", "model.xml")
    return both(quantized, floats, parent, pixels)


def litert(name: str, folder: Path, data: MultiLabelDataset) -> dict[str, Any]:
    """LiteRT's engines."""
    from edgepress.calibration.int8.litert import LiteRtQuantizer

    pixels = pictures(data)
    parent = parent_of(name, folder, data, pixels)
    quantizer = LiteRtQuantizer(parent.model_path, pixels[:CALIBRATED])
    (folder / "fp32.tflite").write_bytes(quantizer.float_model)
    quantizer.write(folder / "int8.tflite", "min-max")
    floats = as_bundle(folder / "fp32.tflite", parent, "litert", "model.tflite", "fp32")
    quantized = as_bundle(folder / "int8.tflite", parent, "litert", "model.tflite")
    return both(quantized, floats, parent, pixels)


def ncnn(name: str, folder: Path, data: MultiLabelDataset) -> dict[str, Any]:
    """ncnn's engine, which is in float."""
    from edgepress.deploy.build.ncnn import compile_ncnn

    pixels = pictures(data)
    parent = parent_of(name, folder, data, pixels)
    floats = compile_ncnn(parent, folder / "ncnn-fp32", "fp32")
    with open_engine(floats, threads=1, unproven=True) as engine, open_engine(parent, threads=1) as base:
        timed = in_turns(engine, base, pixels)
    return {"fp32_of_onnx": timed["ratio"], "fp32_bytes": floats.size_bytes}


MEASURE = {"onnx": onnx, "openvino": openvino, "litert": litert, "ncnn": ncnn}


def pictures(data: MultiLabelDataset) -> np.ndarray:
    """The data set's first pictures `[N, SIZE, SIZE, 3]`, prepared as a student sees them."""
    from edgepress.multilabel.preprocess import Preprocess

    seen = Preprocess(size=SIZE)
    count = max(FITTED, CALIBRATED + JUDGED)
    return np.stack([seen(data.picture(row)) for row in range(count)])


def scratch(folder: Path) -> Path:
    made = folder / "scratch"
    made.mkdir(exist_ok=True)
    return made


def as_bundle(file: Path, parent: Bundle, kind: Kind, model: str, precision: Any = "int8") -> Bundle:
    """A model file (in OpenVINO's format two) as the bundle that an engine opens."""
    out = file.parent / f"{kind}-{precision}"
    fields = {"labels": parent.manifest.labels, "preprocess": parent.preprocess}
    with write_bundle(out, kind=kind, precision=precision, model=model, **fields) as folder:
        for suffix in (".xml", ".bin") if kind == "openvino" else (file.suffix,):
            file.with_suffix(suffix).replace((folder / model).with_suffix(suffix))
    return Bundle.open(out)


def both(
    quantized: Bundle, floats: Bundle, parent: Bundle, pixels: np.ndarray, *, same: bool = False
) -> dict[str, Any]:
    """A runtime's INT8 against its fp32, and its fp32 against ONNX Runtime's unless it is the `same`."""
    with ExitStack() as stack:
        int8, fp32 = (stack.enter_context(open_engine(one, threads=1, unproven=True)) for one in (quantized, floats))
        found: dict[str, Any] = noise(int8, fp32, pixels[-JUDGED:])
        timed = in_turns(int8, fp32, pixels)
        found |= {"int8_of_fp32": timed["ratio"], "int8_bytes": quantized.size_bytes, "fp32_bytes": floats.size_bytes}
        if same:
            found["fp32_ms"] = timed["second_ms"]
        else:
            base = stack.enter_context(open_engine(parent, threads=1, unproven=True))
            found["fp32_of_onnx"] = in_turns(fp32, base, pixels)["ratio"]
    return found


def noise(quantized: Engine, floats: Engine, pixels: np.ndarray) -> dict[str, float]:
    """Signal to noise of INT8's logits in dB, as `quantize` gives it and of what differs between pictures alone."""
    reference, computed = floats(pixels), quantized(pixels)
    differing = float(np.square(reference - reference.mean(axis=0), dtype=np.float64).sum())
    error = float(np.square(computed - reference, dtype=np.float64).sum())
    return {
        "sqnr": round(signal_to_noise(reference, computed), 1),
        "sqnr_differing": round(decibels(differing, error), 1),
    }


def in_turns(first: Engine, second: Engine, pixels: np.ndarray) -> dict[str, Any]:
    """The first engine's time over the second's, its 95 % interval over pairs of blocks, and both in milliseconds.

    The ratio is of the quickest calls, because other work on the machine only ever adds to a call.
    """
    at = 0

    def block(engine: Engine) -> float:
        nonlocal at
        samples: list[float] = []
        began = time.process_time()
        while len(samples) < 4 or time.process_time() - began < BLOCK_SECONDS:
            before = time.process_time()
            engine(pixels[at % len(pixels)][None])
            samples.append(time.process_time() - before)
            at += 1
        return min(samples[1:])

    for _ in range(2):
        block(first)
        block(second)
    times = []
    for number in range(PAIRS):
        if number % 2:
            times.append((block(first), block(second)))
        else:
            times.append((block(second), block(first))[::-1])
    ratios = np.sort([one / other for one, other in times])
    low, high = median_interval(PAIRS)
    quickest = [min(taken) for taken in zip(*times, strict=True)]
    return {
        "ratio": [round(float(value), 3) for value in (quickest[0] / quickest[1], ratios[low], ratios[high])],
        "first_ms": round(1e3 * quickest[0], 3),
        "second_ms": round(1e3 * quickest[1], 3),
    }
