"""fit: it learns, says what it did, keeps the best epoch, and survives being stopped."""

from __future__ import annotations

import logging
import os
import signal
import time

import numpy as np
import pytest
import torch
from timm.layers import convert_sync_batchnorm

from edgepress.compress import learning
from edgepress.compress.config import TeachConfig
from edgepress.compress.distill import teach
from edgepress.compress.learning import FEW_STEPS
from edgepress.compress.models import MultiLabelModel, make_model
from edgepress.compress.tasks import Task, TeachTask
from edgepress.compress.training import STATE, evaluate, fit, make_accelerator, predict_logits
from edgepress.multilabel.bundle import Bundle, file_sha256
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.metrics import mean_average_precision
from tests.compress.lessons import QUICK, run_fit, with_arrays

pytestmark = pytest.mark.usefixtures("one_thread")


def same_weights(one: MultiLabelModel, other: MultiLabelModel) -> bool:
    mine, others = one.state_dict(), other.state_dict()
    return mine.keys() == others.keys() and all(torch.equal(mine[key], others[key]) for key in mine)


def test_the_loss_falls_and_the_labels_are_learned(splits, tmp_path):
    still = {"augment": "none", "flip": 0, "cutout": 0, "task_loss": "bce"}
    _, result, _ = run_fit(splits, tmp_path, epochs=25, **still)
    losses = [entry.loss for entry in result.history]
    assert losses[-1] < 0.5 * losses[0]
    assert result.val_mAP > 0.75  # guessing gives about 0.5


def test_a_training_of_few_steps_is_told(splits, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("edgepress"), "propagate", True)
    with caplog.at_level(logging.WARNING, logger="edgepress"):
        run_fit(splits, tmp_path / "few", epochs=1)
        assert "steps of training change little" in caplog.text
        caplog.clear()
        run_fit(splits, tmp_path / "more", epochs=FEW_STEPS)
        assert caplog.text == ""


@pytest.mark.parametrize("pct_start", [0.2, 0.5])
def test_one_step_is_a_step(splits, tmp_path, pct_start):
    """OneCycle ends at a millionth of its rate, which a training of one step must not have."""
    same = {"epochs": 1, "batch_size": len(splits[0]), "lr": 1e-2, "ema_decay": 0.0, "pct_start": pct_start}
    learnt, _, _ = run_fit(splits, tmp_path / "some", **same)
    still, _, _ = run_fit(splits, tmp_path / "none", **{**same, "lr": 1e-12})
    moved = [
        (one - other).abs().mean().item()
        for one, other in zip(learnt.parameters(), still.parameters(), strict=True)
        if (one != other).any()
    ]
    assert max(moved) == pytest.approx(1e-2, rel=0.1)  # AdamW's first step is the rate itself


def test_a_training_that_stops_early_is_the_beginning_of_the_whole_one(splits, tmp_path):
    """Its learning rate is that of the schedule that it leaves, as published teachers stop at epoch 30 of 80."""
    _, whole, _ = run_fit(splits, tmp_path / "whole", epochs=4)
    _, stopped, _ = run_fit(splits, tmp_path / "stopped", epochs=4, stop_epoch=2)
    _, short, _ = run_fit(splits, tmp_path / "short", epochs=2)
    losses = [[entry.loss for entry in result.history] for result in (whole, stopped, short)]
    assert losses[1] == losses[0][:2]
    assert losses[2] != losses[1]
    with pytest.raises(InputError, match="stop_epoch is 5, and the schedule has 4 epochs: leave it out"):
        TeachConfig.parse({**QUICK, "epochs": 4, "stop_epoch": 5}, "teach")


def test_the_head_is_trained_alone(splits, tmp_path):
    torch.manual_seed(0)
    start, _ = make_model(TeachConfig(**QUICK), splits[0].labels)
    model, _, _ = run_fit(splits, tmp_path, epochs=2, backbone_lr_scale=0)
    before, after = start.state_dict(), model.state_dict()
    moved = {name.split(".")[0] for name in after if not torch.equal(before[name], after[name])}
    assert moved == {"head"}  # and no statistic of the backbone's batch norms
    assert all(parameter.requires_grad for parameter in model.backbone.parameters())


def test_the_backbone_has_a_rate_of_its_own(splits, tmp_path):
    """AdamW's first step is the rate itself."""
    same = {"epochs": 1, "batch_size": len(splits[0]), "lr": 1e-2, "ema_decay": 0.0, "weight_decay": 0.0}
    torch.manual_seed(0)
    start, _ = make_model(TeachConfig(**QUICK), splits[0].labels)
    model, _, _ = run_fit(splits, tmp_path, **same, backbone_lr_scale=0.1)
    steps = {"backbone": [], "head": []}
    for (name, old), new in zip(start.named_parameters(), model.parameters(), strict=True):
        if (old != new).any():
            steps[name.split(".")[0]].append((old - new).abs().median().item())
    assert np.median(steps["backbone"]) == pytest.approx(1e-3, rel=0.1)
    assert np.median(steps["head"]) == pytest.approx(1e-2, rel=0.1)


