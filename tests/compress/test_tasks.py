"""Tasks: every term that a setting names is trained, with what it learns saved and continued."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch._inductor.config
from safetensors.torch import load_file

from edgepress.compress.config import DistillConfig, TeachConfig
from edgepress.compress.distill import distill
from edgepress.compress.examination import Examined
from edgepress.compress.losses import (
    AttentionTransfer,
    BinaryKD,
    FitNetHints,
    MultiLabelLogitsDistillation,
    ProbabilisticKT,
    RefinedLogits,
    RelationalKD,
    ReviewKD,
)
from edgepress.compress.methods import ALONE, INSIDE, ON_MAPS, ON_MEMORY, PRESETS, TERMS
from edgepress.compress.models import make_model
from edgepress.compress.tasks import DistillTask
from edgepress.compress.teacher import LiveTeacher
from edgepress.compress.terms import task_loss
from edgepress.compress.training import STATE, fit, make_accelerator
from edgepress.multilabel.errors import InputError
from tests.compress.lessons import STUDENT, TEACHER, TRAIN, models, random_batch, run_fit, updated

pytestmark = pytest.mark.usefixtures("one_thread")


OF_PRESETS = {"preset", "reduction", "mixup", "review_kd_warmup", "auxiliary"}
"""Settings that a preset may have beside its weights."""


def only(**weights: float) -> DistillConfig:
    return updated(STUDENT, **{**dict.fromkeys(TERMS, 0.0), **weights})


@pytest.mark.parametrize("name", TERMS)
def test_each_term_alone_teaches_the_student(name):
    teacher_model, student = models()
    task = DistillTask(only(task=0.0, **{name: 1.0}), LiveTeacher(teacher_model, maps=name in ON_MAPS), student, TRAIN)
    if task.memory_loss is not None:  # its projection starts at 0, and lets gradients pass from the second step on
        torch.nn.init.normal_(task.memory_loss.project.weight)
    batch = random_batch()
    student.train()
    terms = task(batch, *student(batch.images))
    assert list(terms) == [name]
    assert terms[name].item() > 0
    terms[name].backward()
    assert student.backbone.conv_stem.weight.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in teacher_model.parameters())


def test_terms_inside_are_the_losses_of_the_tapped_features():
    """The same numbers by hand: features from each backbone's own forward pass."""
    teacher_model, student = models()
    config = only(rkd=2.0, pkt=3.0, review_kd=5.0, at=7.0, fitnet=11.0)
    task = DistillTask(config, LiveTeacher(teacher_model), student, TRAIN).eval()
    batch = random_batch()
    terms = task(batch, *student.eval()(batch.images))
    student(batch.images)
    ours = task.taps.take()
    with torch.no_grad():
        teacher_model(batch.teacher_images)
    theirs = task.teacher.features()
    pooled = ours.tokens.mean(dim=1), theirs.tokens.mean(dim=1)
    expected = {
        "rkd": 2 * RelationalKD()(*pooled),
        "pkt": 3 * ProbabilisticKT()(*pooled),
        "review_kd": 5 * task.map_losses["review_kd"](ours.maps, theirs.maps),
        "at": 7 * AttentionTransfer()(ours.maps, theirs.maps),
        "fitnet": 11 * task.map_losses["fitnet"](ours.maps, theirs.maps),
    }
    assert isinstance(task.map_losses["review_kd"], ReviewKD)
    assert isinstance(task.map_losses["fitnet"], FitNetHints)
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, msg=name)


def test_pictures_that_teach_nothing_are_left_out_of_the_terms_inside():
    """Two pictures of which nobody knows a cell; one that is known in part takes part as a whole."""
    teacher_model, student = models()
    config = only(rkd=2.0, pkt=3.0, review_kd=5.0, at=7.0, fitnet=11.0, simkd=13.0)
    task = DistillTask(config, LiveTeacher(teacher_model), student, TRAIN).eval()
    batch = random_batch()
    batch.ignore[[1, 4]] = True
    batch.ignore[2, 1:] = True
    kept = torch.tensor([0, 2, 3, 5])
    terms = task(batch, *student.eval()(batch.images))
    some = replace(batch, **{name: getattr(batch, name)[kept] for name in ("images", "teacher_images", "targets")})
    some = replace(some, **{name: getattr(batch, name)[kept] for name in ("ignore", "labelled", "index")})
    expected = task(some, *student(some.images))
    for name in (*INSIDE, *ON_MEMORY):
        torch.testing.assert_close(terms[name], expected[name], msg=name)


