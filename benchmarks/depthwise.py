"""A training step on a CPU with torch's gradient of depthwise convolutions on small maps, and with ours, in turns.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.depthwise >> benchmarks/records/depthwise-cpu.jsonl

Models have random weights: time does not depend on them. Each round takes four steps, A B B A. Prints a line of JSON
for each model: the median of the rounds' ratios of processor time (above 1: ours is faster), the smallest and the
largest, and the seconds of a step with ours.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from datetime import date

import torch

from edgepress.compress.config import ModelConfig
from edgepress.compress.depthwise import small_depthwise
from edgepress.compress.held_memory import held_memory
from edgepress.compress.models import MultiLabelModel, channels_last, make_model
from edgepress.deploy.machine.device import describe_machine
from edgepress.multilabel.labels import LabelSpace

CPU = torch.device("cpu")
LABELS = LabelSpace(tuple(f"label{number}" for number in range(30)))
MODELS = (
    ("mobilenetv4_conv_small_050", None, 64, 64),
    ("tf_efficientnet_lite0", None, 64, 64),
    ("tf_efficientnet_lite0", 4, 64, 16),
    ("tf_efficientnet_lite0", None, 96, 32),
    ("tf_efficientnet_lite2", None, 128, 32),
    ("mobilenetv3_large_100", None, 64, 64),
    ("resnet18", None, 64, 64),
)
"""Backbone, stages, side in pixels, pictures of a step. The last has no depthwise convolution."""


def main() -> None:
    """Time every model and print its record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    common = {"date": date.today().isoformat(), "torch": torch.__version__, "threads": torch.get_num_threads()}
    for backbone, stages, size, batch in MODELS:
        config = ModelConfig(backbone=backbone, stages=stages, size=size, weights="none", width=256)
        model, _ = make_model(config, LABELS)
        found = _measured(model, size, batch, rounds)
        which = {"backbone": backbone, "stages": stages, "size": size, "batch": batch, "rounds": rounds}
        print(json.dumps({**which, **found, **common, "machine": describe_machine().processor}), flush=True)


def _measured(model: MultiLabelModel, size: int, batch: int, rounds: int) -> dict[str, float]:
    channels_last(model, CPU)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    pictures = torch.randint(0, 256, (batch, size, size, 3), dtype=torch.uint8)
    targets = torch.zeros(batch, len(LABELS))

    def seconds(*, ours: bool) -> float:
        started = time.process_time()
        with small_depthwise(CPU, compiled=not ours):
            logits = model.logits(pictures)
        torch.nn.functional.binary_cross_entropy_with_logits(logits, targets).backward()
        optimizer.step()
        optimizer.zero_grad()
        return time.process_time() - started

    ratios, steps = [], []
    with held_memory():  # as in training
        for each in range(rounds + 1):
            turns = [seconds(ours=ours) for ours in (False, True, True, False)]
            if each:  # the first round asks for memory
                ratios.append((turns[0] + turns[3]) / (turns[1] + turns[2]))
                steps.append((turns[1] + turns[2]) / 2)
    return {
        "ratio": round(statistics.median(ratios), 3),
        "least": round(min(ratios), 3),
        "most": round(max(ratios), 3),
        "step_seconds": round(statistics.median(steps), 4),
    }


if __name__ == "__main__":
    main()
