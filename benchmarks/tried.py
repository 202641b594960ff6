"""Ideas beyond the paper that are not part of edgepress: what they bring on val.

    .venv/bin/python benchmarks/tried.py DATA TEACHER --out OUT --ideas none,bank,certainty,variance,self,rise,balance

`none` is MLD, hints and the inherited head, to which the ideas before `rise` are added; the last two mend the paper's
own terms.
Trains a tf_efficientnet_lite0 at 64 px for 8 epochs an idea, as benchmarks/compare-clipart.yaml does, and prints a JSON
object with the best val mAP of each.

bank        CD against the last 8 positives of each label as well, for labels with one or two in a batch
certainty   MLD with every cell weighted by the teacher's certainty |2p - 1|
variance    MLD with a learnt uncertainty a label (Kendall et al., CVPR 2018): exp(-s) MLD + s
self        MLD also from the student's own moving average, its weight rising over the first half
rise        the published weights, those of CD and ID rising from 0 over the first half
balance     MLD, CD and ID each as large as the labels' own loss, by running means of their values
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate.utils import set_seed
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from edgepress.compress.checkpoint import load_model
from edgepress.compress.config import DistillConfig
from edgepress.compress.kept import AnswerStore, KeptTeacher
from edgepress.compress.lesson import inherit_head
from edgepress.compress.loader import Batch
from edgepress.compress.losses import MultiLabelLogitsDistillation
from edgepress.compress.models import MultiLabelModel, make_model
from edgepress.compress.tasks import DistillTask
from edgepress.compress.training import augmentation_of, fit, make_accelerator
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.datasets import load_dataset

BANK, BANK_WEIGHT, SELF_WEIGHT = 8, 0.3, 2.0


class Bank(DistillTask):
    """The default terms, and CD between a label's positives and those of earlier batches."""

    def forward(
        self, batch: Batch, logits: Tensor, embeddings: Tensor, maps: Tensor | None = None
    ) -> dict[str, Tensor]:
        """As `DistillTask.forward`, with the term `bank`."""
        terms = super().forward(batch, logits, embeddings, maps)
        _, theirs = self.teacher(batch)  # type: ignore[misc]
        self.queues: dict[int, tuple[Tensor, Tensor]] = getattr(self, "queues", {})
        values = []
        for label in range(batch.targets.shape[1]):
            rows = batch.targets[:, label] == 1
            if not rows.any():
                continue
            now = embeddings[rows, label], theirs[rows, label]
            earlier = self.queues.get(label, (now[0][:0].detach(), now[1][:0]))
            student, teacher = (torch.cat(pair) for pair in zip(now, earlier, strict=True))
            if len(student) >= 3:
                values.append(F.smooth_l1_loss(_distances(now[0], student), _distances(now[1], teacher)))
            self.queues[label] = student.detach()[:BANK], teacher[:BANK]
        return {**terms, "bank": BANK_WEIGHT * torch.stack(values).mean()}


class Certainty(DistillTask):
    """The default terms, MLD weighted by the teacher's certainty."""

    def forward(
        self, batch: Batch, logits: Tensor, embeddings: Tensor, maps: Tensor | None = None
    ) -> dict[str, Tensor]:
        """As `DistillTask.forward`."""
        terms = super().forward(batch, logits, embeddings, maps)
        told, _ = self.teacher(batch)  # type: ignore[misc]
        weights = (2 * told.sigmoid() - 1).abs()
        return {**terms, "mld": self.config.mld * (weights * _cells(logits, told)).sum() / weights.sum()}


class Variance(DistillTask):
    """The default terms, MLD with a learnt uncertainty a label."""

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.log_variance = nn.Parameter(torch.zeros(arguments[2].head.bias.shape))

    def forward(
        self, batch: Batch, logits: Tensor, embeddings: Tensor, maps: Tensor | None = None
    ) -> dict[str, Tensor]:
        """As `DistillTask.forward`."""
        terms = super().forward(batch, logits, embeddings, maps)
        told, _ = self.teacher(batch)  # type: ignore[misc]
        labels = _cells(logits, told).mean(dim=0)
        mean = ((-self.log_variance).exp() * self.config.mld * labels + 0.05 * self.log_variance).mean()
        return {**terms, "mld": mean}


class Self(DistillTask):
    """The default terms, and MLD from the student's moving average."""

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        # In a list, so that the average is no part of what is trained.
        self.average, self.student, self.step = [ModelEmaV3(arguments[2], decay=0.99)], [arguments[2]], 0
        self.rise = self.config.epochs * len(arguments[3]) / self.config.batch_size / 2

    def forward(
        self, batch: Batch, logits: Tensor, embeddings: Tensor, maps: Tensor | None = None
    ) -> dict[str, Tensor]:
        """As `DistillTask.forward`, with the term `self`."""
        terms = super().forward(batch, logits, embeddings, maps)
        self.average[0].update(self.student[0])
        with torch.no_grad():
            own = self.average[0].module.eval().logits(batch.images)
        self.step += 1
        weight = SELF_WEIGHT * min(1, self.step / self.rise)
        return {**terms, "self": weight * MultiLabelLogitsDistillation()(logits, own, batch.targets)}