def test_a_second_head_learns_a_term_and_stays_behind(teacher, splits, tmp_path):
    teacher_model, student = models()
    config = only(mld=2.0, kd=1.0, auxiliary="mld")
    task = DistillTask(config, LiveTeacher(teacher_model), student, TRAIN).eval()
    batch = random_batch()
    logits, embeddings = student.eval()(batch.images)
    terms = task(batch, logits, embeddings)
    with torch.no_grad():
        said = teacher_model(batch.teacher_images)[0]
    second = task.auxiliary.logits(student.tokens(batch.images))
    arguments = said, batch.targets, batch.ignore
    torch.testing.assert_close(terms["mld"], 2 * MultiLabelLogitsDistillation()(second, *arguments))
    torch.testing.assert_close(terms["kd"], BinaryKD()(logits, *arguments))
    terms["mld"].backward()
    assert student.head.weight.grad is None
    assert student.backbone.conv_stem.weight.grad.abs().max() > 0
    assert task.auxiliary.weight.grad.abs().max() > 0
    made = distill(*splits, teacher, updated(config, epochs=1), tmp_path / "student")
    assert load_file(made.model_path).keys() == student.state_dict().keys()
    with pytest.raises(InputError, match="auxiliary is ps, whose weight is 0"):
        DistillConfig.parse({"mld": 1.0, "auxiliary": "ps"}, "flags")


def test_refined_logits_use_the_precision_on_val_and_what_people_said():
    teacher_model, student = models()
    precision = np.array([0.1, 0.9, 0.5, 0.0])
    everything = np.ones(4, bool)
    examined = Examined(taught=everything, inside=everything, precision=precision)
    task = DistillTask(only(refined=3.0, sure=0.5), LiveTeacher(teacher_model), student, TRAIN, examined).eval()
    batch = replace(random_batch(), labelled=torch.tensor([True, True, True, True, False, False]))
    batch.targets[4:], batch.ignore[4:] = 0, True
    logits, embeddings = student.eval()(batch.images)
    with torch.no_grad():
        said = teacher_model(batch.teacher_images)[0]
    expected = RefinedLogits(0.5, precision.tolist())(logits, said, batch.targets)
    torch.testing.assert_close(task(batch, logits, embeddings)["refined"], 3 * expected)


def test_review_kd_s_weight_rises_over_the_first_epochs():
    teacher_model, student = models()
    config = updated(only(review_kd=1.0), epochs=10, review_kd_warmup=0.3)
    task = DistillTask(config, LiveTeacher(teacher_model), student, TRAIN).eval()
    found = []
    for epoch in (0, 1, 2, 3, 9):
        batch = replace(random_batch(), epoch=epoch)
        found.append(task(batch, *student.eval()(batch.images))["review_kd"].item())
    assert [value / found[-1] for value in found] == pytest.approx([0, 1 / 3, 2 / 3, 1, 1], rel=1e-5)


@pytest.mark.parametrize("width", [3, 16])
def test_review_kd_s_fused_maps_are_as_wide_as_the_settings_say(width):
    teacher_model, student = models()
    task = DistillTask(only(review_kd=1.0, review_kd_width=width), LiveTeacher(teacher_model), student, TRAIN)
    assert {fusion.enter[0].out_channels for fusion in task.map_losses["review_kd"].fusions} == {width}


