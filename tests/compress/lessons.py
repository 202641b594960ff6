"""Small teachers and students, and what tests of training do with them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch

from edgepress.compress.config import DistillConfig, TeachConfig
from edgepress.compress.learning import Trained
from edgepress.compress.loader import Batch
from edgepress.compress.models import MultiLabelModel, make_model
from edgepress.compress.tasks import TeachTask
from edgepress.compress.training import fit, make_accelerator
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.labels import LabelSpace

LABELS = LabelSpace(("a", "b", "c", "d"))
COMMON = {"weights": "none", "batch_size": 8, "workers": 0, "epochs": 1, "ema_decay": 0.5, "lr": 5e-3}
TEACHER = TeachConfig(backbone="test_vit", size=64, width=64, **COMMON)
STUDENT = DistillConfig(backbone="test_efficientnet", size=32, width=32, mld=1, cd=0.1, id=0.1, review_kd=0, **COMMON)

TRAIN = MultiLabelDataset(
    root=Path("none"),
    split="train",
    labels=LABELS,
    paths=[Path(f"{number}.jpg") for number in range(4)],
    targets=np.array([[1, 0, 0, 1], [1, 0, 1, 0], [1, 0, 0, 0], [0, 0, 1, 0]], np.uint8),
    ignore=np.array([[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]], bool),
)
"""Counted for positive weights; its pictures are not read."""

QUICK = {
    "backbone": "test_efficientnet",
    "weights": "none",
    "width": 32,
    "size": 32,
    "batch_size": 8,
    "workers": 0,
    "lr": 5e-3,
    "ema_decay": 0.5,
}


def with_labels(data: MultiLabelDataset, names: tuple[str, ...]) -> MultiLabelDataset:
    return MultiLabelDataset(
        root=data.root,
        split=data.split,
        labels=LabelSpace(names),
        paths=data.paths,
        targets=data.targets,
        ignore=data.ignore,
    )


def updated(config, **changes):
    return type(config)(**{**config.model_dump(), **changes})


def models() -> tuple[MultiLabelModel, MultiLabelModel]:
    torch.manual_seed(0)
    return make_model(TEACHER, LABELS)[0], make_model(STUDENT, LABELS)[0]


def random_batch(ignored: float = 0.0) -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch(
        images=torch.randint(0, 256, (6, 32, 32, 3), dtype=torch.uint8, generator=generator),
        teacher_images=torch.randint(0, 256, (6, 64, 64, 3), dtype=torch.uint8, generator=generator),
        targets=(torch.rand(6, 4, generator=generator) < 0.7).float(),
        ignore=torch.rand(6, 4, generator=generator) < ignored,
        labelled=torch.ones(6, dtype=torch.bool),
        index=torch.arange(6),
        epoch=0,
    )


def with_arrays(data: MultiLabelDataset, **arrays: np.ndarray) -> MultiLabelDataset:
    fields = ("root", "split", "labels", "paths", "targets", "ignore")
    return MultiLabelDataset(**{**{name: getattr(data, name) for name in fields}, **arrays})


def run_fit(
    splits, work: Path, task=None, inputs: str = "same", seed: int = 0, **settings
) -> tuple[MultiLabelModel, Trained, TeachConfig]:
    config = TeachConfig(**{**QUICK, "epochs": 2, "seed": seed, **settings})
    torch.manual_seed(seed)
    model, _ = make_model(config, splits[0].labels)
    work.mkdir(parents=True, exist_ok=True)
    task = task or TeachTask(config, splits[0])
    accelerator = make_accelerator(config)
    result = fit(model, task, *splits, config, work, inputs=inputs, accelerator=accelerator)
    return model, result, config


def content(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        path.relative_to(folder).as_posix(): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }
