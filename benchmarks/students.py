"""Measures the table of students that `edgepress students` reads: mobile backbones of timm without weights, each as a
student with the default head, in every runtime of this processor.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.students DATA --into FOLDER
    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.students DATA --into FOLDER --write edgepress/run/students.jsonl

The first measures what FOLDER does not have yet and may be interrupted at any time; `--only onnx,openvino` limits it to
some steps, `--names a,b` to some backbones. The second writes the table from what FOLDER has; a step that was not
measured is null in it. Each backbone is measured in a process of its own, because converters crash.

Which backbones: timm's models of the families below with at most `MOST_PARAMETERS` without a classifier and
`MOST_MACS` at 224 px (or at their own size if it is fixed), without those that are the same network as another one.
Times are of the processor, which other processes lengthen less than the clock's, of one thread, at batch 1; ratios are
taken in turns (A B B A). Signal to noise is that of the plain graph: the logits' part that differs between pictures,
against INT8's error, on pictures that its ranges were not measured on. Weights are random, and norms are fitted to
pictures, because with fresh norms activations vanish with depth.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import signal
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timezone
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edgepress.deploy.bench.against import median_interval
from edgepress.deploy.engines import Engine, open_engine
from edgepress.deploy.machine.processor import machine_key, processor
from edgepress.multilabel.bundle import Bundle, inputs_hash, write_bundle
from edgepress.multilabel.datasets import MultiLabelDataset, load_dataset
from edgepress.multilabel.errors import EngineUnavailableError, InputError
from edgepress.multilabel.manifest import Kind
from edgepress.multilabel.noise import decibels, signal_to_noise

FAMILIES = (
    *("mobilenetv1", "mobilenetv2", "mobilenetv3", "tf_mobilenetv3", "mobilenetv4", "mobilenet_edgetpu"),
    *("efficientnet_lite", "tf_efficientnet_lite", "efficientnet_es", "tf_efficientnet_es", "efficientnet_b"),
    *("tf_efficientnet_b", "tf_efficientnetv2", "tinynet", "mnasnet", "semnasnet", "spnasnet", "fbnet"),
    *("hardcorenas", "mixnet", "tf_mixnet", "lcnet", "lcnetv2", "ghostnet", "ghostnetv2", "ghostnetv3"),
    *("repghostnet", "repvit", "repvgg", "fastvit", "mobileone", "edgenext", "mobilevit", "mobilevitv2"),
    *("efficientformer", "efficientformerv2", "efficientvit", "efficientvim", "levit", "regnetx", "regnety"),
    *("regnetz", "resnet", "rexnet", "rexnetr", "starnet", "shvit", "convnext", "convnextv2", "fasternet"),
    *("swiftformer", "hgnetv2", "inception_next", "iformer", "cpubone", "cspnext", "ese_vovnet19b", "gernet"),
    *("pvt_v2", "tiny_vit", "mambaout"),
)
MOST_PARAMETERS, MOST_MACS = 10e6, 1.2e9
SAME = ("_dist", "_distilled", "efficientnet_es_pruned", "repvit_m1", "repvit_m2", "mobilenetv3_rw", "_evos")
"""Endings of names whose network computes what another one does, or trains differently alone."""
SIZE = 96
CALIBRATED, JUDGED, FITTED = 16, 16, 32
"""Pictures on which ranges are measured, noise is measured, and norms are fitted."""
PAIRS = 11
BLOCK_SECONDS = 0.008
MOST_SECONDS = 1200
"""Time that a step may take."""
MOST_BYTES = 8 << 30
_BROKEN = 3
"""Exit code of a process that cannot import what it measures with."""
STEPS = ("onnx", "openvino", "litert", "ncnn")
INSTRUCTIONS = ("avx2", "avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm")
"""Those of a processor that INT8 is fast or slow by."""
TOOLS = (
    *("timm", "torch", "onnx", "onnxscript", "onnxruntime", "openvino", "nncf", "onnx2tf", "litert-quantizer"),
    *("ai-edge-litert", "pnnx", "ncnn"),
)


def main() -> None:
    """Measure what is missing, or write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="a data set; the sample's pictures serve")
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--only", default=",".join(STEPS))
    parser.add_argument("--names", default="")
    parser.add_argument("--write", type=Path, help="write the table from what was measured, and measure nothing")
    options = parser.parse_args()
    options.into.mkdir(parents=True, exist_ok=True)
    names = options.names.split(",") if options.names else chosen(options.into)
    data = load_dataset(options.data, "train")
    if options.write is not None:
        write(options.into, names, len(data.labels), options.write)
        return
    if "onnx" in options.only:
        warm()

    for step in options.only.split(","):
        for name in names:
            if (options.into / name / f"{step}.json").is_file():
                continue
            if step != "onnx" and "error" in (read(options.into / name / "onnx.json") or {"error": "not yet"}):
                continue
            began = time.monotonic()
            found = apart(partial(MEASURE[step], name, options.into / name, data))
            found["step_seconds"] = round(time.monotonic() - began, 1)
            file = options.into / name / f"{step}.json"
            file.with_suffix(".part").write_text(json.dumps(found))
            file.with_suffix(".part").replace(file)
            print(json.dumps({"name": name, "step": step, **found}), flush=True)


