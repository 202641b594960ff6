"""Distilling in two processes: what they learn from, and one student of it, from a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.stored_answers import StoredAnswers, write_answers

EPOCHS = 2
RECIPE = f"""distill:
  backbone: test_efficientnet
  weights: none
  head: linear
  size: 32
  workers: 0
  epochs: {EPOCHS}
  batch_size: 6
  lr: 1.0e-3
"""
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def answers_of(data: Path, path: Path, without: int = 0) -> StoredAnswers:
    """Answers that are mostly right, for all pictures of train and val but the first `without`."""
    splits = [load_dataset(data, name) for name in ("train", "val")]
    names = [name for split in splits for name in split.hashes()]
    targets = np.concatenate([split.targets for split in splits])
    noise = np.random.default_rng(0).normal(0, 1, targets.shape)
    logits = (4.0 * targets - 2 + noise).astype(np.float32)
    return write_answers(path, splits[0].labels, names[without:], logits[without:])


def arguments_of(data: Path, answers: Path, out: Path) -> list[str]:
    """`distill` as on a command line."""
    recipe = out.with_name("recipe.yaml")
    recipe.write_text(RECIPE)
    return [str(word) for word in ("distill", data, "--teacher", answers, "--recipe", recipe, "--out", out)]


@dataclass(frozen=True)
class Distilled:
    """A student that two processes made from the tiny data set's folder."""

    answers: Path
    student: Path
    stdout: str
