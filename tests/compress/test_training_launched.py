"""teach in several processes, as a launcher starts them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from edgepress.compress.checkpoint import load_model
from edgepress.compress.config import TeachConfig
from edgepress.compress.training import evaluate, make_accelerator
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.datasets import load_dataset


def launch_teach(data: Path, out: Path, *flags: str) -> subprocess.CompletedProcess:
    """`edgepress teach` in two processes on the CPU; each leaves a file named by its rank beside `out`."""
    script = out.parent / "teach.py"
    lines = ["import os", "from pathlib import Path", "from edgepress.cli.main import main"]
    lines += ["Path(__file__).with_name('rank' + os.environ['RANK']).touch()", "main()"]
    script.write_text("\n".join(lines) + "\n")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    settings = ["--backbone", "test_efficientnet", "--weights", "none", "--width", "32", "--size", "32"]
    settings += ["--workers", "0", "--epochs", "2", "--lr", "5e-3", "--ema-decay", "0.5"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [*launcher, str(script), "teach", str(data), "--out", str(out), *settings, *flags],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_two_processes_teach_one_teacher_and_record_its_own_map(tiny_data, tmp_path):
    done = launch_teach(tiny_data, tmp_path / "teacher", "--batch-size", "3", "--epochs", "6", "--head", "linear")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.glob("rank*")} == {"rank0", "rank1"}
    bundle = Bundle.open(tmp_path / "teacher")
    history = bundle.manifest.facts.history
    assert len(history) == 6
    assert all(0 <= entry.val_mAP <= 1 and np.isfinite(entry.loss) for entry in history)
    assert not (tmp_path / ".teacher.training").exists()
    config = TeachConfig(**bundle.manifest.facts.training)
    model, val = load_model(bundle.path), load_dataset(tiny_data, "val")
    assert evaluate(model, val, config, make_accelerator(config)) == bundle.manifest.facts.val_mAP


def test_two_processes_and_one_batch_do_not_train_nothing(tiny_data, tmp_path):
    """Either every epoch learns something, or it is said what to lower; nothing is left that did not learn."""
    done = launch_teach(tiny_data, tmp_path / "teacher", "--batch-size", "24")
    if done.returncode == 0:
        history = Bundle.open(tmp_path / "teacher").manifest.facts.history
        assert all(entry.terms.get("asl", 0) > 0 for entry in history)
    else:
        assert "training pictures make no step of 24 in each of 2 processes; lower batch_size" in done.stderr
        assert not (tmp_path / "teacher").exists()


def test_a_loss_that_is_not_finite_says_whose_pictures_it_names(tiny_data, tmp_path):
    done = launch_teach(tiny_data, tmp_path / "teacher", "--batch-size", "6", "--lr", "1e38", "--epochs", "3")
    assert done.returncode != 0
    expected = r"not finite: asl in epoch \d, step \d, pictures of process [12] of 2 \d{5}\.jpg"
    assert re.search(expected, done.stderr), done.stderr
