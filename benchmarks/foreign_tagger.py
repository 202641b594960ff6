"""A tagger from elsewhere: a timm model whose head plain PyTorch trains, in the file that timm's train.py writes.

    .venv/bin/python benchmarks/foreign_tagger.py DATA OUT/best.pth.tar --backbone tf_efficientnet_lite1 --size 128

Reads an imagefolder data set's train and val splits, never test. It stretches pictures to a square, normalises them
with mean and std 0.5, and fits a linear classifier on what the frozen backbone makes of them, with the ImageNet weights
of an installed package. It prints val mAP by scikit-learn; `edgepress adopt` must find the same.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import timm
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor, nn

from edgepress.compress.weights import load_backbone_weights

BATCH = 64
STEPS = 300


def main() -> None:
    """Train, write the checkpoint, and print what it reaches on val."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--size", type=int, required=True)
    options = parser.parse_args()
    model = finished(options.data, options.backbone, options.size)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    held = {"epoch": STEPS, "arch": options.backbone, "state_dict": model.state_dict(), "version": 2}
    torch.save(held, options.out)
    pictures, targets = read(options.data, "val", options.size)
    found = 100 * average_precision_score(targets.numpy(), answers(model, pictures).numpy(), average="macro")
    print(json.dumps({"backbone": options.backbone, "size": options.size, "val_mAP": round(found, 2)}))


def finished(data: Path, backbone: str, size: int) -> nn.Module:
    """The model with its classifier, in evaluation mode."""
    torch.manual_seed(0)
    pictures, targets = read(data, "train", size)
    model = timm.create_model(backbone, num_classes=0).eval()
    load_backbone_weights(model, backbone, "auto", {"num_classes": 0})
    features = answers(model, pictures)
    model.reset_classifier(targets.shape[1])
    classifier = model.get_classifier()
    optimiser = torch.optim.AdamW(classifier.parameters(), lr=0.003, weight_decay=0.01)
    for _ in range(STEPS):
        loss = nn.functional.binary_cross_entropy_with_logits(classifier(features), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval()


def read(data: Path, split: str, size: int) -> tuple[Tensor, Tensor]:
    """Pictures, uint8 `[N, 3, size, size]`, and targets, float32 `[N, labels]`."""
    labels = (data / "labels.txt").read_text(encoding="utf-8").split()
    lines = (data / split / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    pictures = np.stack(
        [
            cv2.resize(cv2.imread(str(data / split / row["file_name"])), (size, size), interpolation=cv2.INTER_AREA)
            for row in rows
        ]
    )
    targets = [[float(label in row["labels"]) for label in labels] for row in rows]
    return torch.from_numpy(pictures[..., ::-1].transpose(0, 3, 1, 2).copy()), torch.tensor(targets)


@torch.no_grad()
def answers(model: nn.Module, pictures: Tensor) -> Tensor:
    """What the model makes of uint8 pictures, which it takes in -1..1."""
    return torch.cat([model(part.float() / 127.5 - 1) for part in pictures.split(BATCH)])


if __name__ == "__main__":
    main()
