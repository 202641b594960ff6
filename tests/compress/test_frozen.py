"""A frozen backbone sees each picture once, and training is what it is without that."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections import namedtuple

import pytest
import torch

from edgepress.compress.config import TeachConfig
from edgepress.compress.distill import teach
from edgepress.compress.frozen import SeenPictures, file_for
from edgepress.compress.learning import Learning
from edgepress.compress.models import MultiLabelModel
from edgepress.compress.tasks import TeachTask
from tests.compress.lessons import QUICK, run_fit

PLAIN = {"backbone_lr_scale": 0, "augment": "none", "cutout": 0, "flip": 0.5}
SHAPE = (2, 3)


class Backbone:
    """Counts the pictures that it is asked about; its tokens tell them apart."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, images):
        self.asked += len(images)
        return images[:, 0, 0, :1].float()[:, :, None].expand(-1, *SHAPE)


def pictures(*numbers):
    return torch.tensor(numbers, dtype=torch.uint8)[:, None, None, None].expand(-1, 4, 4, 3)


def values(tokens):
    assert tokens.shape[1:] == SHAPE
    assert (tokens == tokens[:, :1, :1]).all()
    return tokens[:, 0, 0].tolist()


@pytest.fixture
def backbone():
    return Backbone()


def test_only_new_pictures_are_computed_and_all_keep_their_order(tmp_path, backbone):
    seen = SeenPictures(tmp_path / "tokens", SHAPE)
    for given, asked in (((3, 1), 2), ((1, 5, 3), 3), ((5, 5, 7, 7, 1), 5), ((7, 3, 5, 1), 5)):
        assert values(seen(pictures(*given), backbone)) == list(given)
        assert backbone.asked == asked
    assert (tmp_path / "tokens").stat().st_size == 4 * 24
    seen.close()


def test_it_continues_from_its_index(tmp_path, backbone):
    seen = SeenPictures(tmp_path / "tokens", SHAPE)
    seen(pictures(1, 2, 3), backbone)
    index = seen.index
    seen(pictures(4), backbone)  # after the state was saved
    seen.close()
    again = SeenPictures(tmp_path / "tokens", SHAPE)
    again.index = index
    assert values(again(pictures(3, 4, 1), backbone)) == [3, 4, 1]
    assert backbone.asked == 5
    assert again.index.shape == (4, 16)


def test_a_file_that_lacks_rows_is_written_anew(tmp_path, backbone):
    seen = SeenPictures(tmp_path / "tokens", SHAPE)
    seen(pictures(1, 2), backbone)
    index = seen.index
    (tmp_path / "tokens").write_bytes(b"\0" * 30)
    again = SeenPictures(tmp_path / "tokens", SHAPE)
    again.index = index
    assert values(again(pictures(2, 1), backbone)) == [2, 1]
    assert backbone.asked == 4
    (tmp_path / "tokens").write_bytes(b"")
    with pytest.raises(OSError, match="was cut off while it was in use"):
        again(pictures(1), backbone)


class FullDisk:
    """A file that takes part of a row, or refuses it, once it has one row."""

    def __init__(self, file, raises):
        self.file, self.raises = file, raises

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, row):
        if self.file.tell() == 0:
            return self.file.write(row)
        if self.raises:
            raise OSError(28, "No space left on device")
        return self.file.write(memoryview(row).cast("B")[:10])


@pytest.mark.parametrize("raises", [False, True])
def test_a_full_disk_ends_the_keeping_and_not_the_training(tmp_path, backbone, caplog, monkeypatch, raises):
    monkeypatch.setattr(logging.getLogger("edgepress"), "propagate", True)
    seen = SeenPictures(tmp_path / "tokens", SHAPE)
    seen._file = FullDisk(seen._file, raises)
    with caplog.at_level(logging.WARNING, logger="edgepress"):
        for _ in range(2):
            assert values(seen(pictures(1, 2, 3), backbone)) == [1, 2, 3]
    assert backbone.asked == 3 + 2
    assert caplog.text.count("what the backbone makes of further pictures is computed in each epoch") == 1
    assert seen.index.shape == (1, 16)


def test_an_index_may_be_empty(tmp_path):
    seen = SeenPictures(tmp_path / "tokens", SHAPE)
    assert seen.index.shape == (0, 16)
    seen.index = seen.index


def test_half_of_the_free_disk_is_the_limit(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("edgepress"), "propagate", True)
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10 * 24))
    with caplog.at_level(logging.INFO, logger="edgepress"):
        assert file_for(tmp_path, "inputs", 6, SHAPE) is None
        assert "the backbone sees every picture in every epoch" in caplog.text
        file = file_for(tmp_path, "inputs", 5, SHAPE)
        assert "it sees each picture once: what it makes of them is kept, 1 MB" in caplog.text
    file.write_bytes(bytes(4 * 24))  # a resumed training's own file is room, too
    assert file_for(tmp_path, "inputs", 7, SHAPE) == file


