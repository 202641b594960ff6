"""CD + ID against a plain loop of the paper's formulas, forward and backward, interleaved in one process.

    .venv/bin/python benchmarks/losses.py            one thread, batch 64, 80 labels, 768 wide, 2.9 positives a picture

Prints one JSON object: seconds (median), their ratio, and how far the two values and gradients are apart.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from compress.losses import LabelWiseEmbeddingDistillation


def main() -> None:
    """Time both and print the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--labels", type=int, default=80)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--positives", type=float, default=2.9, help="positive labels a picture")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    shape = (options.batch, options.labels, options.width)
    student, teacher = torch.randn(shape, requires_grad=True), torch.randn(shape)
    targets = (torch.rand(shape[:2]) < options.positives / options.labels).long()
    loss = LabelWiseEmbeddingDistillation(100, 1000, "published")
    contenders = {
        "plain_loop": lambda: plain_loop(student, teacher, targets),
        "edgepress": lambda: loss(student, teacher, targets),
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(options.rounds + 1):
        for name, contender in contenders.items():
            seconds = _forward_backward(contender, student)
            if turn:  # the first warms up
                times[name].append(seconds)
    values, gradients = zip(
        *(_value_and_gradient(contender, student) for contender in contenders.values()), strict=True
    )
    medians = {name: statistics.median(samples) for name, samples in times.items()}
    record = {
        **vars(options),
        "torch": torch.__version__,
        "median_seconds": medians,
        "ratio": medians["plain_loop"] / medians["edgepress"],
        "value_difference": abs(values[0] - values[1]) / abs(values[0]),
        "gradient_difference": float((gradients[0] - gradients[1]).abs().max() / gradients[0].abs().max()),
    }
    print(json.dumps(record, indent=2))


def plain_loop(student: Tensor, teacher: Tensor, targets: Tensor) -> Tensor:
    """100 · CD + 1000 · ID, a label and a picture at a time, as the formulas read."""
    total = student.new_zeros(())
    for label in range(targets.shape[1]):
        rows = targets[:, label] == 1
        if rows.sum() >= 2:
            total = total + 100 * _h(student[rows, label], teacher[rows, label])
    for picture in range(targets.shape[0]):
        rows = targets[picture] == 1
        if rows.sum() >= 2:
            total = total + 1000 * _h(student[picture, rows], teacher[picture, rows])
    return total


def _h(student: Tensor, teacher: Tensor) -> Tensor:
    return F.smooth_l1_loss(_distances(student), _distances(teacher), reduction="sum") / len(student)


def _distances(rows: Tensor) -> Tensor:
    squares = (rows[:, None] - rows[None]).pow(2).sum(dim=-1)
    distances = torch.where(squares > 0, torch.where(squares > 0, squares, 1).sqrt(), 0)
    return distances / distances[distances > 0].mean()


def _forward_backward(contender: Callable[[], Tensor], student: Tensor) -> float:
    student.grad = None
    started = time.perf_counter()
    contender().backward()
    return time.perf_counter() - started


def _value_and_gradient(contender: Callable[[], Tensor], student: Tensor) -> tuple[float, Tensor]:
    student.grad = None
    value = contender()
    value.backward()
    assert student.grad is not None
    return value.item(), student.grad.clone()


if __name__ == "__main__":
    main()
