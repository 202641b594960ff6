"""Our engines beside their runtimes' own tools, in turns, and the goals that `bench` is held to.

    .venv/bin/python benchmarks/bench_peers.py RUN [--threads 1] [--rounds 9] [--out FILE]

RUN is a finished run with onnx-fp32, onnx-int8-onnxruntime and openvino-fp32. Four things, each interleaved:
- peers: the model alone, ours against a bare ONNX Runtime session and a bare OpenVINO request, call by call, and
  against benchmark_app of OpenVINO (a process of its own) round by round; the same file, threads and hint;
- wrapper: what a call costs beyond the runtime, with a runtime that does nothing;
- end to end: JPEG bytes to logits against decoding and the model, each alone, call by call;
- batches: pictures decoded ahead in batches against batch 1 in a row, and what two threads gain here at all.
Times are in milliseconds: p50, p10 and min by the clock, cpu the median of the processor time of all threads. On a
disturbed machine the clock tells mostly of what disturbs it, and processor time what the calls themselves cost: with
--threads 1 nothing waits, so on a free machine the two are the same.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from edgepress import open_engine
from edgepress.deploy.bench.against import median_interval
from edgepress.deploy.bench.latency import generated_pictures, prepared
from edgepress.deploy.engines import Engine
from edgepress.deploy.engines.onnxruntime import OnnxRuntimeEngine
from edgepress.deploy.machine.device import describe_machine
from edgepress.deploy.machine.state import read_state, state_cautions
from edgepress.deploy.tag.ahead import decode_ahead
from edgepress.multilabel.bundle import Bundle, write_atomically

Call = Callable[[], object]


def main() -> None:
    """Measure everything and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    before = read_state()
    encoded = generated_pictures()
    record: dict[str, Any] = {
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": asdict(describe_machine()),
        "threads": options.threads,
        "peers": {},
        "end_to_end": {},
        "batches": {},
    }
    for name in ("onnx-fp32", "onnx-int8-onnxruntime", "openvino-fp32"):
        bundle = Bundle.open(options.run / name)
        pixels = np.stack([prepared(bundle, data) for data in encoded])
        with open_engine(bundle, threads=options.threads) as engine:
            record["peers"][name] = beside_bare(engine, bundle, pixels, options)
            record["end_to_end"][name] = end_to_end(engine, encoded, pixels, options.calls // 5)
            if bundle.manifest.kind == "openvino":
                record["peers"][f"{name}, benchmark_app"] = beside_benchmark_app(engine, bundle, pixels, options)
        record["batches"][name] = batches(bundle, encoded, options)
    record["wrapper_us"] = wrapper(Bundle.open(options.run / "onnx-fp32"))
    record["two_threads_decode"] = two_threads(Bundle.open(options.run / "onnx-fp32"), encoded, options.rounds)
    record["cautions"] = state_cautions(before, read_state())
    print(json.dumps(record, indent=2))
    if options.out is not None:
        write_atomically(options.out, (json.dumps(record, indent=2) + "\n").encode())


def beside_bare(engine: Engine, bundle: Bundle, pixels: np.ndarray, options: argparse.Namespace) -> dict[str, Any]:
    """Ours and a bare loop on the same file, call by call."""
    images = pixels[:1]
    bare = _bare(bundle, options.threads)
    ours, theirs = map(_summary, in_turn([lambda: engine(images), lambda: bare(images)], options.calls))
    return {
        "ours": ours,
        "bare": theirs,
        "ratio": {name: ours[name] / theirs[name] for name in ours},
        "overhead_us": {name: 1e3 * (ours[name] - theirs[name]) for name in ours},
    }


def beside_benchmark_app(
    engine: Engine, bundle: Bundle, pixels: np.ndarray, options: argparse.Namespace
) -> dict[str, Any]:
    """Ours and OpenVINO's benchmark_app, round by round: as many calls each, one after the other in a round."""
    images, rounds = pixels[:1], []
    for turn in range(options.rounds):
        pair: dict[str, tuple[float, float]] = {}
        for who in ("ours", "theirs") if turn % 2 == 0 else ("theirs", "ours"):
            if who == "theirs":
                pair[who] = _benchmark_app(bundle, options.threads, options.calls)
            else:
                samples = in_turn([lambda: engine(images)], options.calls)[0]
                summary = _summary(samples)
                pair[who] = (summary["p50"], summary["min"])
        rounds.append(pair)
    ratios = {
        name: [pair["ours"][at] / pair["theirs"][at] for pair in rounds] for at, name in enumerate(("p50", "min"))
    }
    low, high = median_interval(len(rounds))
    return {
        "rounds": len(rounds),
        "calls_a_round": options.calls,
        "ours_p50": statistics.median(pair["ours"][0] for pair in rounds),
        "benchmark_app_p50": statistics.median(pair["theirs"][0] for pair in rounds),
        **{f"ratio_{name}": statistics.median(values) for name, values in ratios.items()},
        **{f"ratio_{name}_95": [sorted(values)[low], sorted(values)[high]] for name, values in ratios.items()},
        "least_of_all": min(pair["ours"][1] for pair in rounds) / min(pair["theirs"][1] for pair in rounds),
    }


def end_to_end(engine: Engine, encoded: list[bytes], pixels: np.ndarray, calls: int) -> dict[str, Any]:
    """The whole way against its two parts, each alone, call by call on the same picture."""
    at = itertools.count()

    def each(work: Callable[[int], object]) -> Call:
        return lambda: work(next(at) // 3 % len(encoded))  # three calls a picture

    whole, decode, model = in_turn(
        [
            each(lambda n: engine(prepared(engine.bundle, encoded[n])[None])),
            each(lambda n: prepared(engine.bundle, encoded[n])),
            each(lambda n: engine(pixels[n : n + 1])),
        ],
        calls,
    )
    found = {"whole": _summary(whole), "decode": _summary(decode), "model": _summary(model)}
    parts = {name: found["decode"][name] + found["model"][name] for name in found["whole"]}
    return {**found, "ratio": {name: found["whole"][name] / parts[name] for name in parts}}


def batches(bundle: Bundle, encoded: list[bytes], options: argparse.Namespace) -> dict[str, Any]:
    """Pictures a second: batches decoded ahead (filling and emptying included) against batch 1 in a row, by turns.

    With one thread for the model, so that the other core decodes, and with as many as the runtime takes.
    """
    many, found = 4 * options.batch, {}
    for name, threads in (("model on 1 thread", 1), ("model on all", None)):
        with open_engine(bundle, threads=threads) as engine:

            def ahead(engine: Engine = engine) -> None:
                pictures = itertools.islice(itertools.cycle(encoded), many)
                load = lambda data: prepared(bundle, data)  # noqa: E731 - used once
                with contextlib.closing(decode_ahead(load, pictures, options.batch)) as coming:
                    for images in coming:
                        engine(images)

            def in_a_row(engine: Engine = engine) -> None:
                for data in itertools.islice(itertools.cycle(encoded), many):
                    engine(prepared(bundle, data)[None])

            turns = in_turn([ahead, in_a_row], options.rounds, warm=1)
        fast, slow = ([wall for wall, _ in samples] for samples in turns)
        fast_cpu, slow_cpu = ([cpu for _, cpu in samples] for samples in turns)
        found[name] = {
            "ahead_images_s": many / statistics.median(fast),
            "in_a_row_images_s": many / statistics.median(slow),
            "gain_median": statistics.median(b / a for a, b in zip(fast, slow, strict=True)),
            "gain_of_the_quickest": min(slow) / min(fast),
            "processor_time_saved": statistics.median(slow_cpu) / statistics.median(fast_cpu),
        }
    best_row = max(row["in_a_row_images_s"] for row in found.values())
    return {**found, "best_ahead_over_best_in_a_row": max(row["ahead_images_s"] for row in found.values()) / best_row}


def two_threads(bundle: Bundle, encoded: list[bytes], rounds: int) -> dict[str, float]:
    """How many times one thread's decoding two threads do here: the most that any use of both cores can gain."""
    work = [data for data in encoded for _ in range(8)]
    with ThreadPoolExecutor(2) as pool:
        turns = in_turn(
            [
                lambda: [prepared(bundle, data) for data in work],
                lambda: list(pool.map(lambda data: prepared(bundle, data), work)),
            ],
            rounds,
            warm=1,
        )
    one, two = ([wall for wall, _ in samples] for samples in turns)
    gains = [a / b for a, b in zip(one, two, strict=True)]
    return {"gain_median": statistics.median(gains), "gain_of_the_quickest": min(one) / min(two)}


class Idle(OnnxRuntimeEngine):
    """A runtime that answers at once, so that a call costs what ours adds."""

    answer: np.ndarray

    def _run(self, images: np.ndarray) -> np.ndarray:
        return self.answer


def wrapper(bundle: Bundle) -> dict[str, float]:
    """Microseconds of a call that are ours: checking the pictures and the answer."""
    engine = Idle(bundle)
    engine.answer = np.zeros((1, len(bundle.labels)), np.float32)
    size = bundle.preprocess.size
    images = np.zeros((1, size, size, 3), np.uint8)
    (samples,) = in_turn([lambda: engine(images)], 20_000)
    return {name: 1e3 * value for name, value in _summary(samples).items()}


def in_turn(calls: list[Call], count: int, warm: int = 20) -> list[list[tuple[float, float]]]:
    """Seconds of every call, by the clock and of the processor, one of each at a time, the order turned round each
    time; the first are left out."""
    samples: list[list[tuple[float, float]]] = [[] for _ in calls]
    for turn in range(count + warm):
        order = range(len(calls)) if turn % 2 == 0 else reversed(range(len(calls)))
        for place in order:
            started, used = time.perf_counter(), time.process_time()
            calls[place]()
            taken = (time.perf_counter() - started, time.process_time() - used)
            if turn >= warm:
                samples[place].append(taken)
    return samples


def _summary(samples: list[tuple[float, float]]) -> dict[str, float]:
    wall, cpu = zip(*samples, strict=True)
    return {
        "p50": 1e3 * statistics.median(wall),
        "p10": 1e3 * float(np.quantile(wall, 0.1)),
        "min": 1e3 * min(wall),
        "cpu": 1e3 * statistics.median(cpu),
    }


def _bare(bundle: Bundle, threads: int) -> Callable[[np.ndarray], object]:
    if bundle.manifest.kind == "onnx":
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        # As ours: without it ONNX Runtime rewrites graphs whose weights were left in float.
        session = ort.InferenceSession(
            str(bundle.model_path),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=["WeightBiasQuantization"],
        )
        name = session.get_inputs()[0].name
        return lambda images: session.run(None, {name: images})
    import openvino as ov

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    request = ov.Core().compile_model(str(bundle.model_path), "CPU", settings).create_infer_request()
    return lambda images: request.infer([images], share_inputs=True, share_outputs=True)


def _benchmark_app(bundle: Bundle, threads: int, calls: int) -> tuple[float, float]:
    """Median and least latency in milliseconds, by benchmark_app's own clock (within the runtime, under Python)."""
    size = bundle.preprocess.size
    with tempfile.TemporaryDirectory() as folder:
        # It takes no threads beside a hint on its command line, but takes both from a file.
        settings = Path(folder) / "settings.cfg"
        settings.write_text(json.dumps({"CPU": {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": str(threads)}}))
        words = [
            *(str(Path(sys.executable).with_name("benchmark_app")), "-m", str(bundle.model_path), "-d", "CPU"),
            *("-hint", "none", "-load_config", str(settings), "-api", "sync", "-nireq", "1", "-niter", str(calls)),
            *("-infer_precision", "f32", "-data_shape", f"[1,{size},{size},3]", "-inference_only", "true"),
            *("-json_stats", "-report_type", "no_counters", "-report_folder", folder),
        ]
        done = subprocess.run(words, capture_output=True, text=True)
        reports = list(Path(folder).glob("*.json"))
        if done.returncode or not reports:
            raise SystemExit(f"benchmark_app failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        results = json.loads(reports[0].read_text())["execution_results"]
    return float(results["latency (ms)"]), float(results["min latency"])


if __name__ == "__main__":
    main()
