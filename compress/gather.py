"""The whole batch in every process, so that a loss between pictures sees all of them and means are exact.

Every process computes the same loss of the global batch. DistributedDataParallel then averages the processes'
gradients, each of which contains only what flowed back into its own pictures: `gathered` multiplies by the number of
processes, and the average becomes the gradient of the global loss.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import gather_object
from torch import Tensor

from edgepress.compress.loader import Batch
from edgepress.compress.mixup import Mix
from edgepress.multilabel.errors import DataChangedError


def launched_on_cpu() -> bool:
    """Whether a launcher started several processes on a machine without a GPU.

    accelerate must be told so; otherwise each process assumes that it is the only one.
    """
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.cuda.is_available()


def process_state() -> PartialState:
    """The state of this process among those of its launch."""
    return PartialState(cpu=launched_on_cpu())


def processes() -> int:
    """Number of processes that train together; 1 without a launcher."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def require_same(inputs: str, root: Path) -> None:
    """Raise an error, in every process, if those of a launch read different pictures, labels or settings.

    Args:
        inputs: hash of everything from which this process is about to learn.
        root: the data set's folder, for the message.

    Raises:
        DataChangedError: they differ.
    """
    if processes() > 1 and len(set(gather_object([inputs]))) > 1:
        raise DataChangedError(
            f"{root}: the processes of this launch read different pictures or labels there, or were given other "
            "settings; start the same command again"
        )


def gathered(rows: Tensor) -> Tensor:
    """Collect `[B, ...]` of every process into `[processes · B, ...]`, in the order of ranks, with gradient.

    B must be the same in every process.
    """
    if processes() == 1:
        return rows
    return _Gather.apply(rows)


def global_batch(batch: Batch) -> Batch:
    """A batch whose targets, masks and indices are those of all processes; its pictures remain this process's own."""
    if processes() == 1:
        return batch
    with torch.no_grad():
        shared = ("targets", "ignore", "labelled", "index")
        mix = batch.mix
        if mix is not None:
            mix = Mix(gathered(mix.partner + dist.get_rank() * len(mix.partner)), gathered(mix.share))
        return replace(batch, mix=mix, **{name: gathered(getattr(batch, name)) for name in shared})


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows: Tensor) -> Tensor:
        ctx.count = len(rows)
        parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(processes())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor) -> Tensor:
        begin = dist.get_rank() * ctx.count
        return grad[begin : begin + ctx.count] * processes()
