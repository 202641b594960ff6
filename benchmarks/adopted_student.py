"""A finished student from elsewhere, from its ONNX file to INT8: what each step costs and changes.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.adopted_student DATA OUT

Exports a tagger of `benchmarks/foreign_tagger.py` by a plain torch.onnx.export, so that it takes float32 pictures NCHW
that are normalised outside, and takes it through the verbs: adopt, quantize, verify, bench and predict. It prints what
they print, and as JSON the largest difference between the logits of OUT/own.onnx, fed as its owner feeds it, and those
of the bundle's uint8 front on all pictures of test.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from benchmarks.foreign_tagger import finished
from edgepress.deploy.engines import open_engine
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.datasets import load_dataset

ENGINES = ("onnxruntime", "openvino")
TRACED = 2
"""Pictures of the tensor that it is exported with, which is the only batch that the file itself takes."""


def main() -> None:
    """Make the file, take it through the verbs, and print what each says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--time-limit", type=float, default=10)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    own, fp32, data = options.out / "own.onnx", options.out / "onnx-fp32", options.data
    model = finished(data, options.backbone, options.size)
    torch.onnx.export(model, (torch.zeros(TRACED, 3, options.size, options.size),), own)
    stated = ("--labels", data / "labels.txt", "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5")
    verb("adopt", own, "--data", data, *stated, "--out", fp32)
    print(json.dumps(difference(own, fp32, data)))
    for engine in ENGINES:
        int8 = options.out / f"{engine}-int8"
        verb("quantize", fp32, "--data", data, "--target", engine, "--time-limit", options.time_limit, "--out", int8)
        verb("verify", int8, "--data", data)
        verb("bench", int8)
        verb("predict", int8, data / "test" / "00000.jpg")
    openvino = options.out / "openvino-fp32"
    verb("compile", fp32, "--engine", "openvino-fp32", "--out", openvino)
    for bundle in (fp32, openvino):
        verb("verify", bundle, "--data", data)
        verb("bench", bundle)


def verb(name: str, *given: object) -> None:
    """Run a verb, and print its command, what it says and its exit code."""
    words = [name, *map(str, given)]
    print("$ edgepress", *words, flush=True)
    done = subprocess.run([sys.executable, "-m", "edgepress", *words], stderr=subprocess.STDOUT, check=False)
    print(f"exit code {done.returncode}", flush=True)


def difference(own: Path, fp32: Path, data: Path) -> dict[str, float]:
    """How far the logits of the bundle are from those of the file itself, and how many decisions at 0 they change."""
    session = onnxruntime.InferenceSession(own, providers=["CPUExecutionProvider"])
    bundle, test = Bundle.open(fp32), load_dataset(data, "test")
    theirs, ours = [], []
    with open_engine(bundle) as engine:
        for row in range(0, len(test) - 1, TRACED):
            pixels = np.stack([bundle.manifest.preprocess(test.picture(one)) for one in range(row, row + TRACED)])
            fed = (pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255 - np.float32(0.5)) / np.float32(0.5)
            theirs.append(session.run(None, {session.get_inputs()[0].name: fed})[0])
            ours.append(engine(pixels))
    a, b = np.concatenate(theirs), np.concatenate(ours)
    most = float(np.abs(a - b).max())
    return {
        "pictures": len(a),
        "largest_difference": most,
        "of_the_largest_logit": most / float(np.abs(a).max()),
        "decisions_changed": int(((a > 0) != (b > 0)).sum()),
        "decisions": a.size,
    }


if __name__ == "__main__":
    main()
