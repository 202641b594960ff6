"""A training under way: what its steps change, one epoch of them, and how it is kept and resumed."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from timm.layers import convert_sync_batchnorm
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.utils.data import DataLoader

from edgepress.compress.checkpoint import load_state, save_state
from edgepress.compress.config import TrainConfig
from edgepress.compress.depthwise import small_depthwise
from edgepress.compress.frozen import SeenPictures, file_for
from edgepress.compress.gather import process_state
from edgepress.compress.loader import Batch, batches, mixed
from edgepress.compress.models import MultiLabelModel, channels_last
from edgepress.compress.progress import progress
from edgepress.compress.tasks import Task
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.errors import DivergedError, InputError
from edgepress.multilabel.facts import Epoch
from edgepress.multilabel.plural import plural

log = logging.getLogger("edgepress")
FEW_STEPS = 10
"""Number of steps below which a schedule that rises and falls has hardly begun."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The result of a training."""

    history: tuple[Epoch, ...]
    best_epoch: int
    """Counted from 0."""
    val_mAP: float

    @property
    def facts(self) -> dict[str, Any]:
        """What the trained model's bundle says about it, by the names of `Facts`, but for the val mAP."""
        return {"best_epoch": self.best_epoch + 1, "history": self.history}


class Learning:
    """A model, its task and its optimiser, with everything that a resumed training must have again.

    Args:
        model: trained in place; it is moved to the accelerator's device.
        loader: the training pictures.

    Raises:
        InputError: the pictures make no step, or there is no compiler for `torch_compile`.
    """

    def __init__(
        self, model: MultiLabelModel, task: Task, loader: DataLoader, config: TrainConfig, accelerator: Accelerator
    ) -> None:
        self.model, self.task, self.loader, self.config, self.accelerator = model, task, loader, config, accelerator
        device = accelerator.device
        if config.torch_compile:
            _require_compiler(device)
            model.compile()
        self.learner = _Learner(model, task, config)
        if device.type == "cuda" and accelerator.num_processes > 1:  # on a CPU it raises
            convert_sync_batchnorm(self.learner)  # torch's own drops the activation inside timm's batch norms
        channels_last(self.learner, device)
        self.frozen = config.backbone_lr_scale == 0
        """Whether the head is trained alone."""
        if self.frozen:
            model.backbone.requires_grad_(False)
        # Fused on a GPU, it would hide from accelerate which steps fp16 skipped.
        fused = device.type == "cpu"
        optimizer = torch.optim.AdamW(_groups(self.learner, config), lr=config.lr, fused=fused)
        self.ema = ModelEmaV3(model.to(device), decay=config.ema_decay, use_warmup=True)
        self.wrapped, self.optimizer, self.prepared = accelerator.prepare(self.learner, optimizer, loader)
        self.steps = -(-len(self.prepared) // config.accumulate)
        """Steps of the optimiser per epoch."""
        if self.steps == 0:
            pictures = plural(loader.dataset.labelled, "training picture makes", "training pictures make")
            raise InputError(
                f"{pictures} no step of {config.batch_size} in each of "
                f"{plural(accelerator.num_processes, 'process', 'processes')}; lower batch_size"
            )
        total = config.epochs * self.steps
        if total < FEW_STEPS:
            few = plural(total, "step of training changes", "steps of training change")
            log.warning("%s little: lower batch_size, or raise epochs", few)
        self.schedule = _schedule(self.optimizer, config, total)
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Tensor] = {}
        """The averaged weights of the epoch that was best on val."""
        self.best_epoch, self.step = -1, 0
        self.seen: SeenPictures | None = None

    @contextlib.contextmanager
    def seeing_once(self, folder: Path, inputs: str, val: int) -> Iterator[None]:
        """Until the block ends, keep what a frozen backbone makes of each picture, where that spares half of its work.

        It must be one process on a CPU: each of several sees other pictures in each epoch, and a GPU is taken to
        compute faster than a disk reads (not run on a GPU).

        Args:
            folder: for the file of what is kept.
            inputs: what `resume` and `save` are given.
            val: number of pictures that the training is judged on.
        """
        config, pictures = self.config, self.loader.dataset
        plain = not (config.torch_compile or config.mixup) and config.mixed_precision == "no" and self.task.taps is None
        alone = self.accelerator.device.type == "cpu" and self.accelerator.num_processes == 1
        ways = pictures.augmentation.ways
        often = ways is not None and config.epochs_trained >= 2 * ways and len(pictures) == pictures.labelled
        seen = None
        if self.frozen and plain and alone and often:
            shape = self.model.positions, self.model.head.in_features
            if file := file_for(folder, inputs, len(pictures) * ways + val, shape):
                seen = SeenPictures(file, shape)
        self.seen = self.model.seen = self.ema.module.seen = seen
        try:
            yield
        finally:
            self.seen = self.model.seen = self.ema.module.seen = None
            if seen is not None:
                seen.close()

    def resume(self, file: Path, inputs: str) -> None:
        """Continue from a state that `save` wrote for the same inputs, if there is one.

        Raises:
            InputError: it was begun with another number of steps per epoch.
        """
        state = load_state(file, inputs)
        if not state:
            return
        if state["steps"] != self.steps:
            raise InputError(
                f"{file}: begun with {plural(state['steps'], 'step')} an epoch, this launch makes {self.steps}; "
                f"start as many processes as before, or remove it to begin again"
            )
        self.model.load_state_dict(state["model"])
        self.task.load_state_dict(state["task"])
        self.ema.module.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.history, self.best = state["history"], state["best"]
        self.best_epoch, self.step = state["best_epoch"], state["step"]
        if self.seen is not None and (index := state.get("seen")) is not None:
            self.seen.index = index
        log.info("resumed after epoch %d of %d", len(self.history), self.config.epochs_trained)

    def save(self, file: Path, inputs: str) -> None:
        """Write what `resume` reads."""
        scaler = self.accelerator.scaler
        save_state(
            file,
            {
                "inputs": inputs,
                "steps": self.steps,
                "model": self.model.state_dict(),
                "task": self.task.state_dict(),
                "ema": self.ema.module.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "scaler": scaler.state_dict() if scaler is not None else {},
                "history": self.history,
                "best": self.best,
                "best_epoch": self.best_epoch,
                "step": self.step,
                "seen": None if self.seen is None else self.seen.index,
            },
        )

    def epoch(self, number: int) -> Sums:
        """Learn from every training picture once."""
        set_seed(self.config.seed + number, device_specific=True)  # the dropout and drop-path of this epoch
        self.learner.train()
        if self.frozen:
            self.model.backbone.eval()  # or its batch norms would learn from these pictures
        sums = Sums()
        title = f"epoch {number + 1}/{self.config.epochs_trained}"
        with progress(self.accelerator, title, len(self.prepared)) as advance:
            for batch in batches(self.prepared, number, self.loader):
                sums.add(self._learn(batch, number, sums.batches), self.task.counts)
                advance()
        return sums

    def _learn(self, batch: Batch, epoch: int, count: int) -> dict[str, Tensor]:
        """Learn from one batch, the `count`-th of its epoch; returns the terms of its loss."""
        config, accelerator = self.config, self.accelerator
        with accelerator.accumulate(self.wrapped):
            # Losses convert what they need to float32 themselves.
            with accelerator.autocast(), small_depthwise(accelerator.device, compiled=config.torch_compile):
                terms = self.wrapped(batch)
            loss = torch.stack(list(terms.values())).sum()
            _require_finite(loss, terms, self.learner.logits, epoch, count, batch, self.loader.dataset.data)
            # accelerate divides by `accumulate`; the last group of an epoch may be smaller.
            group = min(config.accumulate, len(self.prepared) - count // config.accumulate * config.accumulate)
            accelerator.backward(loss * (config.accumulate / group))
            self.optimizer.step()
            self.optimizer.zero_grad()
        if accelerator.sync_gradients:
            if not accelerator.optimizer_step_was_skipped:  # fp16 skips a step whose gradients overflowed
                self.schedule.step()
            self.ema.update(self.model, step=self.step)
            self.step += 1
        return terms

    def averaged(self) -> MultiLabelModel:
        """The model with averaged weights, alike in all processes."""
        _share_statistics(self.ema.module, self.accelerator)
        return self.ema.module

    def keep(self, entry: dict[str, float]) -> bool:
        """Add an epoch to the history, and keep the averaged weights if it is the best on val so far.

        Returns:
            Whether it is.
        """
        best = not self.history or entry["val_mAP"] > self.history[self.best_epoch]["val_mAP"]
        if best:
            self.best_epoch = len(self.history)
            self.best = {key: tensor.detach().cpu().clone() for key, tensor in self.ema.module.state_dict().items()}
        self.history.append(entry)
        return best

    def finish(self) -> Trained:
        """Give the model the averaged weights of the epoch that was best on val."""
        self.model.load_state_dict(self.best)
        self.model.eval()
        if self.frozen:
            self.model.backbone.requires_grad_(True)
        history = tuple(map(Epoch.model_validate, self.history))
        return Trained(history=history, best_epoch=self.best_epoch, val_mAP=history[self.best_epoch].val_mAP)


class Sums:
    """The terms of the loss and the task's counts, summed over the batches of an epoch."""

    def __init__(self) -> None:
        self.batches = 0
        self.terms: dict[str, Tensor] = {}
        self.counts: dict[str, Any] = {}

    def add(self, terms: dict[str, Tensor], counts: dict[str, Any]) -> None:
        self.batches += 1
        for name, term in terms.items():
            self.terms[name] = self.terms[name] + term.detach() if name in self.terms else term.detach()
        for name, count in counts.items():
            self.counts[name] = self.counts.get(name, 0) + count

    def means(self, accelerator: Accelerator) -> dict[str, float]:
        """The mean of every term over the batches of all processes."""
        return {name: float(accelerator.reduce(total / self.batches, "mean")) for name, total in self.terms.items()}

    @property
    def rows_per_batch(self) -> dict[str, float]:
        """The number of labels and pictures per batch with enough rows to teach their structure."""
        return {name: float(total) / self.batches for name, total in self.counts.items()}


def _share_statistics(model: nn.Module, accelerator: Accelerator) -> None:
    """Use the first process's batch statistics, which are saved, because each process saw other pictures."""
    if accelerator.num_processes > 1:
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, src=0)


