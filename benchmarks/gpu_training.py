"""Pictures a second of a training on the device that is here, the share of it that waits for data, and the memory.

    .venv/bin/python -m benchmarks.gpu_training distill examples/clipart-sample --mixed-precision bf16 --torch-compile

Weights are random, because time does not depend on them. The first epoch warms up and compiles; then whole epochs are
timed until `--seconds` have passed. The loop waits for the device in every step, as a training does, because it looks
whether the loss is finite; so the time spent in waiting for the next batch is time in which the device has no work.
Prints one JSON object. `benchmarks/gpu.py` starts this for every precision. Not run on a GPU.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgepress.compress.config import DistillConfig, TeachConfig
from edgepress.compress.learning import Learning
from edgepress.compress.loader import make_loader
from edgepress.compress.models import MultiLabelModel, make_model
from edgepress.compress.tasks import DistillTask, Task, TeachTask
from edgepress.compress.teacher import LiveTeacher
from edgepress.compress.training import augmentation_of, make_accelerator, workers_of
from edgepress.multilabel.datasets import MultiLabelDataset, load_dataset

MOST_EPOCHS = 1000
"""The schedule of learning rates has an end, which a measurement does not reach."""
MOST_WAITING = 0.05
"""The share of a step that may wait for data."""


class Waited:
    """A loader that counts the seconds in which its next batch was waited for."""

    def __init__(self, loader: Any) -> None:
        self._loader, self.seconds = loader, 0.0

    def __iter__(self) -> Iterator[Any]:
        coming = iter(self._loader)
        while True:
            began = time.perf_counter()
            try:
                batch = next(coming)
            except StopIteration:
                return
            finally:
                self.seconds += time.perf_counter() - began
            yield batch

    def __len__(self) -> int:
        return len(self._loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


def measure(
    train: MultiLabelDataset, config: TeachConfig | DistillConfig, teacher: TeachConfig, seconds: float
) -> dict[str, Any]:
    """Train for whole epochs until `seconds` have passed, after one that warms up.

    Args:
        teacher: what teaches if the configuration is a student's; its weights are random.
    """
    accelerator = make_accelerator(config)
    device = accelerator.device
    model, _ = make_model(config, train.labels)
    teaching: MultiLabelModel | None = None
    task: Task
    if isinstance(config, TeachConfig):
        task = TeachTask(config, train)
    else:
        model.label_wise = config.compares_embeddings
        teaching = make_model(teacher, train.labels)[0].to(device)
        task = DistillTask(config, LiveTeacher(teaching), model, train)
    loader = make_loader(
        train,
        [model.preprocess, *([] if teaching is None else [teaching.preprocess])],
        batch_size=config.batch_size,
        workers=workers_of(config, device),
        augmentation=augmentation_of(config, model.preprocess.interpolation),
        device=device,
    )
    learning = Learning(model, task, loader, config, accelerator)
    began = time.perf_counter()
    learning.epoch(0).means(accelerator)
    warm = time.perf_counter() - began
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    learning.prepared = waited = Waited(learning.prepared)
    began, epochs, terms = time.perf_counter(), 0, {}
    while time.perf_counter() - began < seconds:
        epochs += 1
        terms = learning.epoch(epochs).means(accelerator)  # a number is read, so the device has finished
    took = time.perf_counter() - began
    pictures = epochs * len(loader) * config.batch_size
    share = waited.seconds / took
    return {
        "device": _named(device),
        "workers": loader.num_workers,
        "pictures_per_second": round(pictures / took, 1),
        "epochs": epochs,
        "seconds": round(took, 2),
        "seconds_of_the_first_epoch": round(warm, 2),
        "share_waiting_for_data": round(share, 4),
        "waits_little": share < MOST_WAITING,
        "channels_last": _channels_last(model),
        "memory_mb": _memory(device),
        "terms": {name: round(value, 5) for name, value in terms.items()},
    }


def _named(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _memory(device: torch.device) -> dict[str, float] | None:
    """The most that tensors held on the device, and that was taken for them, in MB; None on a processor."""
    if device.type != "cuda":
        return None
    most = {"allocated": torch.cuda.max_memory_allocated(device), "reserved": torch.cuda.max_memory_reserved(device)}
    return {name: round(value / 2**20, 1) for name, value in most.items()}


def _channels_last(model: MultiLabelModel) -> bool:
    """Whether the first convolution with a window lies in memory by pictures, rows, columns and channels."""
    weights = (one for one in model.parameters() if one.ndim == 4 and one.shape[2] > 1 and one.shape[1] > 1)
    return next(weights).is_contiguous(memory_format=torch.channels_last)


def main(arguments: list[str]) -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("role", choices=["teach", "distill"])
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone", default=None, help="by default resnet101 for teach, tf_efficientnet_lite0")
    parser.add_argument("--teacher", default="resnet101", help="the teacher's backbone, for distill")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--mixed-precision", choices=["no", "bf16", "fp16"], default="no")
    parser.add_argument("--torch-compile", action="store_true")
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--repeat", type=int, default=8, help="how often an epoch shows each picture")
    options = parser.parse_args(arguments)
    shared: dict[str, Any] = {
        "weights": "none",
        "size": options.size,
        "epochs": MOST_EPOCHS,
        **{name: getattr(options, name) for name in ("batch_size", "mixed_precision", "torch_compile", "workers")},
    }
    data = load_dataset(options.data, "train")
    train = data.subset(np.tile(np.arange(len(data)), options.repeat))
    teacher = TeachConfig(**{**shared, "backbone": options.teacher})
    config: TeachConfig | DistillConfig = teacher
    if options.role == "distill":
        config = DistillConfig(**shared, backbone=options.backbone or "tf_efficientnet_lite0", mld=1, cd=0.1, id=0.1)
    elif options.backbone is not None:
        config = TeachConfig(**{**shared, "backbone": options.backbone})
    json.dump(measure(train, config, teacher, options.seconds), sys.stdout, indent=2)


if __name__ == "__main__":
    main(sys.argv[1:])