class Rise(DistillTask):
    """CD and ID with a weight that rises over the first half."""

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.step, self.rise = 0, self.config.epochs * len(arguments[3]) / self.config.batch_size / 2

    def forward(
        self, batch: Batch, logits: Tensor, embeddings: Tensor, maps: Tensor | None = None
    ) -> dict[str, Tensor]:
        """As `DistillTask.forward`."""
        terms = super().forward(batch, logits, embeddings, maps)
        self.step += 1
        share = min(1, self.step / self.rise)
        return {name: share * term if name in ("cd", "id") else term for name, term in terms.items()}


class Balance(DistillTask):
    """Every term of the teacher as large as the task loss."""

    def forward(
        self, batch: Batch, logits: Tensor, embeddings: Tensor, maps: Tensor | None = None
    ) -> dict[str, Tensor]:
        """As `DistillTask.forward`."""
        terms = super().forward(batch, logits, embeddings, maps)
        self.means: dict[str, Tensor] = getattr(self, "means", {})
        for name, term in terms.items():
            value = term.detach()
            self.means[name] = 0.9 * self.means.get(name, value) + 0.1 * value
        own = self.means[self.config.task_loss]
        return {name: own / self.means[name].clamp(min=1e-8) * term for name, term in terms.items()}


_OURS = {"mld": 4, "hint": 1, "review_kd": 0, "inherit_head": "auto"}
_PAPER = {"mld": 1, "cd": 1, "id": 1, "hint": 0, "review_kd": 0, "inherit_head": "no"}
IDEAS: dict[str, tuple[type[DistillTask], dict[str, Any]]] = {
    "none": (DistillTask, _OURS),
    "bank": (Bank, _OURS),
    "certainty": (Certainty, _OURS),
    "variance": (Variance, _OURS),
    "self": (Self, _OURS),
    "rise": (Rise, {**_PAPER, "mld": 10, "cd": 100, "id": 1000, "reduction": "published"}),
    "balance": (Balance, _PAPER),
}
"""Each idea's task and its terms."""


def _cells(logits: Tensor, told: Tensor) -> Tensor:
    """KL(teacher ‖ student) of each cell."""
    p = told.sigmoid()
    return p * (F.logsigmoid(told) - F.logsigmoid(logits)) + (1 - p) * (F.logsigmoid(-told) - F.logsigmoid(-logits))


def _distances(rows: Tensor, others: Tensor) -> Tensor:
    distance = (rows[:, None] - others[None]).square().sum(dim=-1).clamp(min=1e-8).sqrt()
    return distance / distance.mean()


def main() -> None:
    """Train every idea and print the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--ideas", default=",".join(IDEAS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    train, val = load_dataset(options.data, "train"), load_dataset(options.data, "val")
    bundle = Bundle.open(options.teacher, kind="torch")
    record = {}
    for name in options.ideas.split(","):
        idea, settings = IDEAS[name]
        config = DistillConfig(
            size=64, epochs=8, lr=2e-3, augment="none", cutout=0.3, seed=options.seed, **settings
        )  # fmt: skip
        set_seed(config.seed)
        accelerator = make_accelerator(config)
        student: MultiLabelModel = make_model(config, train.labels)[0]
        teacher = load_model(bundle.path)
        size = teacher.preprocess.size
        if config.inherit_head == "auto":
            inherit_head(student, teacher)
        store = AnswerStore(
            model=teacher.eval().requires_grad_(False), folder=options.out / "cache", identity=bundle.digest,
            labels=len(train.labels), batch_size=config.batch_size, workers=0, device=accelerator.device,
        )  # fmt: skip
        cached = KeptTeacher(store, train, augmentation_of(config, config.interpolation), size, embeddings=True)
        work = options.out / name
        work.mkdir(parents=True, exist_ok=True)
        task = idea(config, cached, student, train)
        result = fit(
            student, task, train, val, config, work, inputs=name, accelerator=accelerator, augment_size=size
        )  # fmt: skip
        record[name] = {"val_mAP": result.val_mAP, "history": [epoch.val_mAP for epoch in result.history]}
        print(name, f"{100 * result.val_mAP:.2f}", flush=True)
    print(json.dumps({"seed": options.seed, "torch": torch.__version__, "ideas": record}, indent=2))


if __name__ == "__main__":
    main()
