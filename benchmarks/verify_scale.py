"""What verify needs for very many labels or pictures: memory and time, in a process of its own.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.verify_scale --into FOLDER
    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.verify_scale --into FOLDER --labels 80 --share 0.04 --also

Makes 50,000 pictures of 8 x 8 random pixels, and an INT8 bundle whose graph is one product of a picture's pixels and a
matrix; its reference has the same matrix without the noise of INT8, and a label is true with the probability that the
reference gives it. Then it runs `edgepress verify`, and beside that a process that loads the data set and runs the
engine alone. Both are measured from outside: ru_maxrss, processor time, and time on the clock. With --also, so are
`edgepress calibrate` and what a report computes about an engine (its intervals per label). One JSON record.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgepress.deploy.build.reference import REFERENCE, Reference
from edgepress.deploy.machine.device import describe_machine
from edgepress.multilabel.bundle import write_bundle
from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.metrics import sigmoid
from edgepress.multilabel.preprocess import Preprocess

SIZE = 8
BATCH = 256
SPREAD = 2.0
"""Standard deviation of a label's logits over pictures."""
NOISE = 0.03
"""That of an INT8 engine's error, as a share of the logits' spread: 30 dB."""
ENGINE = """
import sys
from edgepress import Bundle, load_dataset
from edgepress.deploy.engines import open_engine
from edgepress.deploy.verify.verification import predict_split
data = load_dataset(sys.argv[2])
with open_engine(Bundle.open(sys.argv[1]), unproven=True) as engine:
    predict_split(engine, data)
"""
REPORT = """
import sys
from edgepress import Bundle, load_dataset
from edgepress.deploy.build.reference import Reference
from edgepress.run.evidence import label_scores, reliability_bins
data, bundle = load_dataset(sys.argv[2]), Bundle.open(sys.argv[1])
logits = Reference.load(bundle.path / "reference.npz").logits
label_scores(logits, data, intervals=True)
reliability_bins(bundle.decisions, logits, data)
"""


def main() -> None:
    """Make the case, run what is measured, and print the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--into", type=Path, required=True, help="the folder of the case; kept, and used again")
    parser.add_argument("--pictures", type=int, default=50_000)
    parser.add_argument("--labels", type=int, default=10_000)
    parser.add_argument("--share", type=float, default=0.001, help="mean share of pictures that show a label")
    parser.add_argument("--also", action="store_true", help="calibrate and a report's intervals as well")
    options = parser.parse_args()
    case = options.into / f"{options.pictures}x{options.labels}"
    if not (case / "bundle").is_dir():
        # In a process of its own, because the peak of a process counts what its parent held when it was started.
        given = case, options.pictures, options.labels, options.share
        making = multiprocessing.get_context("spawn").Process(target=make, args=given, kwargs={"val": options.also})
        making.start()
        making.join()
        if making.exitcode:
            sys.exit(f"{case}: the case could not be made; remove the folder and try again")
    data, bundle = str(case / "data"), str(case / "bundle")
    edgepress = [sys.executable, "-m", "edgepress"]
    work = {
        "engine": [sys.executable, "-c", ENGINE, bundle, data],
        "verify": [*edgepress, "verify", bundle, "--data", data, "--json"],
    }
    if options.also:
        made = str(case / "calibrated")
        work["calibrate"] = [*edgepress, "calibrate", bundle, "--data", data, "--split", "val", "--out", made, "--json"]
        work["report"] = [sys.executable, "-c", REPORT, bundle, data]
    record: dict[str, Any] = {"pictures": options.pictures, "labels": options.labels, "share": options.share}
    for name, command in work.items():
        record[name] = measured(command)
    print(json.dumps({**record, "machine": asdict(describe_machine())}))


def measured(command: list[str]) -> dict[str, Any]:
    """Peak memory in MB, seconds of the processor and of the clock, and what was printed, of a process."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as printed:
        process = subprocess.Popen(command, stdout=printed)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        printed.seek(0)
        said = printed.read()
    found = json.loads(said) if said.startswith(b"{") else {}
    return {
        "peak_mb": round(used.ru_maxrss / 1000),
        "processor_s": round(used.ru_utime + used.ru_stime, 1),
        "clock_s": round(time.monotonic() - started, 1),
        "code": process.returncode,
        **{name: found[name] for name in ("verdict", "drop_points", "drop_interval") if name in found},
    }