def warm() -> None:
    """Import what an export needs and fill its caches, once for all the processes, which are forks of this one."""
    import gc

    import torch

    import edgepress.compress.untrained
    import edgepress.deploy.build.export  # noqa: F401
    from edgepress.deploy.build.traced import traced

    torch.set_num_threads(1)
    traced(torch.nn.Conv2d(3, 4, 3).eval(), torch.zeros(2, 3, 8, 8), ["y"], "a convolution")
    gc.freeze()


def write(into: Path, names: list[str], labels: int, out: Path) -> None:
    """Write the table: a header, and a row per backbone that was tried."""
    found = {name: {step: read(into / name / f"{step}.json") for step in STEPS} for name in names}
    rows = [row(name, steps) for name, steps in sorted(found.items()) if steps["onnx"] is not None]
    days = sorted(
        datetime.fromtimestamp((into / one["name"] / "onnx.json").stat().st_mtime, timezone.utc).date().isoformat()
        for one in rows
    )
    flags = machine_key().instructions.split()
    header = {
        "measured": " to ".join(dict.fromkeys((days[0], days[-1]))),
        "processor": processor(),
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "size": SIZE,
        "labels": labels,
        "tools": {name: version(name) for name in TOOLS},
    }
    out.write_text("".join(json.dumps(line) + "\n" for line in (header, *rows)), encoding="utf-8")
    print(json.dumps({step: sum(steps[step] is not None for steps in found.values()) for step in STEPS}))


def row(name: str, steps: dict[str, dict[str, Any] | None]) -> dict[str, Any]:
    """A line of the table; see `StudentFacts`."""
    base = steps["onnx"]
    assert base is not None
    about: dict[str, Any] = {"name": name, "family": family_of(name)}
    if "error" in base:
        return {**about, "error": brief(base["error"])}
    facts: dict[str, Any] = {key: base[key] for key in ("parameters", "macs", "apart", "fp32_ms") if key in base}
    runtimes = {step: None if found is None else runtime_facts(found) for step, found in steps.items()}
    return {**about, **facts, "runtimes": runtimes}


def runtime_facts(found: dict[str, Any]) -> dict[str, Any]:
    """What a step found; see `RuntimeFacts`."""
    if "error" in found:
        return {"error": brief(found["error"])}
    kept: dict[str, Any] = {key: found[key] for key in ("fp32_bytes", "int8_bytes", "sqnr") if key in found}
    for key in ("fp32_of_onnx", "int8_of_fp32"):
        if key in found:
            kept[key] = dict(zip(("ratio", "low", "high"), found[key], strict=True))
    return kept | ({"int8_error": brief(found["int8_error"])} if "int8_error" in found else {})


def brief(error: str) -> str:
    """An error without the path of the file that it is about."""
    return re.sub(r"(^|(?<=\s))/\S*/", "", error).removeprefix("model.onnx: ")[:200]


def read(file: Path) -> dict[str, Any] | None:
    return json.loads(file.read_text()) if file.is_file() else None


def family_of(name: str) -> str | None:
    """The longest of the families that a name begins with."""
    return max((one for one in FAMILIES if name.startswith(one)), key=len, default=None)


