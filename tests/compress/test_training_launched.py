"""teach in several processes: once as torchrun starts them, then as forks that are told what torchrun tells."""

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
from tests.forks import Done, Forks

SETTINGS = ("--backbone", "test_efficientnet", "--weights", "none", "--width", "32", "--size", "32")
SETTINGS += ("--workers", "0", "--epochs", "2", "--lr", "5e-3", "--ema-decay", "0.5")


def launch_teach(data: Path, out: Path, *flags: str) -> subprocess.CompletedProcess:
    """`edgepress teach` in two processes on the CPU; each leaves a file named by its rank beside `out`."""
    script = out.parent / "teach.py"
    lines = ["import os", "from pathlib import Path", "from edgepress.cli.main import main"]
    lines += ["Path(__file__).with_name('rank' + os.environ['RANK']).touch()", "main()"]
    script.write_text("\n".join(lines) + "\n")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [*launcher, str(script), "teach", str(data), "--out", str(out), *SETTINGS, *flags],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def fork_teach(forks: Forks, data: Path, out: Path, *flags: str) -> Done:
    """The same in two forks."""
    return forks.run(["edgepress", "teach", data, "--out", out, *SETTINGS, *flags], processes=2)


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


def test_two_processes_and_one_batch_do_not_train_nothing(forks, tiny_data, tmp_path):
    """Either every epoch learns something, or it is said what to lower; nothing is left that did not learn."""
    done = fork_teach(forks, tiny_data, tmp_path / "teacher", "--batch-size", "24")
    if done.codes == [0, 0]:
        history = Bundle.open(tmp_path / "teacher").manifest.facts.history
        assert all(entry.terms.get("asl", 0) > 0 for entry in history)
    else:
        assert "training pictures make no step of 24 in each of 2 processes; lower batch_size" in done.err
        assert not (tmp_path / "teacher").exists()


def test_a_loss_that_is_not_finite_says_whose_pictures_it_names(forks, tiny_data, tmp_path):
    done = fork_teach(forks, tiny_data, tmp_path / "teacher", "--batch-size", "6", "--lr", "1e38", "--epochs", "3")
    assert 0 not in done.codes
    expected = r"not finite: asl in epoch \d, step \d, pictures of process [12] of 2 \d{5}\.jpg"
    assert re.search(expected, done.err), done.err