def make(case: Path, pictures: int, labels: int, share: float, *, val: bool) -> None:
    """Write the pictures, their labels, and the bundle with its reference."""
    rng = np.random.default_rng(0)
    names = [f"label{column:05d}" for column in range(labels)]
    spread = np.float32(SPREAD / np.sqrt(SIZE * SIZE * 3))
    weights = spread * rng.normal(size=(SIZE * SIZE * 3, labels)).astype(np.float32)
    # The mean of a sigmoid of normal logits is about e^(mean + variance / 2) where the label is rare.
    offsets = np.log(share * rng.uniform(0.2, 1.8, labels)).astype(np.float32) - np.float32(SPREAD**2 / 2)
    (case / "data").mkdir(parents=True, exist_ok=True)
    (case / "data" / "labels.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    logits = np.lib.format.open_memmap(case / "logits.npy", "w+", np.float32, (pictures, labels))
    for split in ("val", "test") if val else ("test",):
        write_split(case / "data" / split, names, weights, offsets, logits, rng)
    data = load_dataset(case / "data")
    given = Preprocess(size=SIZE, mean=(0.5,) * 3, std=(0.5,) * 3)
    noise = np.float32(NOISE) * spread * rng.normal(size=weights.shape).astype(np.float32)
    with write_bundle(
        case / "bundle", kind="onnx", precision="int8", model="model.onnx", labels=names, preprocess=given
    ) as bundle:
        onnx.save(product(weights + noise, offsets), bundle / "model.onnx")
        Reference(data.hashes(), logits, data.targets, data.ignore, data.labels.names).save(bundle / REFERENCE)
    (case / "logits.npy").unlink()


def write_split(
    folder: Path,
    names: list[str],
    weights: np.ndarray,
    offsets: np.ndarray,
    logits: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Write a split of as many pictures as there are `logits`, which are filled in, and labels drawn by these."""
    folder.mkdir()
    with (folder / "metadata.jsonl").open("w", encoding="utf-8") as listing:
        for start in range(0, len(logits), BATCH):
            rows = range(start, min(start + BATCH, len(logits)))
            pixels = rng.integers(0, 256, (len(rows), SIZE, SIZE, 3), np.uint8)
            logits[rows.start : rows.stop] = known = normalised(pixels) @ weights + offsets
            shown = rng.random(known.shape, np.float32) < sigmoid(known)
            for row, picture, said in zip(rows, pixels, shown, strict=True):
                cv2.imwrite(str(folder / f"{row:05d}.png"), picture[:, :, ::-1])
                words = {"file_name": f"{row:05d}.png", "labels": [names[column] for column in np.flatnonzero(said)]}
                listing.write(json.dumps(words) + "\n")


def normalised(pixels: np.ndarray) -> np.ndarray:
    """Pixels with a mean of 0 and a variance of 1, float32 `[n, 192]`, as the graph computes them."""
    return (pixels.reshape(len(pixels), -1).astype(np.float32) - 127.5) / np.float32(73.9)


def product(weights: np.ndarray, offsets: np.ndarray) -> onnx.ModelProto:
    """A graph from pictures to logits by one product."""
    constants = {
        "mean": np.float32(127.5),
        "std": np.float32(73.9),
        "shape": np.array([-1, len(weights)]),
        "weights": weights,
        "offsets": offsets,
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["float", "shape"], ["flat"]),
        helper.make_node("Sub", ["flat", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["scaled"]),
        helper.make_node("Gemm", ["scaled", "weights", "offsets"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(offsets)])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


if __name__ == "__main__":
    main()
