"""fit: the only training loop, for teacher and student alike.

A task returns the loss terms by name, so the loop does not know the method. Weights are averaged (EMA) and validated
after every epoch, and the epoch that is best on val is kept. Seed, epoch and pictures determine all random values, so a
run that was killed and then resumed at its last finished epoch ends like an undisturbed one.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import DataLoaderConfiguration
from torch.utils.tensorboard import SummaryWriter

from edgepress.compress.augmentation import Augmentation
from edgepress.compress.config import DistillConfig, TeachConfig, TrainConfig
from edgepress.compress.gather import launched_on_cpu
from edgepress.compress.held_memory import held_memory
from edgepress.compress.learning import Learning, Trained
from edgepress.compress.loader import batches, make_loader
from edgepress.compress.models import MultiLabelModel
from edgepress.compress.progress import report_epoch
from edgepress.compress.tasks import Task
from edgepress.compress.teacher import AnyTeacher
from edgepress.compress.threads import keep_to_cores
from edgepress.multilabel.cores import cores
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.metrics import mean_average_precision
from edgepress.multilabel.preprocess import Preprocess
from edgepress.multilabel.resampling import Interpolation

log = logging.getLogger("edgepress")

STATE = "state.pt"


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
        # From page-locked memory (`make_loader`) a batch is copied to a GPU while the step before it computes.
        dataloader_config=DataLoaderConfiguration(non_blocking=True),
    )
    if config.mixed_precision == "fp16" and accelerator.device.type == "cpu":
        raise InputError("mixed_precision is fp16, which needs a GPU; there is none here: use bf16 or no")
    return accelerator


def workers_of(config: TrainConfig, device: torch.device) -> int:
    """Number of processes that read pictures for this device; by default no more than there are cores for."""
    if config.workers is not None:
        return config.workers
    return 0 if device.type == "cpu" else min(4, cores())


def augmentation_of(config: TrainConfig, interpolation: Interpolation) -> Augmentation:
    """The augmentation of training pictures that a configuration specifies.

    Args:
        interpolation: the learning model's own.
    """
    same = ("augment", "flip", "cutout", "seed", "resize_jitter", "random_crop", "variations")
    return Augmentation(interpolation=interpolation, **{name: getattr(config, name) for name in same})


@held_memory()
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
) -> Trained:
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
    loader = make_loader(
        train,
        [model.preprocess] + ([teacher_preprocess] if teacher_preprocess else []),
        batch_size=config.batch_size,
        workers=workers_of(config, accelerator.device),
        augmentation=augmentation_of(config, model.preprocess.interpolation),
        augment_size=augment_size,
        device=accelerator.device,
        unlabelled=unlabelled,
        unlabelled_share=unlabelled_share,
    )
    learning = Learning(model, task, loader, config, accelerator)
    with learning.seeing_once(work, inputs, len(val)):
        learning.resume(work / STATE, inputs)
        return _trained(learning, val, work, inputs)


def _trained(learning: Learning, val: MultiLabelDataset, work: Path, inputs: str) -> Trained:
    """The epochs that are still to come, each of which is judged on val and saved."""
    config, accelerator = learning.config, learning.accelerator
    main = accelerator.is_main_process
    writer = SummaryWriter(str(work / "tensorboard"), purge_step=learning.step) if main else None
    for epoch in range(len(learning.history), config.epochs_trained):
        started = time.perf_counter()
        sums = learning.epoch(epoch)
        trained = time.perf_counter()
        val_map = evaluate(learning.averaged(), val, config, accelerator)
        terms = sums.means(accelerator)
        entry = {"loss": sum(terms.values()), **terms, "val_mAP": val_map, "seconds": time.perf_counter() - started}
        best = learning.keep(entry | sums.rows_per_batch)
        if writer:
            rate = sums.batches * config.batch_size * accelerator.num_processes / (trained - started)
            report_epoch(writer, learning.history, learning.step, config.epochs_trained, best, rate)
        if main:
            learning.save(work / STATE, inputs)
        accelerator.wait_for_everyone()
    if writer:
        writer.close()
    return learning.finish()


@held_memory()
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
    return mean_average_precision(
        data.targets, data.scores(predict_logits(model, data, config, accelerator)), data.ignore
    )


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