def test_history_names_every_term(splits, tmp_path):
    class TwoTerms(TeachTask):
        def forward(self, batch, logits, embeddings):
            return {**super().forward(batch, logits, embeddings), "size": 0.01 * embeddings.square().mean()}

    config = TeachConfig(**QUICK, task_loss="bce")
    _, result, _ = run_fit(splits, tmp_path, TwoTerms(config, splits[0]), epochs=2)
    assert len(result.history) == 2
    for entry in result.history:
        assert list(entry.terms) == ["bce", "size"]
        assert entry.loss == pytest.approx(entry.bce + entry.size)
        assert all(np.isfinite(value) for value in entry.model_dump().values())
        assert 0 <= entry.val_mAP <= 1
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_the_best_epoch_s_averaged_weights_are_what_is_left(splits, tmp_path):
    """At a learning rate that shakes, the best epoch is not the last, and the model evaluates to exactly its mAP."""
    model, result, config = run_fit(splits, tmp_path, epochs=6, lr=5e-2)
    values = [entry.val_mAP for entry in result.history]
    assert result.best_epoch == int(np.argmax(values))
    assert result.val_mAP == max(values)
    assert len(set(values)) > 1
    assert not model.training
    assert evaluate(model, splits[1], config, make_accelerator(config)) == result.val_mAP
    state = torch.load(tmp_path / STATE, weights_only=True)
    assert all(torch.equal(tensor, state["best"][key]) for key, tensor in model.state_dict().items())
    moved = [key for key, tensor in state["model"].items() if not torch.equal(tensor, state["ema"][key])]
    assert any(key.startswith("backbone.") for key in moved)  # the average is not the trained weights


def test_the_same_seed_is_the_same_model_and_another_is_not(splits, tmp_path):
    first, _, _ = run_fit(splits, tmp_path / "a", epochs=1)
    second, _, _ = run_fit(splits, tmp_path / "b", epochs=1)
    other, _, _ = run_fit(splits, tmp_path / "c", epochs=1, seed=1)
    assert same_weights(first, second)
    assert not same_weights(first, other)


def test_evaluation_changes_nothing_and_keeps_the_order(splits, tmp_path):
    model, _, config = run_fit(splits, tmp_path, epochs=1)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    val = splits[1]
    logits = predict_logits(model, val, config, make_accelerator(config))
    assert logits.shape == (12, 5)
    assert logits.dtype == np.float32
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    with torch.no_grad():
        images = torch.from_numpy(np.stack([model.preprocess.load(path) for path in val.paths]))
        np.testing.assert_allclose(logits, model.logits(images).numpy(), atol=1e-5)
    value = evaluate(model, val, config, make_accelerator(config))
    assert value == mean_average_precision(val.targets, logits, val.ignore)


class _Interrupted(TeachTask):
    """Ctrl-C in the middle of an epoch."""

    def __init__(self, config: TeachConfig, train: MultiLabelDataset, after_steps: int) -> None:
        super().__init__(config, train)
        self.left = after_steps

    def forward(self, batch, logits, embeddings):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().forward(batch, logits, embeddings)


@pytest.mark.parametrize("workers", [0, 2])
def test_interrupted_and_resumed_is_bit_for_bit_the_undisturbed_run(splits, tmp_path, workers):
    """Stopped in the second of three epochs of three steps each."""
    given = {"epochs": 3, "workers": workers, "mixup": 0.3, "random_crop": 0.5}
    undisturbed, expected, config = run_fit(splits, tmp_path / "whole", **given)
    with pytest.raises(KeyboardInterrupt):
        run_fit(splits, tmp_path / "cut", _Interrupted(config, splits[0], after_steps=4), **given)
    seen = []

    class Watched(TeachTask):
        def forward(self, batch, logits, embeddings):
            seen.append(batch.index.tolist())
            return super().forward(batch, logits, embeddings)

    resumed, result, _ = run_fit(splits, tmp_path / "cut", Watched(config, splits[0]), **given)
    assert len(seen) == 6  # the first epoch was not made again
    assert [entry.loss for entry in result.history] == [entry.loss for entry in expected.history]
    assert [entry.val_mAP for entry in result.history] == [entry.val_mAP for entry in expected.history]
    assert result.best_epoch == expected.best_epoch
    assert same_weights(resumed, undisturbed)


