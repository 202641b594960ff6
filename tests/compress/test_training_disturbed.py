"""Training while files change, which it names or begins again for, and while the clock jumps, which it does not see."""

from __future__ import annotations

import logging
import shutil

import pytest

import edgepress.compress.training
from edgepress.compress.config import TeachConfig
from edgepress.compress.distill import teach
from edgepress.compress.gather import require_same
from edgepress.compress.training import STATE
from edgepress.multilabel.bundle import file_sha256
from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.errors import DataChangedError
from tests.clock import jump, scatter_dates
from tests.compress.lessons import QUICK

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIG = TeachConfig(**{**QUICK, "epochs": 3})


@pytest.fixture
def root(tiny_data, tmp_path):
    return shutil.copytree(tiny_data, tmp_path / "data")


def taught(root, out, config=CONFIG):
    """A teacher of the data set as it is now on disk."""
    splits = [load_dataset(root, split) for split in ("train", "val")]
    for split in splits:
        split.check_pictures()
    return teach(*splits, config, out)


def after_epochs(monkeypatch, count, act):
    """Do something once, when so many epochs are trained and the last is not yet kept."""
    evaluate, calls = edgepress.compress.training.evaluate, []

    def evaluate_and_act(*arguments):
        calls.append(1)
        if len(calls) == count:
            act()
        return evaluate(*arguments)

    monkeypatch.setattr(edgepress.compress.training, "evaluate", evaluate_and_act)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_picture_replaced_while_it_trains_stops_it_by_name(root, tmp_path, monkeypatch, workers, split):
    path = root / split / "00003.jpg"
    after_epochs(monkeypatch, 2, lambda: shutil.copyfile(root / split / "00004.jpg", path))
    config = TeachConfig(**{**CONFIG.model_dump(), "workers": workers})
    with pytest.raises(DataChangedError) as caught:
        taught(root, tmp_path / "run" / "teacher", config)
    assert str(caught.value).startswith(f"{path}: another picture than when the data set was loaded")
    assert (tmp_path / "run" / ".teacher.training" / STATE).is_file()  # the epochs before are kept
    assert not (tmp_path / "run" / "teacher").exists()


def relabel(root, split):
    """Take a label from the first picture, which has all."""
    listing = root / split / "metadata.jsonl"
    first, rest = listing.read_text().split("\n", 1)
    assert '"red", ' in first
    listing.write_text(first.replace('"red", ', "") + "\n" + rest)


def stop():
    raise KeyboardInterrupt


def test_labels_edited_before_it_goes_on_begin_it_again(root, tmp_path, monkeypatch, caplog):
    out = tmp_path / "run" / "teacher"
    with monkeypatch.context() as patched:
        after_epochs(patched, 3, stop)
        with pytest.raises(KeyboardInterrupt):
            taught(root, out)
    relabel(root, "train")
    monkeypatch.setattr(logging.getLogger("edgepress"), "propagate", True)
    with caplog.at_level("INFO", logger="edgepress"):
        changed = taught(root, out)
    assert f"{out.with_name('.teacher.training') / STATE}: of other pictures, labels or settings" in caplog.text
    assert "resumed" not in caplog.text
    fresh = taught(root, tmp_path / "fresh")
    assert file_sha256(changed.model_path) == file_sha256(fresh.model_path)
    assert changed.manifest.inputs == fresh.manifest.inputs


def test_a_finished_teacher_of_other_labels_is_made_again(root, tmp_path):
    before = taught(root, tmp_path / "teacher").digest
    assert taught(root, tmp_path / "teacher").digest == before
    relabel(root, "val")
    assert taught(root, tmp_path / "teacher").digest != before


def test_processes_that_read_other_labels_do_not_train_together(root, tmp_path, monkeypatch):
    monkeypatch.setattr("edgepress.compress.gather.processes", lambda: 2)
    monkeypatch.setattr("edgepress.compress.gather.gather_object", lambda mine: mine * 2)
    require_same("inputs", root)
    monkeypatch.setattr(
        "edgepress.compress.gather.gather_object", lambda mine: [*mine, "of labels that were edited meanwhile"]
    )
    with pytest.raises(DataChangedError, match="the processes of this launch read different pictures or labels"):
        taught(root, tmp_path / "run" / "teacher")
    assert not (tmp_path / "run").exists()


def test_a_clock_that_jumps_back_between_a_kill_and_the_resume_changes_nothing(root, tmp_path, monkeypatch, caplog):
    undisturbed, out = taught(root, tmp_path / "undisturbed"), tmp_path / "run" / "teacher"
    with monkeypatch.context() as patched:
        jump(patched, 1)
        after_epochs(patched, 3, stop)
        with pytest.raises(KeyboardInterrupt):
            taught(root, out)
    scatter_dates(root)
    scatter_dates(out.parent)
    jump(monkeypatch, -1)
    monkeypatch.setattr(logging.getLogger("edgepress"), "propagate", True)
    with caplog.at_level("INFO", logger="edgepress"):
        resumed = taught(root, out)
    assert "resumed after epoch 2 of 3" in caplog.text
    assert file_sha256(resumed.model_path) == file_sha256(undisturbed.model_path)
    assert resumed.manifest.inputs == undisturbed.manifest.inputs
    assert all(0 < entry.seconds < 600 for entry in resumed.manifest.facts.history)
    assert resumed.manifest.created < undisturbed.manifest.created  # the clock did jump
