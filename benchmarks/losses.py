"""CD + ID against a plain loop of the paper's formulas, forward and backward, interleaved in one process.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/losses.py
                                          one thread, batch 64, 80 labels, 768 wide, 2.9 positives a picture

Prints one JSON object: medians, ratios, how far the two values and gradients are apart, and peak extra memory over the
size of the student's embeddings.

Every turn runs twice in a row. `after_itself` is the second run; `median_seconds` and `ratio` are its CPU time
(user and kernel, summed over threads): on a busy machine other programs interrupt a long run and seldom a short one,
so that wall time, which stands beside it, flatters the ratio.
`after_other` is the first run, right after the plain loop (for the plain loop: after another). They differ because the
gradient is one block as large as the embeddings, and the plain loop allocates and frees so many of those that the C
library returns them to the kernel: whoever comes next pays for every page again, `page_faults` in number.
`gradient_floor` is that block alone: allocated, zeroed and the positive rows written, without any distance. A loss that
lets torch zero the block is no faster: `ratio_of_floor`, the plain loop over it, bounds its `ratio`. edgepress takes
pages that are zero until they are written, and touches those of the positive rows alone.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from edgepress.compress.losses import LabelWiseEmbeddingDistillation

Runs = dict[str, Callable[[], None]]


def main() -> None:
    """Time all and print the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--labels", type=int, default=80)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--positives", type=float, default=2.9, help="positive labels a picture")
    parser.add_argument("--reduction", choices=["published", "mean"], default="published")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    shape = (options.batch, options.labels, options.width)
    student, teacher = torch.randn(shape, requires_grad=True), torch.randn(shape)
    targets = (torch.rand(shape[:2]) < options.positives / options.labels).long()
    loss = LabelWiseEmbeddingDistillation(100, 1000, options.reduction)
    runs: Runs = {
        "plain_loop": lambda: plain_loop(student, teacher, targets, options.reduction).backward(),
        "edgepress": lambda: loss(student, teacher, targets).backward(),
        "gradient_floor": lambda: gradient_floor(student, targets),
    }
    after_other, after_itself = _measure(runs, student, options.rounds)
    value, gradient = _value_and_gradient(loss(student, teacher, targets), student)
    plain_value, plain_gradient = _value_and_gradient(plain_loop(student, teacher, targets, options.reduction), student)
    size = student.numel() * student.element_size()
    record = {
        **vars(options),
        "torch": torch.__version__,
        "median_seconds": {name: median["cpu_seconds"] for name, median in after_itself["medians"].items()},
        "ratio": after_itself["cpu_seconds"]["ratio"],
        "after_itself": after_itself,
        "after_other": after_other,
        "peak_extra_over_embeddings": {name: _peak_extra_bytes(run, student) / size for name, run in runs.items()},
        "value_difference": abs(value - plain_value) / abs(plain_value),
        "gradient_difference": float((gradient - plain_gradient).abs().max() / plain_gradient.abs().max()),
    }
    print(json.dumps(record, indent=2))


def plain_loop(student: Tensor, teacher: Tensor, targets: Tensor, reduction: str) -> Tensor:
    """100 · CD + 1000 · ID, a label and a picture at a time, as the formulas read."""
    least = 2 if reduction == "published" else 3
    total = student.new_zeros(())
    for weight, dim in ((100, 1), (1000, 0)):
        values = []
        for group in range(targets.shape[dim]):
            rows = targets.select(dim, group) == 1
            if (n := int(rows.sum())) >= least:
                h = _h(student.select(dim, group)[rows], teacher.select(dim, group)[rows])
                values.append(h if reduction == "published" else h / (n - 1))
        if values:
            total = total + weight * (sum(values) if reduction == "published" else sum(values) / len(values))
    return total


def _h(student: Tensor, teacher: Tensor) -> Tensor:
    return F.smooth_l1_loss(_distances(student), _distances(teacher), reduction="sum") / len(student)


def _distances(rows: Tensor) -> Tensor:
    squares = (rows[:, None] - rows[None]).pow(2).sum(dim=-1)
    distances = torch.where(squares > 0, torch.where(squares > 0, squares, 1).sqrt(), 0)
    return distances / distances[distances > 0].mean()


def gradient_floor(student: Tensor, targets: Tensor) -> None:
    """What any loss on the positive rows does at least: a dense gradient, zero but for those rows."""
    rows = targets.flatten().nonzero().squeeze(1)
    flat = student.detach().flatten(0, 1)
    values = flat[rows]
    student.grad = torch.zeros_like(flat).index_copy_(0, rows, values).view_as(student)


class _Sample(NamedTuple):
    wall_seconds: float
    cpu_seconds: float
    page_faults: int


def _measure(runs: Runs, student: Tensor, rounds: int) -> tuple[dict[str, dict], dict[str, dict]]:
    """Medians and ratios of the first run of each turn, then of the second."""
    samples: dict[str, list[list[_Sample]]] = {name: [[], []] for name in runs}
    for turn in range(rounds + 1):
        for name in ("plain_loop", "edgepress", "plain_loop", "gradient_floor"):
            for run in (0, 1):
                sample = _sample(runs[name], student)
                if turn:  # the first warms up
                    samples[name][run].append(sample)
    first, second = ({name: both[run] for name, both in samples.items()} for run in (0, 1))
    return _summary(first), _summary(second)


def _sample(run: Callable[[], None], student: Tensor) -> _Sample:
    student.grad = None
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return _Sample(wall, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults)


def _summary(samples: dict[str, list[_Sample]]) -> dict[str, dict]:
    medians = {
        name: {field: statistics.median(getattr(one, field) for one in taken) for field in _Sample._fields}
        for name, taken in samples.items()
    }
    summary: dict[str, dict] = {"medians": medians}
    for clock in ("wall_seconds", "cpu_seconds"):
        plain, ours, floor = (medians[name][clock] for name in ("plain_loop", "edgepress", "gradient_floor"))
        summary[clock] = {"ratio": plain / ours, "ratio_of_floor": plain / floor, "above_floor": ours - floor}
    return summary


def _peak_extra_bytes(run: Callable[[], None], student: Tensor) -> int:
    """The most that the run held beyond what was held before, the gradient included, from the profiler's trace."""
    student.grad = None
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    changes = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event["name"] == "[memory]")
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    assert student.grad is not None
    size = student.grad.numel() * student.grad.element_size()
    seen = any(change >= size for _, change in changes)
    return peak if seen else peak + size  # a gradient in pages of its own is none of the allocator's


def _value_and_gradient(value: Tensor, student: Tensor) -> tuple[float, Tensor]:
    student.grad = None
    value.backward()
    assert student.grad is not None
    return value.item(), student.grad.clone()


if __name__ == "__main__":
    main()
