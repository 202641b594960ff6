"""python -m tests.serving RUN [--pictures 100000] [--data FOLDER]: a service around a run's engines.

Two forked workers of four threads each, bound to one core, answer pictures of five kinds of files while the bundle that
they opened is replaced twenty times by another engine's, file by file and in place. Standard error says how far it is.
Prints one JSON object; exit code 1 where an answer was wrong, memory grew by 20 MB or more, or a call of an engine took
over 3 % more than its runtime's.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from edgepress import open_engine
from edgepress.deploy.machine.device import describe_machine
from edgepress.deploy.verify.verification import verify
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.pictures import read_bytes
from tests.serving.service import mixed, overhead, serve, tell

PAIRS = (("onnx-fp32", "onnx-int8-onnxruntime"), ("openvino-fp32", "openvino-int8"))
MOST_GROWN_MB = 20.0
MOST_OVERHEAD = 1.03
MOST_CALLS = 2000
"""Calls of an engine that are timed; fewer where fewer pictures are answered."""


def main() -> None:
    """Serve, compare, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path, help="a run's folder with ONNX Runtime's or OpenVINO's fp32 and INT8 engines")
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--pair", nargs=2, action="append", help="two engines of one runtime; may be repeated")
    parser.add_argument("--data", type=Path, default=Path("examples/clipart-sample"))
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    data = load_dataset(options.data, "test")
    pictures = mixed([read_bytes(path) for path in data.paths])
    services: dict[str, Any] = {}
    record = {
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": asdict(describe_machine()),
        "run": str(options.run),
        "pictures": options.pictures,
        "services": services,
    }
    failed, pairs = False, options.pair or PAIRS
    for pair in pairs:
        tell(f"{' / '.join(pair)}: what verify answers")
        bundles = [Bundle.open(options.run / name) for name in pair]
        # Verify's logits of both. Its engines are closed before anything is forked: see `deploy.engines.lifetime`.
        expected = {bundle.digest: verify(bundle, data, threads=1).logits for bundle in bundles}
        apart = float(np.abs(np.subtract(*expected.values())).max())
        with tempfile.TemporaryDirectory(prefix="edgepress-serving-") as folder:
            served = serve(bundles, Path(folder) / "bundle", pictures, expected, count=options.pictures // len(pairs))
        tell("an engine against its runtime alone")
        with open_engine(bundles[0], threads=1) as engine:
            pixels = np.stack([engine.preprocess.load(path) for path in data.paths[:16]])
            ratio = overhead(engine, pixels, min(MOST_CALLS, options.pictures))
        services[" / ".join(pair)] = {
            "apart": apart,
            "workers": [{**asdict(one), "grown_mb": one.grown_mb} for one in served],
            "overhead": ratio,
        }
        failed |= ratio > MOST_OVERHEAD or any(one.wrong or one.grown_mb >= MOST_GROWN_MB for one in served)
    print(json.dumps(record, indent=2))
    sys.exit(failed)


if __name__ == "__main__":
    main()