def test_what_a_loss_learns_is_trained_saved_and_continued(splits, tmp_path):
    """Interrupted after the first of two epochs, ReviewKD's fusion goes on from where it was."""
    names = splits[0].labels

    def learn(work, stop_after=None):
        torch.manual_seed(0)
        config = updated(only(review_kd=0.1, fitnet=0.1), epochs=2)
        listening, _ = make_model(TEACHER, names)
        student, _ = make_model(config, names)

        class Stopping(DistillTask):
            calls = 0

            def forward(self, *arguments):
                self.calls += 1
                if stop_after is not None and self.calls > stop_after:
                    raise KeyboardInterrupt
                return super().forward(*arguments)

        task = Stopping(config, LiveTeacher(listening), student, splits[0])
        before = {name: tensor.clone() for name, tensor in task.state_dict().items()}
        work.mkdir(exist_ok=True)
        fit(
            student, task, *splits, config, work, inputs="x", accelerator=make_accelerator(config),
            teacher_preprocess=listening.preprocess,
        )  # fmt: skip
        return student.state_dict(), task.state_dict(), before

    whole, learnt, before = learn(tmp_path / "whole")
    assert any(not torch.equal(learnt[name], before[name]) for name in learnt if name.endswith("weight"))
    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path / "cut", stop_after=4)
    assert (tmp_path / "cut" / STATE).is_file()
    resumed, learnt_again, _ = learn(tmp_path / "cut")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert all(torch.equal(learnt[name], learnt_again[name]) for name in learnt)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_distils(teacher, splits, tmp_path, preset):
    config = DistillConfig(**{**STUDENT.model_dump(exclude={*TERMS, *OF_PRESETS}), "preset": preset})
    cache = tmp_path / "cache"
    entry = distill(*splits, teacher, config, tmp_path / "student", cache).manifest.facts.history[0]
    expected = {name for name in TERMS if PRESETS[preset][name]}
    assert entry.terms.keys() & set(TERMS) == expected
    assert all(np.isfinite(entry.terms[name]) for name in ("bce", *expected))
    rises = preset == "review_kd+warmup"  # from 0 in the first epoch
    assert all((entry.terms[name] == 0) == (rises and name == "review_kd") for name in ("bce", *expected))
    # Kept answers serve all but those that look inside the teacher, which is examined on val in any case.
    kept = {file.name.split("-")[0] for file in cache.rglob("*.logits")}
    varied = bool(expected) and not expected & {*INSIDE, *ON_MEMORY}
    assert kept == ({"plain.logits", "variation"} if varied else {"plain.logits"})
    student = distill(*splits, teacher, config, tmp_path / "student")
    # What a loss learnt stays behind.
    assert load_file(student.model_path).keys() == make_model(config, splits[0].labels)[0].state_dict().keys()


@pytest.mark.parametrize("config", [TeachConfig(), DistillConfig()])
def test_settings_reach_the_task_loss(config):
    """Each setting moves the loss as its formula says."""
    logits, targets = torch.tensor([[1.0, -2.0, 0.5, 3.0]]), torch.tensor([[1.0, 0.0, 0.0, 1.0]])
    losses = {
        name: task_loss(updated(config, **settings), TRAIN, "mean")(logits, targets).item()
        for name, settings in {
            "bce": {"task_loss": "bce"},
            "smooth": {"task_loss": "bce", "label_smoothing": 0.2},
            "balanced": {"task_loss": "bce", "positive_weights": "balanced"},
            "focal": {"task_loss": "focal"},
            "asl": {"task_loss": "asl"},
            "asl as bce": {"task_loss": "asl", "gamma_neg": 0, "gamma_pos": 0, "clip": 0},
        }.items()
    }
    p = torch.sigmoid(logits)[0].double()
    cells = torch.stack([-p[0].log(), -(1 - p[1]).log(), -(1 - p[2]).log(), -p[3].log()])
    assert losses["bce"] == pytest.approx(cells.mean().item(), rel=1e-5)
    assert losses["asl as bce"] == pytest.approx(losses["bce"], rel=1e-5)
    smooth = 0.9 * torch.tensor([1.0, 0, 0, 1]) + 0.1 * torch.tensor([0.0, 1, 1, 0])
    expected = -(smooth * p.log() + (1 - smooth) * (1 - p).log()).mean().item()
    assert losses["smooth"] == pytest.approx(expected, rel=1e-5)
    # TRAIN: label 0 has 3 positives of 4 known, label 3 has 1 of 4.
    expected = ((1 / 3) * cells[0] + cells[1] + cells[2] + 3 * cells[3]).item() / 4
    assert losses["balanced"] == pytest.approx(expected, rel=1e-5)
    alpha, gamma = 0.25, 2
    focal = [alpha * (1 - p[0]) ** gamma * cells[0], (1 - alpha) * p[1] ** gamma * cells[1]]
    focal += [(1 - alpha) * p[2] ** gamma * cells[2], alpha * (1 - p[3]) ** gamma * cells[3]]
    assert losses["focal"] == pytest.approx(sum(value.item() for value in focal) / 4, rel=1e-5)
    assert losses["asl"] < losses["bce"]


