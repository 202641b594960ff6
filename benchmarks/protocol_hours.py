"""How long the recipes of examples/protocol take on a GPU: an estimate, scaled from steps that are measured here.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/protocol_hours.py

Measured here, in turns, in processor seconds per picture: a training step of ResNet-50 (the yardstick, with a linear
head), and for each pair of the paper a step of the teacher's training and a step of its student's (teacher forward,
student forward and backward, optimiser, and the losses of l2d). Their ratios to the yardstick are multiplied by the
yardstick's assumed rate on a GPU (`--rate`, pictures per second) and by the number of pictures that a recipe shows. How
fast one core prepares pictures (decoding a JPEG of 500x375 pixels, scaling, RandAugment, Cutout) is measured as well,
because a GPU may wait for it.

The ratios are those of a CPU: depthwise convolutions (MobileNetV2) and many branches (RepVGG) are slower on a GPU than
their arithmetic says. Models have random weights, on which time does not depend. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Literal

import cv2
import numpy as np
import torch

from edgepress.compress.augmentation import Augmentation
from edgepress.compress.config import ModelConfig
from edgepress.compress.losses import BinaryCrossEntropy, LabelWiseEmbeddingDistillation, MultiLabelLogitsDistillation
from edgepress.compress.models import MultiLabelModel, make_model
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.pictures import decode_picture
from edgepress.multilabel.preprocess import Preprocess

PAIRS = {
    "resnet101 to resnet34": ("resnet101", "resnet34"),
    "resnet50 to resnet18": ("resnet50", "resnet18"),
    "repvgg_a2 to repvgg_a0": ("repvgg_a2", "repvgg_a0"),
    "swin_tiny to mobilenetv2": ("swin_tiny_patch4_window7_224", "mobilenetv2_100"),
}
TRAINED = {"voc2007": 5_011 * 0.9, "coco2014": 82_783 * 0.95, "nuswide": 161_789 * 0.95}
"""Pictures that a recipe trains on."""
TEACHER_EPOCHS, STUDENT_EPOCHS = 30, 80
LABELS = LabelSpace(tuple(f"label {number}" for number in range(80)))
SIZE = 224


def main() -> None:
    """Measure, scale and print the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=1000.0, help="ResNet-50's assumed rate on a GPU, pictures/s")
    options = parser.parse_args()
    torch.set_num_threads(1)
    yardstick = training(model("resnet50", "linear"), options.batch)
    seconds = {}
    for pair, (teacher, student) in PAIRS.items():
        taught, learner = model(teacher), model(student)
        steps = {
            "yardstick": yardstick,
            "teacher": training(taught, options.batch),
            "student": distillation(taught, learner, options.batch),
        }
        seconds[pair] = {name: taken / options.batch for name, taken in in_turns(steps, options.rounds).items()}
    hours = {
        pair: {name: estimate(found, pictures, options.rate) for name, pictures in TRAINED.items()}
        for pair, found in seconds.items()
    }
    record = {**vars(options), "torch": torch.__version__, "seconds_a_picture": seconds, "hours": hours}
    print(json.dumps({**record, "pictures_prepared_per_core_second": prepared_rate(options.rounds)}, indent=2))


def estimate(seconds: dict[str, float], pictures: float, rate: float) -> dict[str, float]:
    """Hours of the teacher and of one student."""
    each = {"teacher": TEACHER_EPOCHS, "student": STUDENT_EPOCHS}
    return {
        name: round(epochs * pictures * seconds[name] / seconds["yardstick"] / rate / 3600, 2)
        for name, epochs in each.items()
    }


def model(backbone: str, head: Literal["ml_decoder", "linear"] = "ml_decoder") -> MultiLabelModel:
    torch.manual_seed(0)
    return make_model(ModelConfig(backbone=backbone, head=head, width=768, size=SIZE, weights="none"), LABELS)[0]


def training(learner: MultiLabelModel, batch: int) -> Callable[[], None]:
    """A step on the labels alone."""
    images, targets, optimizer = *pictures(batch), optimiser(learner)
    bce = BinaryCrossEntropy("published")

    def step() -> None:
        learner.train().requires_grad_(True)
        optimizer.zero_grad()
        bce(learner(images)[0], targets).backward()
        optimizer.step()

    return step


def distillation(teacher: MultiLabelModel, learner: MultiLabelModel, batch: int) -> Callable[[], None]:
    """A step of l2d."""
    images, targets, optimizer = *pictures(batch), optimiser(learner)
    bce, mld = BinaryCrossEntropy("published"), MultiLabelLogitsDistillation("published")
    structure = LabelWiseEmbeddingDistillation(100, 1000, "published")

    def step() -> None:
        teacher.eval()
        with torch.no_grad():
            answers, embeddings = teacher(images)
        learner.train()
        optimizer.zero_grad()
        logits, own = learner(images)
        taught = 10 * mld(logits, answers, targets) + structure(own, embeddings, targets)
        (bce(logits, targets) + taught).backward()
        optimizer.step()

    return step


def pictures(batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch, SIZE, SIZE, 3), dtype=torch.uint8, generator=generator)
    return images, (torch.rand(batch, len(LABELS), generator=generator) < 3 / len(LABELS)).long()


def optimiser(learner: MultiLabelModel) -> torch.optim.Optimizer:
    return torch.optim.AdamW([one for one in learner.parameters() if one.requires_grad], lr=1e-4)


def in_turns(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Median processor seconds of each step; the first round warms up."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            started = time.process_time()
            step()
            if turn:
                taken[name].append(time.process_time() - started)
    return {name: statistics.median(values) for name, values in taken.items()}


def prepared_rate(rounds: int) -> float:
    """Training pictures per second of one core, from JPEG bytes to what the model gets."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (38, 50, 3)).astype(np.uint8)
    _, data = cv2.imencode(".jpg", cv2.resize(small, (500, 375), interpolation=cv2.INTER_CUBIC))
    preprocess = Preprocess(size=SIZE)
    augment = Augmentation(augment="randaugment", flip=0, cutout=0.5, seed=0)
    taken = []
    for turn in range(rounds + 1):
        started = time.process_time()
        for number in range(50):
            augment(preprocess(decode_picture(data.tobytes(), "picture")), turn, number)
        if turn:
            taken.append(time.process_time() - started)
    return round(50 / statistics.median(taken), 1)


if __name__ == "__main__":
    main()
