"""distill with stored answers in two processes, as a launcher starts them: one student, and no process that differs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.stored_answers import write_answers

SETTINGS = (
    "--backbone",
    "test_efficientnet",
    "--weights",
    "none",
    "--head",
    "linear",
    "--size",
    "32",
    "--workers",
    "0",
)
SETTINGS += ("--epochs", "1", "--batch-size", "6", "--teacher-weak", "keep")


def launch(data: Path, answers: Path, out: Path) -> subprocess.CompletedProcess:
    program = ("--standalone", "--nproc-per-node", "2", "--no-python", sys.executable, "-m", "edgepress")
    verb = ("distill", data, "--teacher", answers, "--out", out, *SETTINGS)
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *program, *verb],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.parametrize("without", [0, 3])
def test_two_processes_make_one_student_or_stop_together(tiny_data, tmp_path, without):
    splits = [load_dataset(tiny_data, name) for name in ("train", "val")]
    names = [name for split in splits for name in split.hashes()]
    logits = np.random.default_rng(0).normal(0, 2, (len(names), len(splits[0].labels))).astype(np.float32)
    answers = write_answers(tmp_path / "answers.npz", splits[0].labels, names[without:], logits[without:])
    done = launch(tiny_data, answers.path, tmp_path / "student")
    if without:
        assert done.returncode != 0
        assert "answers for 21 of 24 pictures of 'train'" in done.stderr
        assert not (tmp_path / "student").exists()
        return
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == [str(tmp_path / "student")]  # one process prints
    (entry,) = Bundle.open(tmp_path / "student").manifest.facts.history
    assert entry.terms["mld"] > 0
