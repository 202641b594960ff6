"""Every engine of a run that needs no GPU, on test: what it costs, what it weighs, and its time against ONNX Runtime's.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.device_engines RUN DATA

RUN is a folder with bundles by the names of the table of engines, at least onnx-fp32. A row is one JSON object: test
mAP and its drop from onnx-fp32 with the paired bootstrap's 95 % interval, decisions changed, bytes of the model, the
median of a picture in milliseconds, and its time as a multiple of onnx-fp32's, of onnx-int8-onnxruntime's and, for
INT8, of its own runtime's in fp32, each measured in turns with it (A B B A) at batch 1 and one thread in the same
process. Times are of the processor, which other processes lengthen less than the clock's.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from edgepress.deploy.bench.against import median_interval
from edgepress.deploy.engines import Engine, open_engine
from edgepress.deploy.engines.table import ENGINES
from edgepress.deploy.machine.device import describe_machine
from edgepress.deploy.machine.state import disturbances, read_state
from edgepress.deploy.verify.verification import predict_split
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.confidence import Scored, drop_interval
from edgepress.multilabel.datasets import MultiLabelDataset, load_dataset
from edgepress.multilabel.decisions import changed_share
from edgepress.multilabel.metrics import mean_average_precision

AGAINST = ("onnx-fp32", "onnx-int8-onnxruntime")
PICTURES = 64
CALLS = 30
"""Of one block, whose median counts."""
PAIRS = 21


def main() -> None:
    """Measure every engine that RUN has and print its row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--pairs", type=int, default=PAIRS, help="blocks of calls of each of two engines (default 21)")
    options = parser.parse_args()
    test = load_dataset(options.data, "test")
    bundles = {name: Bundle.open(options.run / name) for name in ENGINES if (options.run / name).is_dir()}
    float_logits = logits(bundles["onnx-fp32"], test)
    preprocess = bundles["onnx-fp32"].preprocess
    pixels = [preprocess.load(path)[None] for path in test.paths[:PICTURES]]
    print(json.dumps(about(test, preprocess.size)), flush=True)
    for name, bundle in bundles.items():
        before = read_state()
        found: dict[str, Any] = {"engine": name, "size_bytes": bundle.size_bytes}
        found |= cost(bundle, bundles["onnx-fp32"], float_logits, test)
        with open_engine(bundle, threads=1) as engine:
            found["p50_ms"] = round(1e3 * float(np.median([median(engine, pixels) for _ in range(options.pairs)])), 3)
            own = [other for other in ENGINES[name].held_to if other.endswith("-fp32")]
            for other in dict.fromkeys((*AGAINST, *own)):
                if other in bundles and other != name:
                    with open_engine(bundles[other], threads=1) as theirs:
                        found[f"time_of_{other}"] = in_turns(engine, theirs, pixels, options.pairs)
        print(json.dumps({**found, "cautions": disturbances(before, read_state())}), flush=True)


def about(test: MultiLabelDataset, size: int) -> dict[str, Any]:
    """What the rows are of."""
    return {
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": asdict(describe_machine()),
        "pictures": len(test),
        "labels": len(test.labels),
        "size": size,
    }


def logits(bundle: Bundle, test: MultiLabelDataset) -> np.ndarray:
    with open_engine(bundle, threads=1) as engine:
        return predict_split(engine, test)


def cost(bundle: Bundle, base: Bundle, before: np.ndarray, test: MultiLabelDataset) -> dict[str, Any]:
    """What an engine answers otherwise than the fp32 ONNX."""
    after = logits(bundle, test)
    maps = [mean_average_precision(test.targets, values, test.ignore) for values in (before, after)]
    interval = drop_interval(*(Scored(test.targets, values, test.ignore) for values in (before, after)))
    changed = changed_share(base.decisions.decide(before), bundle.decisions.decide(after), test.ignore)
    return {
        "mAP": round(100 * maps[1], 2),
        "drop": round(100 * (maps[0] - maps[1]), 2),
        "drop_95": [round(end, 2) for end in interval] if interval is not None else None,
        "decisions_changed": round(changed * after.size),
        "of_decisions": after.size,
        "largest_logit_difference": float(f"{np.abs(after - before).max():.2g}"),
    }


def in_turns(engine: Engine, theirs: Engine, pixels: list[np.ndarray], pairs: int) -> list[float]:
    """How many times theirs an engine's time is: the median over pairs of blocks, and the 95 % interval of it."""
    ratios = []
    for number in range(pairs):
        order = [engine, theirs] if number % 2 == 0 else [theirs, engine]
        taken = {id(one): median(one, pixels) for one in order}
        ratios.append(taken[id(engine)] / taken[id(theirs)])
    low, high = median_interval(pairs)
    ordered = np.sort(ratios)
    return [round(float(value), 3) for value in (np.median(ratios), ordered[low], ordered[high])]


def median(engine: Engine, pixels: list[np.ndarray]) -> float:
    """Seconds of processor time of a call with one picture, after one that is not counted."""
    taken = []
    for at in range(CALLS + 1):
        start = time.process_time()
        engine(pixels[at % len(pixels)])
        taken.append(time.process_time() - start)
    return float(np.median(taken[1:]))


if __name__ == "__main__":
    main()