def test_an_ignored_cell_is_not_counted_for_positive_weights():
    """TRAIN's label 2: positives in pictures 1 and 3, of three known cells."""
    loss = task_loss(TeachConfig(positive_weights="balanced"), TRAIN, "mean")
    assert loss.positive_weights.tolist() == pytest.approx([1 / 3, 1.0, 0.5, 3.0])


def test_a_label_without_a_negative_keeps_its_weight():
    always = replace(TRAIN, targets=np.ones_like(TRAIN.targets))
    loss = task_loss(TeachConfig(positive_weights="balanced"), always, "mean")
    assert loss.positive_weights.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("name", ["gamma_neg", "gamma_pos"])
def test_a_power_without_a_bound_is_refused_with_the_settings(name):
    with pytest.raises(InputError, match=rf"--{name.replace('_', '-')} 0.5: .*expected 0, or at least 1"):
        TeachConfig.parse({name: 0.5}, "flags")


@pytest.mark.parametrize("term", ["mld", "hint", "rkd"])
def test_alone_has_no_teacher_s_term(term):
    with pytest.raises(InputError, match=f"no teacher, but {term} is 2"):
        DistillConfig.parse({"preset": "alone", term: 2}, "flags")


def test_alone_may_inherit_a_head(teacher, splits, tmp_path):
    """What the head alone brings: no term of the teacher's."""
    config = updated(STUDENT, **ALONE | {"preset": "alone", "width": 64, "inherit_head": "auto"})
    facts = distill(*splits, teacher, config, tmp_path / "student").manifest.facts
    assert facts.inherited
    assert facts.history[0].model_dump().keys() == {"loss", "bce", "val_mAP", "seconds"}


@pytest.mark.parametrize(("stages", "found"), [(2, "2 feature maps"), (3, "3 feature maps"), (4, None)])
def test_the_default_compares_as_many_maps_as_both_have(stages, found, caplog):
    """A student that is cut behind its third stage was refused, after its teacher had been trained."""
    caplog.set_level("INFO", "edgepress")
    teacher_model, _ = models()
    config = updated(only(review_kd=0.1, simkd=4.0), stages=stages)
    student, _ = make_model(config, teacher_model.labels)
    task = DistillTask(config, LiveTeacher(teacher_model), student, TRAIN)
    batch = random_batch()
    terms = task(batch, *student.train()(batch.images))
    assert list(terms) == ["bce", "simkd", "review_kd"]
    assert len(task.taps.channels()) == stages
    assert ("feature map" in caplog.text) == (found is not None)
    assert (found or "") in caplog.text


def test_a_term_that_looks_inside_needs_maps(splits):
    """A backbone that timm names no maps of is told before training."""
    teacher_model, _ = models()
    student, _ = make_model(updated(STUDENT, backbone="test_vit", size=64), teacher_model.labels)
    student.backbone.feature_info = []
    with pytest.raises(InputError, match="names 0 feature maps"):
        DistillTask(only(at=1.0), LiveTeacher(teacher_model), student, TRAIN)


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ here: torch.compile on a CPU needs a C++ compiler")
def test_a_compiled_model_learns_the_same(splits, tmp_path):
    _, plain, _ = run_fit(splits, tmp_path / "plain", epochs=1)
    torch._dynamo.utils.counters.clear()
    with torch._inductor.config.patch(fallback_random=True):  # the same dropout
        _, compiled, _ = run_fit(splits, tmp_path / "compiled", epochs=1, torch_compile=True)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert compiled.history[0].asl == pytest.approx(plain.history[0].asl, rel=1e-3)
