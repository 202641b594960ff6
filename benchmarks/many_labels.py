"""What a head for thousands of labels costs: the time of a backbone with it, as a multiple of the backbone's alone.

    .venv/bin/python -m benchmarks.many_labels [--labels 10000] [--backbone tf_efficientnet_lite0] [--rounds 40]

Each head is exported with the backbone; both graphs run in ONNX Runtime on one thread, one picture of 224 px a call, in
turns (A B B A) in one process. Times are the process's own processor time, because other work on the machine must not
count. A round gives the ratio of its medians; the median ratio is told with the 2.5 and 97.5 % quantiles of the rounds.
With --prove the first head is also quantised for ONNX Runtime, and both are verified on random pictures: weights are
random, so this proves the path and not a quality. Each line is a JSON record.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from edgepress.compress.config import ModelConfig
from edgepress.compress.models import MultiLabelModel, make_model
from edgepress.deploy.build.export import export_onnx
from edgepress.deploy.build.traced import traced
from edgepress.deploy.machine.device import describe_machine
from edgepress.deploy.verify.verification import verify
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.labels import LabelSpace
from edgepress.run.quantize import quantize_bundle
from edgepress.run.recipe import QuantizeConfig
from edgepress.run.splits import Splits

HEADS: dict[str, dict[str, Any]] = {
    "query-groups 100": {"query_groups": 100},
    "linear, bottleneck 256": {"head": "linear", "bottleneck": 256},
    "linear": {"head": "linear"},
}
SIZE = 224
CALLS = 3


class _Backbone(nn.Module):
    """The features of a backbone as a mean over positions, which any head needs at least."""

    def __init__(self, model: MultiLabelModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model.tokens(images).mean(dim=1)


class _Whole(_Backbone):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model.logits(images)


def session(module: nn.Module, folder: Path, name: str) -> onnxruntime.InferenceSession:
    """A module in ONNX Runtime, on one thread."""
    graph = traced(module.eval(), torch.zeros(2, SIZE, SIZE, 3, dtype=torch.uint8), ["logits"], name)
    onnx.save(graph, folder / f"{name}.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(folder / f"{name}.onnx", options, providers=["CPUExecutionProvider"])


def ratios(base: onnxruntime.InferenceSession, other: onnxruntime.InferenceSession, rounds: int) -> np.ndarray:
    """The other's time as a multiple of the base's, one per round of A B B A."""
    picture = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 3), np.uint8)
    given = {one: {one.get_inputs()[0].name: picture} for one in (base, other)}

    def seconds(one: onnxruntime.InferenceSession) -> list[float]:
        found = []
        for _ in range(CALLS):
            started = time.process_time()
            one.run(None, given[one])
            found.append(time.process_time() - started)
        return found

    for one in (base, other, base, other):
        seconds(one)
    found = []
    for _ in range(rounds):
        first, second, third, fourth = (seconds(one) for one in (base, other, other, base))
        found.append(np.median(second + third) / np.median(first + fourth))
    return np.array(found)


def made(backbone: str, labels: LabelSpace, settings: dict[str, Any]) -> MultiLabelModel:
    torch.manual_seed(0)
    return make_model(ModelConfig(backbone=backbone, size=SIZE, weights="none", **settings), labels)[0].eval()


def random_split(folder: Path, name: str, labels: LabelSpace, count: int) -> MultiLabelDataset:
    """Pictures of noise, with a hundred random labels each."""
    rng = np.random.default_rng(len(name) + count)
    (folder / name).mkdir(parents=True)
    paths = [folder / name / f"{number:03d}.png" for number in range(count)]
    for path in paths:
        cv2.imwrite(str(path), cv2.resize(rng.integers(0, 256, (12, 12, 3), np.uint8), (SIZE, SIZE)))
    targets = (rng.random((count, len(labels))) < 100 / len(labels)).astype(np.uint8)
    return MultiLabelDataset(
        root=folder, split=name, labels=labels, paths=list(paths), targets=targets, ignore=np.zeros(targets.shape, bool)
    )


def prove(model: MultiLabelModel, folder: Path) -> dict[str, Any]:
    """Export, quantise and verify a model of these labels."""
    train, val, test = (random_split(folder / "data", name, model.labels, 24) for name in ("train", "val", "test"))
    float_bundle = export_onnx(model, test, folder / "onnx-fp32", identity="random weights")
    config = QuantizeConfig(pictures=8, time_limit=0, budget=100, choice="random")
    int8 = quantize_bundle(
        float_bundle, Splits(train=train, val=val, test=test), "onnxruntime", folder / "int8", config
    )
    found = {one.name: verify(one, test) for one in (float_bundle, int8)}
    sizes = {one.name: round(one.size_bytes / 1e6, 1) for one in (float_bundle, int8)}
    return {"MB": sizes} | {
        name: {
            "verdict": one.verdict,
            "max_abs_diff": one.max_abs_diff,
            "sqnr_db": one.sqnr_db,
            "products": one.ran.products,
        }
        for name, one in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, default=10_000)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--prove", action="store_true")
    options = parser.parse_args()
    labels = LabelSpace(tuple(f"label {number}" for number in range(options.labels)))
    about = {
        "backbone": options.backbone,
        "labels": options.labels,
        "size": SIZE,
        "processor": describe_machine().processor,
        "onnxruntime": version("onnxruntime"),
    }
    with tempfile.TemporaryDirectory() as made_in:
        folder = Path(made_in)
        base = session(_Backbone(made(options.backbone, labels, HEADS["linear"])), folder, "backbone")
        for name, settings in HEADS.items():
            model = made(options.backbone, labels, settings)
            found = ratios(base, session(_Whole(model), folder, name), options.rounds)
            low, middle, high = (round(float(one), 3) for one in np.quantile(found, [0.025, 0.5, 0.975]))
            parameters = sum(one.numel() for one in model.head.parameters())
            record = {"head": name, "ratio": middle, "low": low, "high": high, "head_parameters": parameters, **about}
            print(json.dumps(record), flush=True)
        if options.prove:
            proven = prove(made(options.backbone, labels, HEADS["query-groups 100"]), folder / "proof")
            print(json.dumps({"head": "query-groups 100", "proof": proven, **about}), flush=True)


if __name__ == "__main__":
    main()
