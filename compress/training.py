"""fit: the only training loop, for teacher and student alike.

A task returns the loss terms by name, so the loop does not know the method. Weights are averaged (EMA) and validated
after every epoch, and the epoch that is best on val is kept. Seed, epoch and pictures determine all random values, so a
run that was killed and then resumed at its last finished epoch ends like an undisturbed one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from timm.layers import convert_sync_batchnorm
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from edgepress.compress.checkpoint import load_state, save_state
from edgepress.compress.config import DistillConfig, TeachConfig, TrainConfig
from edgepress.compress.gather import launched_on_cpu, process_state
from edgepress.compress.loader import Augmentation, Batch, batches, make_loader
from edgepress.compress.models import MultiLabelModel
from edgepress.compress.progress import progress, report_epoch
from edgepress.compress.tasks import Task
from edgepress.compress.teacher import AnyTeacher
from edgepress.compress.threads import keep_to_cores
from edgepress.multilabel.cores import cores
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.facts import Epoch
from edgepress.multilabel.metrics import mean_average_precision
from edgepress.multilabel.preprocess import Preprocess

log = logging.getLogger("edgepress")


STATE = "state.pt"
FEW_STEPS = 10
"""Number of steps below which a schedule that rises and falls has hardly begun."""


@dataclass(frozen=True)
class Fit:
    """The result of a training."""

    history: tuple[Epoch, ...]
    best_epoch: int
    val_mAP: float


def make_accelerator(config: TrainConfig) -> Accelerator:
    """Set up device, mixed precision and processes as `accelerate launch` specifies them, within the allowed cores."""
    keep_to_cores()
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != config.mixed_precision:
        AcceleratorState._reset_state()  # a run may teach and distil in different precisions
    # timm keeps layers behind the feature map that label-wise heads do not use.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    accelerator = Accelerator(
        mixed_precision=config.mixed_precision,
        gradient_accumulation_steps=config.accumulate,
        cpu=launched_on_cpu(),
        kwargs_handlers=[unused],
    )
    if config.mixed_precision == "fp16" and accelerator.device.type == "cpu":
        raise InputError("mixed_precision is fp16, which needs a GPU; there is none here: use bf16 or no")
    return accelerator


def workers_of(config: TrainConfig, device: torch.device) -> int:
    """Number of processes that read pictures for this device; by default no more than there are cores for."""
    if config.workers is not None:
        return config.workers
    return 0 if device.type == "cpu" else min(4, cores())


def augmentation_of(config: TrainConfig) -> Augmentation:
    """The augmentation of training pictures that a configuration specifies."""
    same = ("augment", "flip", "cutout", "seed", "variations")
    return Augmentation(**{name: getattr(config, name) for name in same})


def fit(
    model: MultiLabelModel,
    task: Task,
    train: MultiLabelDataset,
    val: MultiLabelDataset,
    config: TrainConfig,
    work: Path,
    *,
    inputs: str,
    accelerator: Accelerator,
    teacher_preprocess: Preprocess | None = None,
    augment_size: int | None = None,
    unlabelled: MultiLabelDataset | None = None,
    unlabelled_share: float = 0.5,
) -> Fit:
    """Train `model` in place; when it returns, the model holds the averaged weights of the epoch that was best on val.

    Args:
        work: a folder for the training state and TensorBoard's scalars; a state in it that was made from the same
            `inputs` is continued.
        teacher_preprocess: set if the task needs the teacher's view of each picture.
        augment_size: the side at which pictures are augmented; by default the larger of the two inputs.
        unlabelled: pictures that nobody labelled, for tasks that learn from a teacher.
        unlabelled_share: their share of each batch.

    Raises:
        InputError: a picture cannot be read (the message names it), or a loss is not finite (with the term and step).
    """
    device = accelerator.device
    preprocess = [model.preprocess] + ([teacher_preprocess] if teacher_preprocess else [])
    augmentation = augmentation_of(config)
    train_loader = make_loader(
        train,
        preprocess,
        batch_size=config.batch_size,
        workers=workers_of(config, device),
        augmentation=augmentation,
        augment_size=augment_size,
        device=device,
        unlabelled=unlabelled,
        unlabelled_share=unlabelled_share,
    )
    if config.torch_compile:
        _require_compiler(device)
        model.compile()
    learner = _Learner(model, task)
    if device.type == "cuda":
        model.to(memory_format=torch.channels_last)  # pixels are stored as NHWC
        if accelerator.num_processes > 1:  # on a CPU it raises
            convert_sync_batchnorm(learner)  # torch's own drops the activation inside timm's batch norms
    optimizer = torch.optim.AdamW(_decay_groups(learner, config.weight_decay), lr=config.lr)
    ema = ModelEmaV3(model.to(device), decay=config.ema_decay, use_warmup=True)
    wrapped, optimizer, prepared = accelerator.prepare(learner, optimizer, train_loader)
    steps = -(-len(prepared) // config.accumulate)
    if steps == 0:
        raise InputError(
            f"{len(train)} training pictures make no step of {config.batch_size} in each of "
            f"{accelerator.num_processes} processes; lower batch_size"
        )
    total = config.epochs * steps
    if total < FEW_STEPS:
        log.warning("%d steps of training change little: lower batch_size, or raise epochs", total)
    schedule = _schedule(optimizer, config, total)

    state = load_state(work / STATE, inputs)
    history: list[dict[str, float]] = []
    best: dict[str, Tensor] = {}
    best_epoch, step = -1, 0
    if state and state["steps"] != steps:
        raise InputError(
            f"{work / STATE}: begun with {state['steps']} steps an epoch, this launch makes {steps}; "
            f"start as many processes as before, or remove it to begin again"
        )
    if state:
        model.load_state_dict(state["model"])
        task.load_state_dict(state["task"])
        ema.module.load_state_dict(state["ema"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        if accelerator.scaler is not None:
            accelerator.scaler.load_state_dict(state["scaler"])
        history, best, best_epoch, step = state["history"], state["best"], state["best_epoch"], state["step"]
        log.info("resumed after epoch %d of %d", len(history), config.epochs)

    writer = SummaryWriter(str(work / "tensorboard"), purge_step=step) if accelerator.is_main_process else None
    for epoch in range(len(history), config.epochs):
        set_seed(config.seed + epoch, device_specific=True)  # the dropout and drop-path of this epoch
        learner.train()
        started, count = time.perf_counter(), 0
        sums: dict[str, Tensor] = {}
        groups: dict[str, Tensor] = {}
        with progress(accelerator, f"epoch {epoch + 1}/{config.epochs}", len(prepared)) as advance:
            for batch in batches(prepared, epoch, train_loader):
                with accelerator.accumulate(wrapped):
                    with accelerator.autocast():  # losses convert what they need to float32 themselves
                        terms = wrapped(batch)
                    loss = torch.stack(list(terms.values())).sum()
                    _require_finite(loss, terms, learner.logits, epoch, count, batch, train_loader.dataset.data)
                    # accelerate divides by `accumulate`; the last group of an epoch may be smaller.
                    group = min(config.accumulate, len(prepared) - count // config.accumulate * config.accumulate)
                    accelerator.backward(loss * (config.accumulate / group))
                    optimizer.step()
                    optimizer.zero_grad()
                if accelerator.sync_gradients:
                    if not accelerator.optimizer_step_was_skipped:  # fp16 skips a step whose gradients overflowed
                        schedule.step()
                    ema.update(model, step=step)
                    step += 1
                count += 1
                for name, term in terms.items():
                    sums[name] = sums[name] + term.detach() if name in sums else term.detach()
                for name, groups_now in task.counts.items():
                    groups[name] = groups.get(name, 0) + groups_now
                advance()
        train_seconds = time.perf_counter() - started
        _share_statistics(ema.module, accelerator)
        val_map = evaluate(ema.module, val, config, accelerator)
        if epoch == 0 or val_map > history[best_epoch]["val_mAP"]:
            best_epoch = epoch
            best = {key: tensor.detach().cpu().clone() for key, tensor in ema.module.state_dict().items()}
        entry = {name: float(accelerator.reduce(total / count, "mean")) for name, total in sums.items()}
        entry = {"loss": sum(entry.values()), **entry, "val_mAP": val_map, "seconds": time.perf_counter() - started}
        # The number of labels and pictures per step with enough rows to teach their structure.
        entry |= {name: float(total) / count for name, total in groups.items()}
        history.append(entry)
        if writer:
            rate = count * config.batch_size * accelerator.num_processes / train_seconds
            report_epoch(writer, entry, epoch, step, config, best_epoch == epoch, rate)
        if accelerator.is_main_process:
            scaler = accelerator.scaler.state_dict() if accelerator.scaler is not None else {}
            save_state(
                work / STATE,
                {
                    "inputs": inputs,
                    "steps": steps,
                    "model": model.state_dict(),
                    "task": task.state_dict(),
                    "ema": ema.module.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "schedule": schedule.state_dict(),
                    "scaler": scaler,
                    "history": history,
                    "best": best,
                    "best_epoch": best_epoch,
                    "step": step,
                },
            )
        accelerator.wait_for_everyone()
    if writer:
        writer.close()
    model.load_state_dict(best)
    model.eval()
    return Fit(tuple(map(Epoch.model_validate, history)), best_epoch, history[best_epoch]["val_mAP"])


@torch.inference_mode()
def predict_logits(
    model: AnyTeacher, data: MultiLabelDataset, config: TrainConfig, accelerator: Accelerator
) -> np.ndarray:
    """Logits float32 `[N, C]` of a split, in order, gathered from all processes without the padding at the end."""
    model.eval()
    loader = make_loader(
        data,
        [model.preprocess],
        batch_size=config.batch_size,
        workers=workers_of(config, accelerator.device),
        device=accelerator.device,
    )
    gathered = []
    for batch in batches(accelerator.prepare_data_loader(loader), 0, loader):
        with accelerator.autocast():
            logits = model.logits(batch.images)
        gathered.append(accelerator.gather_for_metrics(logits.float()).cpu())
    return torch.cat(gathered).numpy()


def evaluate(model: AnyTeacher, data: MultiLabelDataset, config: TrainConfig, accelerator: Accelerator) -> float:
    """mAP in [0, 1] of a model on a split."""
    return mean_average_precision(data.targets, predict_logits(model, data, config, accelerator), data.ignore)


def _share_statistics(model: nn.Module, accelerator: Accelerator) -> None:
    """Use the first process's batch statistics, which are saved, because each process saw other pictures."""
    if accelerator.num_processes > 1:
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, src=0)


