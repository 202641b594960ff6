"""Distil a tiny student in as many processes as a launcher started, and leave what was learnt in a folder.

    python fit_in_processes.py DATA OUT BATCH_SIZE [ANSWERS]

ANSWERS are stored ones, which take the place of a live teacher. In float64, with frozen batch norm and without dropout,
so that the number of processes is all that differs.
"""

import json
import sys
from pathlib import Path

import torch
from timm.layers import freeze_batch_norm_2d
from torch import nn

from edgepress.compress.checkpoint import save_model
from edgepress.compress.config import DistillConfig, ModelConfig
from edgepress.compress.models import MultiLabelModel, make_model
from edgepress.compress.stored import StoredTeacher
from edgepress.compress.tasks import DistillTask
from edgepress.compress.teacher import LiveTeacher
from edgepress.compress.training import fit, make_accelerator
from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.label_map import match_labels
from edgepress.multilabel.stored_answers import StoredAnswers

TERMS = {
    "mld": 1.0,
    "cd": 1.0,
    "id": 1.0,
    "hint": 0.1,
    "mse": 0.1,
    "ps": 0.1,
    "kd": 0.1,
    "rkd": 0.01,
    "pkt": 0.1,
    "label_map": 1.0,
    "simkd": 0.5,
    "soft_bce": 0.1,
    "dist": 0.1,
    "refined": 0.5,
    "prototypes": 0.2,
    "auxiliary": "dist",
}
MAPS = {"at": 1.0, "fitnet": 0.1, "review_kd": 0.0}  # whose batch norms see a process's own pictures
LOGITS = {"soft_bce": 0.9, "task": 0.1, "mixup": 0.3, "review_kd": 0.0}


def exact(config: ModelConfig, labels) -> MultiLabelModel:
    model, _ = make_model(config, labels)
    model.backbone = freeze_batch_norm_2d(model.backbone)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model.double()


def main(data: Path, out: Path, batch_size: int, answers: Path | None = None) -> None:
    torch.set_num_threads(1)
    train, val = load_dataset(data, "train"), load_dataset(data, "val")
    train.ignore[::3, 1] = True  # so that the processes count different numbers of cells
    config = DistillConfig(
        backbone="test_efficientnet", weights="none", width=32, size=64, epochs=2, batch_size=batch_size, workers=0,
        lr=1e-3, ema_decay=0.5, augment="none", positive_weights="balanced",
        **(LOGITS if answers else {**TERMS, **MAPS}),
    )  # fmt: skip
    accelerator = make_accelerator(config)
    torch.manual_seed(0)
    student = exact(config, train.labels)
    teacher = exact(config.model_copy(update={"size": 64, "width": 64}), train.labels)
    told = None if answers is None else StoredAnswers.read(answers)
    listening = LiveTeacher(teacher, maps=True)
    if told is not None:
        listening = StoredTeacher(told, match_labels(train.labels, told.labels, None, "it"), train)
    task = DistillTask(config, listening, student, train).double()
    out.mkdir(parents=True, exist_ok=True)
    result = fit(
        student, task, train, val, config, out, inputs="x", accelerator=accelerator,
        teacher_preprocess=None if told else teacher.preprocess,
    )  # fmt: skip
    if accelerator.is_main_process:
        save_model(student, out / "model.safetensors")
        (out / "history.json").write_text(json.dumps([epoch.model_dump() for epoch in result.history]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), *map(Path, sys.argv[4:]))