def test_a_state_from_other_inputs_is_not_continued(splits, tmp_path):
    run_fit(splits, tmp_path, epochs=1, inputs="before")
    calls = []

    class Counted(TeachTask):
        def forward(self, batch, logits, embeddings):
            calls.append(1)
            return super().forward(batch, logits, embeddings)

    run_fit(splits, tmp_path, Counted(TeachConfig(**QUICK), splits[0]), epochs=1, inputs="after")
    assert len(calls) == 3


def test_a_finished_state_is_not_trained_further(splits, tmp_path):
    first, expected, _ = run_fit(splits, tmp_path, epochs=2)

    class Refusing(TeachTask):
        def forward(self, batch, logits, embeddings):
            raise AssertionError("trained again")

    second, result, _ = run_fit(splits, tmp_path, Refusing(TeachConfig(**QUICK), splits[0]), epochs=2)
    assert same_weights(first, second)
    assert result == expected


class _Broken(Task):
    """A term that is not finite from a step on, by itself or through the logits of one picture."""

    def __init__(self, from_step: int, picture: int | None = None) -> None:
        super().__init__()
        self.from_step, self.picture, self.step = from_step, picture, 0

    def forward(self, batch, logits, embeddings):
        self.step += 1
        fine = embeddings.square().mean()
        broken = logits.square().mean() * (float("inf") if self.step >= self.from_step else 1)
        return {"fine": fine, "broken": broken}


def test_a_loss_that_is_not_finite_names_the_term_the_step_and_the_pictures(splits, tmp_path):
    expected = r"not finite: broken in epoch 1, step 2, pictures (\d{5}\.jpg, ){7}"
    with pytest.raises(InputError, match=expected) as caught:
        run_fit(splits, tmp_path, _Broken(2))
    assert "fine" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_the_picture_whose_logits_are_not_finite_is_named(splits, tmp_path):
    class OnePicture(TeachTask):
        def forward(self, batch, logits, embeddings):
            batch.index.copy_(torch.arange(len(batch.index)))
            with torch.no_grad():
                logits[3] = float("nan")
            return super().forward(batch, logits, embeddings)

    with pytest.raises(InputError, match=r"step 1, pictures 00003\.jpg; lower lr"):
        run_fit(splits, tmp_path, OnePicture(TeachConfig(**QUICK), splits[0]))


def test_the_last_finished_epoch_is_kept_and_continued(splits, tmp_path):
    """Three steps an epoch: the fourth is the first of the second epoch."""
    with pytest.raises(InputError, match="epoch 2, step 1"):
        run_fit(splits, tmp_path, _Broken(4))
    _, result, _ = run_fit(splits, tmp_path, _Broken(100))
    assert len(result.history) == 2


def test_a_full_device_is_told_with_what_to_lower(splits, tmp_path, monkeypatch):
    def full(*arguments):
        raise torch.OutOfMemoryError("tried to allocate 3 GiB")

    monkeypatch.setattr(TeachTask, "forward", full)
    with pytest.raises(InputError, match=r"out of memory with batch_size 8 at 32 px.*lower batch_size.*3 GiB"):
        teach(*splits, TeachConfig(**QUICK), tmp_path / "teacher")