def _decay_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Exclude norms and biases from weight decay."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]


def _schedule(optimizer: Any, config: TrainConfig, total: int) -> torch.optim.lr_scheduler.LRScheduler:
    """OneCycle over all steps; a single step gets the full rate, because the last rate of a cycle is almost 0."""
    if total == 1:
        return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    # torch divides by the rise's length minus 1: a rise of exactly one step is made slightly longer.
    pct_start = config.pct_start * (1.01 if abs(config.pct_start * total - 1) < 1e-9 else 1)
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=total, pct_start=pct_start)


def _require_compiler(device: torch.device) -> None:
    compilers = (os.environ.get("CXX"), "g++", "clang++")
    if device.type == "cpu" and not any(shutil.which(name) for name in compilers if name):
        raise InputError("torch_compile on a CPU needs a C++ compiler and finds neither g++ nor clang++ nor $CXX here")


class _Learner(nn.Module):
    """Model and task as one module, for code that wraps modules: several processes, mixed precision."""

    def __init__(self, model: MultiLabelModel, task: Task) -> None:
        super().__init__()
        self.model, self.task = model, task
        self.logits: Tensor | None = None
        """Logits of the last batch, without gradient."""

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        logits, embeddings = self.model(batch.images)
        self.logits = logits.detach()
        return self.task(batch, logits, embeddings)


def _require_finite(
    loss: Tensor,
    terms: dict[str, Tensor],
    logits: Tensor | None,
    epoch: int,
    step: int,
    batch: Batch,
    data: MultiLabelDataset,
) -> None:
    if torch.isfinite(loss):
        return
    bad = [name for name, term in terms.items() if not torch.isfinite(term)]
    index = batch.index
    if logits is not None and not torch.isfinite(logits).all():  # then only some pictures are to blame
        index = index[~torch.isfinite(logits).all(dim=1)]
    names = [data.paths[int(place)].name for place in index]
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    # The term may cover all processes' pictures; gathering their names would hang if only this one failed.
    state = process_state()
    whose = f" of process {state.process_index + 1} of {state.num_processes}" if state.num_processes > 1 else ""
    raise InputError(
        f"loss is not finite: {', '.join(bad)} in epoch {epoch + 1}, step {step + 1}, "
        f"pictures{whose} {', '.join(names[:_NAMES])}{more}; "
        f"lower lr or the term's weight, or use mixed_precision no or bf16; the last finished epoch is kept"
    )


_NAMES = 8
"""Number of pictures that a message names."""


@contextlib.contextmanager
def memory_told(config: TeachConfig | DistillConfig, device: torch.device) -> Iterator[None]:
    """Report a device that is full, with the settings to lower.

    Raises:
        InputError: the block ran out of memory.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        first = " ".join(str(error).split())[:160]
        raise InputError(
            f"{device} is out of memory with batch_size {config.batch_size} at {config.size} px, "
            f"mixed_precision {config.mixed_precision}: lower batch_size (and raise accumulate as much, to keep the "
            f"step), or size, or use mixed_precision bf16; the last finished epoch is kept ({first})"
        ) from error