def _groups(learner: _Learner, config: TrainConfig) -> list[dict]:
    """The optimiser's groups: norms and biases have no weight decay, and the backbone may have a rate of its own."""
    scales: dict[float, list[nn.Parameter]] = {1.0: []}
    backbone = set(learner.model.backbone.parameters()) if config.backbone_lr_scale != 1 else set()
    for parameter in learner.parameters():
        if parameter.requires_grad:
            scales.setdefault(config.backbone_lr_scale if parameter in backbone else 1.0, []).append(parameter)
    return [
        {"params": [p for p in some if (p.ndim >= 2) == decays], "weight_decay": decay, "lr": config.lr * scale}
        for scale, some in scales.items()
        for decays, decay in ((True, config.weight_decay), (False, 0.0))
    ]


def _schedule(optimizer: Any, config: TrainConfig, total: int) -> torch.optim.lr_scheduler.LRScheduler:
    """OneCycle over all steps; a single step gets the full rate, because the last rate of a cycle is almost 0."""
    if total == 1:
        return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    # torch divides by the rise's length minus 1: a rise of exactly one step is made slightly longer.
    pct_start = config.pct_start * (1.01 if abs(config.pct_start * total - 1) < 1e-9 else 1)
    peaks = [group["lr"] for group in optimizer.param_groups]
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, peaks, total_steps=total, pct_start=pct_start)