class _Known(Task):
    """Its gradient is the number of the pass."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.passes = 0
        self.seen: list[float] = []
        self.weight.register_post_accumulate_grad_hook(lambda weight: self.seen.append(weight.grad.item()))

    def forward(self, batch, logits, embeddings):
        self.passes += 1
        return {"known": self.weight * self.passes + 0 * logits.sum()}


def test_the_last_passes_of_an_epoch_are_a_step_of_their_own_mean(splits, tmp_path):
    """24 pictures make 4 passes of 6; in steps of 3 the last is a step of one pass, not a third of it."""
    task = _Known()
    run_fit(splits, tmp_path, task, epochs=1, batch_size=6, accumulate=3)
    assert task.seen == pytest.approx([1 / 3, 3 / 3, 6 / 3, 4.0])


def test_accumulated_passes_are_one_step_of_their_mean(splits, tmp_path):
    """Without batch statistics, dropout or a mean over unequal counts, two passes of 4 are one pass of 8."""
    still = {"augment": "none", "flip": 0, "cutout": 0, "task_loss": "bce", "backbone": "test_vit", "size": 64}

    def undropped(*arguments, **keywords):
        model, source = make_model(*arguments, **keywords)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        return model.double(), source

    results = []
    for name, size, accumulate in (("one", 8, 1), ("two", 4, 2)):
        config = TeachConfig(**{**QUICK, **still, "epochs": 2, "batch_size": size, "accumulate": accumulate})
        torch.manual_seed(0)
        model, _ = undropped(config, splits[0].labels)
        (tmp_path / name).mkdir()
        task = TeachTask(config, splits[0])
        results.append(
            fit(model, task, *splits, config, tmp_path / name, inputs="x", accelerator=make_accelerator(config))
        )
    one, two = results
    for first, second in zip(one.history, two.history, strict=True):
        assert first.loss == pytest.approx(second.loss, rel=1e-9)
        assert first.val_mAP == pytest.approx(second.val_mAP, abs=1e-12)


def test_an_ignored_cell_s_target_changes_nothing(splits, tmp_path):
    train, val = splits
    ignore = np.random.default_rng(0).random(train.targets.shape) < 0.3
    flipped = np.where(ignore, 1 - train.targets, train.targets).astype(train.targets.dtype)
    assert (flipped != train.targets).any()
    one, _, _ = run_fit((with_arrays(train, ignore=ignore), val), tmp_path / "a", epochs=1)
    other, _, _ = run_fit((with_arrays(train, ignore=ignore, targets=flipped), val), tmp_path / "b", epochs=1)
    heard, _, _ = run_fit((with_arrays(train, targets=flipped), val), tmp_path / "c", epochs=1)
    assert same_weights(one, other)
    assert not same_weights(one, heard)  # without the mask the same flips are learned


def test_an_ignored_cell_of_val_does_not_count(splits, tmp_path):
    train, val = splits
    ignore = np.zeros_like(val.ignore)
    ignore[2:6, 1] = True
    flipped = np.where(ignore, 1 - val.targets, val.targets).astype(val.targets.dtype)
    _, one, _ = run_fit((train, with_arrays(val, ignore=ignore)), tmp_path / "a", epochs=1)
    _, other, _ = run_fit((train, with_arrays(val, ignore=ignore, targets=flipped)), tmp_path / "b", epochs=1)
    assert one.val_mAP == other.val_mAP


def test_killed_and_started_again_is_the_undisturbed_teacher(forks, tiny_data, splits, tmp_path):
    """kill -9 once an epoch is finished, then the same command: the same bytes as without the kill."""
    settings = {**QUICK, "epochs": 6, "batch_size": 2}
    flags = [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    out, state = tmp_path / "teacher", tmp_path / ".teacher.training" / STATE
    command = ["edgepress", "teach", tiny_data, "--out", out, *flags]

    (child,) = forks.start(command)
    deadline = time.monotonic() + 120
    while not state.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    killed = forks.finish()
    assert killed.codes == [-signal.SIGKILL], killed.err
    assert state.exists()
    assert not out.exists()
    again = forks.run(command)
    assert again.codes == [0], again.err
    assert "resumed after epoch" in again.err
    assert again.out.strip() == str(out)
    assert not state.parent.exists()

    undisturbed, resumed = teach(*splits, TeachConfig(**settings), tmp_path / "whole"), Bundle.open(out)
    assert resumed.manifest.inputs == undisturbed.manifest.inputs
    assert len(resumed.manifest.facts.history) == 6
    assert file_sha256(resumed.model_path) == file_sha256(undisturbed.model_path)


def test_teach_tells_a_broken_picture_and_leaves_nothing_finished(splits, tmp_path):
    train, val = splits
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(train.paths[0].read_bytes()[:200])
    data = with_arrays(train, paths=[broken, *train.paths[1:]])
    with pytest.raises(InputError, match=r"broken\.jpg: truncated"):
        teach(data, val, TeachConfig(**QUICK, epochs=1), tmp_path / "teacher")
    assert not (tmp_path / "teacher").exists()


def test_synchronised_batch_norms_are_the_same_model(splits):
    """What a launch on GPUs trains computes what the model computes, activations included, under the same names."""
    model, _ = make_model(TeachConfig(**QUICK), splits[0].labels)
    before = model.eval().state_dict().keys()
    images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    with torch.no_grad():
        expected = model.logits(images)
        assert convert_sync_batchnorm(model) is model
        assert any(isinstance(module, torch.nn.SyncBatchNorm) for module in model.modules())
        torch.testing.assert_close(model.logits(images), expected)
    assert model.state_dict().keys() == before


@pytest.mark.parametrize(
    ("device", "needs"), [("cpu", r"a C\+\+ compiler .* nor \$CXX"), ("cuda", r"a C compiler .* nor \$CC")]
)
def test_without_a_compiler_torch_compile_is_refused_before_the_first_step(monkeypatch, device, needs):
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match=f"torch_compile on {device} needs {needs} here"):
        learning._require_compiler(torch.device(device))


def test_batches_are_copied_to_a_gpu_beside_the_step_before():
    """Not run on a GPU: accelerate then asks for copies that nobody waits for, of page-locked memory."""
    assert make_accelerator(TeachConfig(**QUICK)).non_blocking