def chosen(into: Path) -> list[str]:
    """The backbones by the rule above, the smallest of every family first."""
    kept = into / "chosen.json"
    if not kept.is_file():
        kept.write_text(json.dumps(list(sized())))
    by_family: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for name, parameters, macs in json.loads(kept.read_text()):
        if parameters <= MOST_PARAMETERS and macs <= MOST_MACS and not name.endswith(SAME):
            by_family[str(family_of(name))].append((macs, name))
    places = [
        (place, family, name) for family, found in by_family.items() for place, (_, name) in enumerate(sorted(found))
    ]
    return [name for _, _, name in sorted(places)]


def sized() -> Iterator[tuple[str, float, float]]:
    """Names of the families, with their parameters and multiply-adds; nothing is computed on torch's meta device."""
    import timm
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    for name in timm.list_models():
        if family_of(name) is None:
            continue
        with torch.device("meta"):
            model = timm.create_model(name, num_classes=0).eval()
        parameters = sum(one.numel() for one in model.parameters())
        if parameters > MOST_PARAMETERS:
            continue
        fixed = model.default_cfg["input_size"][-1] if model.default_cfg.get("fixed_input_size") else 224
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.forward_features(torch.zeros(1, 3, fixed, fixed, device="meta"))
        yield name, parameters, counter.get_total_flops() / 2


def apart(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a measurement gives, or why it fails; a fork of this process runs it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        signal.alarm(MOST_SECONDS)  # not RLIMIT_CPU: under it Linux counts the processor's time in ticks of 4 ms
        resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
        try:
            found = measure()
        except (InputError, EngineUnavailableError) as error:
            found = {"error": str(error)}
        except ImportError:  # of what measures, not of what is measured
            traceback.print_exc()
            os._exit(_BROKEN)
        except Exception as error:  # whatever a converter raises is a result of this benchmark
            traceback.print_exc()
            found = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        with os.fdopen(writing, "w") as pipe:
            pipe.write(json.dumps(found))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) == _BROKEN:
        raise SystemExit("a module cannot be imported: nothing was recorded")
    if said:
        return json.loads(said)
    return {"error": f"ended by {signal.Signals(os.WTERMSIG(status)).name}"}


def onnx(name: str, folder: Path, data: MultiLabelDataset) -> dict[str, Any]:
    """Export, equality with torch at batches of 1 to 5, and ONNX Runtime's INT8."""
    import torch

    from edgepress.calibration.int8.qdq import OnnxQuantizer
    from edgepress.compress.config import ModelConfig
    from edgepress.compress.models import fuse
    from edgepress.compress.untrained import make_untrained
    from edgepress.deploy.build.export import export_onnx

    torch.set_num_threads(1)
    folder.mkdir(exist_ok=True)
    config = ModelConfig.parse({"backbone": name, "size": SIZE, "weights": "none"}, "students")
    pixels = pictures(data)
    model = make_untrained(config, data.labels, pixels[:FITTED])
    identity = inputs_hash(config.model_dump())
    parent = export_onnx(model, data.subset(np.arange(8)), folder / "onnx-fp32", identity=identity)
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

    parent, pixels = Bundle.open(folder / "onnx-fp32"), pictures(data)
    floats = compile_openvino(parent, folder / "openvino-fp32", "fp32")
    quantizer = OpenVinoQuantizer(parent.model_path, pixels[:CALIBRATED])
    quantizer.write(folder / "model.xml", "nncf")
    quantized = as_bundle(folder / "model.xml", parent, "openvino", "model.xml")
    return both(quantized, floats, parent, pixels)


def litert(name: str, folder: Path, data: MultiLabelDataset) -> dict[str, Any]:
    """LiteRT's engines."""
    from edgepress.calibration.int8.litert import LiteRtQuantizer

    parent, pixels = Bundle.open(folder / "onnx-fp32"), pictures(data)
    quantizer = LiteRtQuantizer(parent.model_path, pixels[:CALIBRATED])
    (folder / "fp32.tflite").write_bytes(quantizer.float_model)
    quantizer.write(folder / "int8.tflite", "min-max")
    floats = as_bundle(folder / "fp32.tflite", parent, "litert", "model.tflite", "fp32")
    quantized = as_bundle(folder / "int8.tflite", parent, "litert", "model.tflite")
    return both(quantized, floats, parent, pixels)


def ncnn(name: str, folder: Path, data: MultiLabelDataset) -> dict[str, Any]:
    """ncnn's engine, which is in float."""
    from edgepress.deploy.build.ncnn import compile_ncnn

    parent, pixels = Bundle.open(folder / "onnx-fp32"), pictures(data)
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


if __name__ == "__main__":
    main()