def test_tokens_of_other_settings_are_never_taken(tmp_path):
    """Settings A, then B in the same folder, then A again, whose state is still there."""
    first = file_for(tmp_path, "a", 1, SHAPE)
    first.write_bytes(b"a")
    other = file_for(tmp_path, "b", 1, SHAPE)
    assert other != first
    assert not first.exists()
    other.write_bytes(b"b")
    assert file_for(tmp_path, "a", 1, SHAPE) == first
    assert not other.exists()


@pytest.fixture
def asked(monkeypatch):
    """How many pictures went through the backbone in each pass."""
    counts = []
    tokens = MultiLabelModel._tokens
    monkeypatch.setattr(
        MultiLabelModel, "_tokens", lambda self, images: counts.append(len(images)) or tokens(self, images)
    )
    return counts


@pytest.mark.usefixtures("one_thread")
def test_the_head_learns_what_it_learns_beside_the_backbone(splits, tmp_path, asked, monkeypatch):
    given = {**PLAIN, "epochs": 4, "flip": 0}
    model, once, _ = run_fit(splits, tmp_path / "once", **given)
    assert sum(asked) == len(splits[0]) + len(splits[1])
    assert len(_files(tmp_path / "once")) == 1
    assert model.seen is None
    asked.clear()
    monkeypatch.setattr(Learning, "seeing_once", lambda self, *_: contextlib.nullcontext())
    other, always, _ = run_fit(splits, tmp_path / "always", **given)
    assert sum(asked) >= 4 * (len(splits[0]) // 8 * 8 + len(splits[1]))
    assert [one.loss for one in once.history] == pytest.approx([one.loss for one in always.history], rel=1e-5)
    assert [one.val_mAP for one in once.history] == pytest.approx([one.val_mAP for one in always.history], abs=1e-3)
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("one_thread")
def test_stopped_and_continued_it_ends_bit_for_bit_as_undisturbed(splits, tmp_path, asked):
    given = {**PLAIN, "epochs": 4}
    undisturbed, expected, config = run_fit(splits, tmp_path / "whole", **given)

    class Stopped(TeachTask):
        left = 7

        def forward(self, *batch):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return super().forward(*batch)

    with pytest.raises(KeyboardInterrupt):
        run_fit(splits, tmp_path / "cut", Stopped(config, splits[0]), **given)
    whole = sum(asked)
    asked.clear()
    resumed, result, _ = run_fit(splits, tmp_path / "cut", **given)
    assert sum(asked) < whole / 2
    assert [entry.loss for entry in result.history] == [entry.loss for entry in expected.history]
    assert all(
        torch.equal(one, other)
        for one, other in zip(resumed.state_dict().values(), undisturbed.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize(
    ("more", "kept"),
    [
        ({}, True),
        ({"epochs": 3}, False),
        ({"epochs": 2, "flip": 0}, True),
        ({"variations": 2, "cutout": 0.5, "augment": "randaugment"}, True),
        ({"variations": 3, "cutout": 0.5}, False),
        ({"variations": 3}, True),
        ({"backbone_lr_scale": 0.1}, False),
        ({"cutout": 0.5}, False),
        ({"augment": "randaugment"}, False),
        ({"random_crop": 0.5}, False),
        ({"resize_jitter": True}, False),
        ({"mixup": 0.3}, False),
        ({"mixed_precision": "bf16"}, False),
    ],
)
def test_it_is_kept_only_where_that_spares_half_of_the_work(splits, tmp_path, more, kept):
    given = {"epochs": 4, **PLAIN, **more}
    run_fit(splits, tmp_path, TeachTask(TeachConfig(**{**QUICK, **given}), splits[0]), **given)
    assert bool(_files(tmp_path)) == kept


def test_a_backbone_that_a_term_looks_into_sees_every_picture(splits, tmp_path):
    given = {"epochs": 4, **PLAIN}
    task = TeachTask(TeachConfig(**{**QUICK, **given}), splits[0])
    task.taps = object()
    run_fit(splits, tmp_path, task, **given)
    assert not _files(tmp_path)


def test_nothing_stays_behind_a_training(splits, tmp_path, monkeypatch):
    """Neither its file beside a bundle, nor tokens in a model whose training failed."""
    settings = {**QUICK, **PLAIN, "epochs": 4}
    teach(*splits, TeachConfig(**settings), tmp_path / "teacher")
    assert [path.name for path in tmp_path.iterdir()] == ["teacher"]
    models = []
    seeing_once = Learning.seeing_once
    monkeypatch.setattr(
        Learning, "seeing_once", lambda self, *given: models.append(self.model) or seeing_once(self, *given)
    )
    task = TeachTask(TeachConfig(**settings), splits[0])
    task.forward = None
    with pytest.raises(TypeError):
        run_fit(splits, tmp_path / "failed", task, epochs=4, **PLAIN)
    assert len(_files(tmp_path / "failed")) == 1
    assert [model.seen for model in models] == [None]


def _files(folder):
    return list(folder.glob("tokens-*"))