_COMPILERS = {"cpu": ("C++", "CXX", ("g++", "clang++")), "cuda": ("C", "CC", ("gcc", "clang"))}
"""What torch.compile needs by kind of device: Triton compiles a launcher for every kernel of a GPU."""


def _require_compiler(device: torch.device) -> None:
    language, variable, names = _COMPILERS.get(device.type, _COMPILERS["cpu"])
    if not any(shutil.which(name) for name in (os.environ.get(variable), *names) if name):
        raise InputError(
            f"torch_compile on {device.type} needs a {language} compiler and finds neither {' nor '.join(names)} nor "
            f"${variable} here"
        )


class _Learner(nn.Module):
    """Model and task as one module, for code that wraps modules: several processes, mixed precision."""

    def __init__(self, model: MultiLabelModel, task: Task, config: TrainConfig) -> None:
        super().__init__()
        self.model, self.task, self.config = model, task, config
        self.logits: Tensor | None = None
        """Logits of the last batch, without gradient."""

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        if self.config.mixup:
            batch = mixed(batch, self.config.seed, self.config.mixup)
        logits, *more = self.model(batch.images)
        self.logits = logits.detach()
        return self.task(batch, logits, *more)


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
    raise DivergedError(
        f"loss is not finite: {', '.join(bad)} in epoch {epoch + 1}, step {step + 1}, "
        f"pictures{whose} {', '.join(names[:_NAMES])}{more}; "
        f"lower lr or the term's weight, or use mixed_precision no or bf16; the last finished epoch is kept"
    )


_NAMES = 8
"""Number of pictures that a message names."""
