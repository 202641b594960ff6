"""A distillation step against the same step without distillation's own work, interleaved in one process.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/step.py

Both steps run the teacher forward, the student forward and backward, and the optimiser. `distil` has the losses of the
method: BCE with MLD, CD and ID, with ReviewKD, with SimKD, or with the default's two; `bare` has BCE alone and throws
the teacher's outputs away. What lies between them is what the losses cost. Models have random weights: time does not
depend on them. Prints one JSON object: medians of both, the ratio of the medians and the median of each round's own
ratio, in wall and in CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from edgepress.compress.config import DistillConfig, ModelConfig
from edgepress.compress.depthwise import small_depthwise
from edgepress.compress.features import FeatureTaps
from edgepress.compress.held_memory import held_memory
from edgepress.compress.losses import (
    BinaryCrossEntropy,
    LabelWiseEmbeddingDistillation,
    MultiLabelLogitsDistillation,
    ReviewKD,
    SimKD,
)
from edgepress.compress.methods import DEFAULT_TERMS
from edgepress.compress.models import channels_last, make_model
from edgepress.multilabel.labels import LabelSpace

METHODS = {"review_kd": ("review_kd",), "simkd": ("simkd",), "default": tuple(DEFAULT_TERMS)}
"""The terms inside the teacher, of each method that has any; their weights are the default's."""


def main() -> None:
    """Time both steps and print the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--student", default="tf_efficientnet_lite0")
    parser.add_argument("--teacher", default="tf_efficientnet_lite2")
    parser.add_argument("--size", type=int, default=128, help="side of the pictures, in pixels")
    parser.add_argument("--teacher-size", type=int, help="side of the teacher's pictures, by default the student's")
    parser.add_argument("--method", choices=["l2d", *METHODS], default="l2d")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--labels", type=int, default=30)
    parser.add_argument("--width", type=int, default=256, help="of both ML-Decoder heads")
    parser.add_argument("--positives", type=float, default=4.0, help="positive labels a picture")
    parser.add_argument("--reduction", choices=["published", "mean"], default="published")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    with held_memory():  # as in training
        samples = _measure(_steps(options), options.rounds)
    record: dict[str, object] = {**vars(options), "torch": torch.__version__}
    for clock, name in enumerate(("wall_seconds", "cpu_seconds")):
        distil, bare = ([sample[clock] for sample in samples[step]] for step in ("distil", "bare"))
        record[name] = {
            "distil": statistics.median(distil),
            "bare": statistics.median(bare),
            "ratio": statistics.median(distil) / statistics.median(bare),
            "median_of_ratios": statistics.median(a / b for a, b in zip(distil, bare, strict=True)),
        }
    print(json.dumps(record, indent=2))


def _steps(options: argparse.Namespace) -> dict[str, Callable[[], None]]:
    """The two steps, on one batch and one student."""
    labels = LabelSpace(tuple(f"label {i}" for i in range(options.labels)))
    sides = options.size, options.teacher_size or options.size
    student, teacher = (
        make_model(ModelConfig(backbone=name, width=options.width, size=side, weights="none"), labels)[0]
        for name, side in zip((options.student, options.teacher), sides, strict=True)
    )
    student.train()
    teacher.eval().requires_grad_(False)
    learning: list[torch.nn.Module] = [student]
    inside = METHODS.get(options.method, ())
    if "review_kd" in inside:
        taps = FeatureTaps(student.backbone, size=sides[0]), FeatureTaps(teacher.backbone, size=sides[1])
        review = ReviewKD(taps[0].channels(), taps[1].channels(), DistillConfig().review_kd_width)
        learning.append(review)
    if "simkd" in inside:
        student.keeps_memory = teacher.keeps_memory = True
        simkd = SimKD(student.memory_dim, teacher.memory_dim)
    for model in (*learning, teacher):
        channels_last(model, torch.device("cpu"))  # as in training
    learnt = [parameter for model in learning for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learnt, lr=1e-4)
    images, shown = (torch.randint(0, 256, (options.batch, side, side, 3), dtype=torch.uint8) for side in sides)
    targets = (torch.rand(options.batch, options.labels) < options.positives / options.labels).long()
    bce = BinaryCrossEntropy(options.reduction)
    mld = MultiLabelLogitsDistillation(options.reduction)
    structure = LabelWiseEmbeddingDistillation(100, 1000, options.reduction)

    def step(objective: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
        with torch.no_grad():
            teacher_logits, teacher_embeddings = teacher(shown)
        with small_depthwise(images.device):  # as in training
            logits, embeddings = student(images)
        optimizer.zero_grad()
        objective(logits, embeddings, teacher_logits, teacher_embeddings).backward()
        optimizer.step()

    def distil(logits: Tensor, embeddings: Tensor, teacher_logits: Tensor, teacher_embeddings: Tensor) -> Tensor:
        loss = bce(logits, targets)
        if "review_kd" in inside:
            mine, theirs = (tap.take().maps for tap in taps)
            loss = loss + DEFAULT_TERMS["review_kd"] * review(mine, theirs)
        if "simkd" in inside:
            loss = loss + DEFAULT_TERMS["simkd"] * simkd(student.take_memory(), teacher.take_memory())
        if inside:
            return loss
        taught = 10 * mld(logits, teacher_logits, targets) + structure(embeddings, teacher_embeddings, targets)
        return loss + taught

    def bare(logits: Tensor, *_: Tensor) -> Tensor:
        return bce(logits, targets)

    return {"distil": lambda: step(distil), "bare": lambda: step(bare)}


def _measure(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Wall and CPU seconds of every step; the order turns round each time, the first round warms up."""
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name in sorted(steps, reverse=turn % 2 == 1):
            wall, cpu = time.perf_counter(), time.process_time()
            steps[name]()
            if turn:
                samples[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return samples


if __name__ == "__main__":
    main()
