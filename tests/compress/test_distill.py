"""teach and distill: the terms are the losses, the teacher is only looked at, finished work is kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgepress.compress.checkpoint import load_model
from edgepress.compress.config import DistillConfig
from edgepress.compress.distill import distill, teach
from edgepress.compress.examination import Examined
from edgepress.compress.lesson import inherit_head
from edgepress.compress.losses import (
    AsymmetricLoss,
    BinaryCrossEntropy,
    BinaryKD,
    GroupedLogitsLoss,
    GroupedTaskLoss,
    LabelWiseEmbeddingDistillation,
    MultiLabelLogitsDistillation,
)
from edgepress.compress.methods import ALONE
from edgepress.compress.models import make_model
from edgepress.compress.tasks import DistillTask, TeachTask
from edgepress.compress.teacher import LiveTeacher
from edgepress.compress.training import evaluate, make_accelerator
from edgepress.multilabel.bundle import Bundle, file_sha256
from edgepress.multilabel.decisions import Affine
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.label_groups import LabelGroups
from edgepress.multilabel.labels import LabelSpace
from tests.compress.lessons import LABELS, STUDENT, TEACHER, TRAIN, content, models, random_batch, updated, with_labels

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("ignored", [0.0, 0.3])
@pytest.mark.parametrize("reduction", ["mean", "published"])
def test_the_terms_are_the_weighted_losses(reduction, ignored):
    teacher_model, student = models()
    config = updated(STUDENT, reduction=reduction, mld=2.0, cd=3.0, id=5.0)
    batch = random_batch(ignored)
    logits, embeddings = student(batch.images)
    terms = DistillTask(config, LiveTeacher(teacher_model), student, TRAIN)(batch, logits, embeddings)
    assert list(terms) == ["bce", "mld", "cd", "id"]
    with torch.no_grad():
        told, shown = teacher_model.eval()(batch.teacher_images)
    targets, ignore = batch.targets, batch.ignore
    structure = LabelWiseEmbeddingDistillation(1.0, 1.0, reduction).terms(embeddings, shown, targets, ignore)
    expected = {
        "bce": BinaryCrossEntropy(reduction)(logits, targets, ignore),
        "mld": 2 * MultiLabelLogitsDistillation(reduction)(logits, told, targets, ignore),
        "cd": 3 * structure["cd"],
        "id": 5 * structure["id"],
    }
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, msg=name)
        assert value.item() > 0, name


@pytest.mark.parametrize(
    ("off", "left"), [({"mld": 0}, {"bce", "cd", "id"}), ({"cd": 0}, {"bce", "mld", "id"}), ({"cd": 0, "id": 0}, None)]
)
def test_a_term_of_weight_zero_is_left_out(off, left):
    teacher_model, student = models()
    batch = random_batch()
    task = DistillTask(updated(STUDENT, **off), LiveTeacher(teacher_model), student, TRAIN)
    terms = task(batch, *student(batch.images))
    assert terms.keys() == (left or {"bce", "mld"})


def test_nothing_to_distil_is_refused():
    with pytest.raises(InputError, match="nothing would be distilled"):
        DistillConfig.parse({"review_kd": 0, "simkd": 0}, "flags")


@pytest.mark.parametrize(("name", "loss"), [("bce", BinaryCrossEntropy()), ("asl", AsymmetricLoss())])
def test_teach_s_only_term_is_its_task_loss(name, loss):
    _, student = models()
    batch = random_batch(0.3)
    logits, embeddings = student(batch.images)
    terms = TeachTask(updated(TEACHER, task_loss=name), TRAIN)(batch, logits, embeddings)
    assert list(terms) == [name]
    torch.testing.assert_close(terms[name], loss(logits, batch.targets, batch.ignore))


def test_the_teacher_learns_nothing_and_stays_as_it_is():
    teacher_model, student = models()
    before = {key: tensor.clone() for key, tensor in teacher_model.state_dict().items()}
    task = DistillTask(STUDENT, LiveTeacher(teacher_model.train()), student, TRAIN)
    student.train()
    batch = random_batch()
    for _ in range(2):
        sum(task(batch, *student(batch.images)).values()).backward()
    assert not any(module.training for module in teacher_model.modules())
    assert all(parameter.grad is None for parameter in teacher_model.parameters())
    assert all(torch.equal(tensor, before[key]) for key, tensor in teacher_model.state_dict().items())
    assert all(parameter.grad is not None for parameter in student.head.parameters() if parameter.requires_grad)


def test_the_student_s_own_copy_as_its_teacher_leaves_nothing_to_distil():
    _, student = models()
    _, copy = models()
    copy.load_state_dict(student.state_dict())
    batch = random_batch()
    batch.teacher_images = batch.images
    terms = DistillTask(STUDENT, LiveTeacher(copy), student, TRAIN)(batch, *student.eval()(batch.images))
    for name in ("mld", "cd", "id"):
        assert terms[name].abs().item() < 1e-6, name


def test_teach_leaves_a_bundle_that_says_how_it_was_made(teacher, splits):
    manifest = teacher.manifest
    assert (manifest.kind, manifest.precision, manifest.parent) == ("torch", "fp32", None)
    assert manifest.labels == splits[0].labels.names
    assert manifest.preprocess.size == 64
    assert manifest.architecture.backbone == "test_vit"
    assert manifest.facts.weights == "none (random)"
    assert manifest.facts.pictures == 24
    assert manifest.facts.training["task_loss"] == "asl"
    assert len(manifest.facts.history) == 1
    assert manifest.facts.val_mAP == max(entry.val_mAP for entry in manifest.facts.history)
    assert {"torch", "timm", "edgepress"} <= manifest.tools.keys()
    assert any(name.startswith("tensorboard/") for name in manifest.files)
    assert [path.name for path in teacher.path.parent.iterdir()] == ["teacher"]  # nothing hidden stays beside it


def test_distil_between_unlike_models(teacher, splits, tmp_path):
    """ViT at 64 px, mean 0.5, 64 wide, to a convnet at 32 px, ImageNet's mean, 32 wide."""
    before = content(teacher.path)
    student = distill(*splits, teacher, STUDENT, tmp_path / "student")
    assert content(teacher.path) == before
    assert student.preprocess.mean != teacher.preprocess.mean
    assert student.preprocess.size == 32
    assert student.manifest.parent == teacher.as_parent
    entry = student.manifest.facts.history[0]
    assert list(entry.terms) == ["bce", "mld", "cd", "id"]
    assert {"cd_groups", "id_groups"} <= entry.model_dump().keys()
    assert all(entry.terms[name] > 0 for name in ("bce", "mld", "cd", "id"))
    accelerator = make_accelerator(STUDENT)
    value = evaluate(load_model(student.path), splits[1], STUDENT, accelerator)
    assert value == student.manifest.facts.val_mAP
    value = evaluate(load_model(teacher.path), splits[1], STUDENT, accelerator)
    assert value == student.manifest.facts.teacher_val_mAP == teacher.manifest.facts.val_mAP


def test_the_student_starts_with_the_teacher_s_head():
    """At the same width everything is copied, but the projection where backbones differ in width."""
    teacher_model, _ = models()
    student, _ = make_model(updated(STUDENT, width=64), LABELS)
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    copied = inherit_head(student, teacher_model)
    theirs, ours = teacher_model.head.state_dict(), student.head.state_dict()
    assert sorted(theirs.keys() - set(copied)) == ["embed.weight"]  # 64 and 256 features
    assert "queries" in copied
    assert all(torch.equal(ours[name], theirs[name]) for name in copied)
    assert torch.equal(ours["embed.weight"], before["head.embed.weight"])
    kept = [name for name in before if name.startswith("backbone.")]
    assert all(torch.equal(student.state_dict()[name], before[name]) for name in kept)


def test_another_width_or_kind_of_head_stays_random():
    teacher_model, student = models()
    linear, _ = make_model(updated(STUDENT, head="linear"), LABELS)
    for model in (student, linear):
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        assert inherit_head(model, teacher_model) == []
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "inherits"), [({"inherit_head": "auto"}, True), ({}, False), (ALONE | {"preset": "alone"}, False)]
)
def test_what_was_inherited_is_recorded(teacher, splits, tmp_path, changes, inherits):
    settings = STUDENT.model_dump(exclude_unset=True)
    student = distill(*splits, teacher, DistillConfig(**{**settings, "width": 64, **changes}), tmp_path / "student")
    assert bool(student.manifest.facts.inherited) == inherits


def test_a_linear_student_of_an_ml_decoder_teacher(teacher, splits, tmp_path):
    student = distill(*splits, teacher, updated(STUDENT, head="linear"), tmp_path / "student")
    assert student.manifest.architecture.head == "linear"
    assert np.isfinite(student.manifest.facts.history[0].loss)


def test_the_published_reduction_runs(teacher, splits, tmp_path):
    config = updated(STUDENT, reduction="published", mld=10, cd=100, id=1000, lr=1e-4)
    entry = distill(*splits, teacher, config, tmp_path / "student").manifest.facts.history[0]
    assert all(np.isfinite(value) for value in entry.model_dump().values())
    assert all(entry.terms[name] > 0 for name in ("bce", "mld", "cd", "id"))


def test_the_embedding_terms_change_the_student(teacher, splits, tmp_path):
    with_structure = distill(*splits, teacher, STUDENT, tmp_path / "a")
    without = distill(*splits, teacher, updated(STUDENT, cd=0, id=0), tmp_path / "b")
    assert file_sha256(with_structure.model_path) != file_sha256(without.model_path)
    assert "cd" not in without.manifest.facts.history[0].terms


def test_a_teacher_of_other_labels_stops_before_anything_is_written(teacher, splits, tmp_path):
    train, val = (with_labels(split, ("a", "b", "c", "d", "e")) for split in splits)
    with pytest.raises(InputError, match=r"the teacher .*: none of its 5 labels .* is a label of the data set"):
        distill(train, val, teacher, STUDENT, tmp_path / "student")
    assert list(tmp_path.iterdir()) == []


def test_a_teacher_that_orders_its_labels_otherwise_is_asked_by_name(teacher, splits, tmp_path):
    turned = [
        replace(
            split,
            labels=LabelSpace(split.labels.names[::-1]),
            targets=split.targets[:, ::-1].copy(),
            ignore=split.ignore[:, ::-1].copy(),
        )
        for split in splits
    ]
    first = distill(*splits, teacher, STUDENT, tmp_path / "first").manifest.facts
    second = distill(*turned, teacher, STUDENT, tmp_path / "second").manifest.facts
    assert second.teacher_val_mAP == pytest.approx(first.teacher_val_mAP)
    assert second.untaught == ()


def test_a_label_that_the_teacher_lacks_is_learnt_from_the_labels_alone(teacher, splits, tmp_path):
    train, val = (with_labels(split, ("red", "green", "blue", "circle", "ring")) for split in splits)
    student = distill(train, val, teacher, updated(STUDENT, mld=4, cd=0.5, id=0.5), tmp_path / "student")
    facts = student.manifest.facts
    assert (facts.untaught, facts.teacher_calibration) == (("ring",), "none")
    assert all(np.isfinite(value) for value in facts.history[0].model_dump().values())


def test_a_val_of_other_labels_stops_before_anything_is_written(splits, tmp_path):
    train, val = splits
    with pytest.raises(InputError, match=r"labels of the train split .* the val split .* differ"):
        teach(train, with_labels(val, ("red", "green", "blue", "circle", "ring")), TEACHER, tmp_path / "other")
    assert list(tmp_path.iterdir()) == []


def test_a_val_whose_files_order_the_labels_otherwise_is_matched_by_name(splits, tmp_path):
    train, val = splits
    turned = replace(val, root=tmp_path, labels=LabelSpace(val.labels.names[::-1]), targets=val.targets[:, ::-1],
                     ignore=val.ignore[:, ::-1])  # fmt: skip
    first, second = teach(train, val, TEACHER, tmp_path / "a"), teach(train, turned, TEACHER, tmp_path / "b")
    assert first.manifest.facts.val_mAP == second.manifest.facts.val_mAP
    assert second.labels == train.labels


def test_finished_work_is_kept_and_a_changed_setting_is_made_again(teacher, splits, tmp_path, caplog):
    out = tmp_path / "student"
    first = distill(*splits, teacher, STUDENT, out)
    made = content(out)
    assert distill(*splits, teacher, STUDENT, out).digest == first.digest
    assert distill(*splits, teacher, updated(STUDENT, workers=1), out).digest == first.digest
    assert content(out) == made
    caplog.clear()
    caplog.set_level("INFO", "edgepress")
    again = distill(*splits, teacher, updated(STUDENT, mld=0.5), out)
    replaced, settings, *training = caplog.messages  # told before the training that takes its place
    assert "student: was made from something else, or with other settings: it is replaced when this is done" in replaced
    assert settings.endswith("student: other settings: mld 0.5 (was 1.0)")
    assert training[0].startswith("student test_efficientnet")
    assert again.digest != first.digest
    assert file_sha256(again.model_path) != made["model.safetensors"][0]
    assert [path.name for path in tmp_path.iterdir()] == ["student"]


def test_another_teacher_or_other_pictures_are_made_again(teacher, splits, tmp_path):
    train, val = splits
    first = distill(train, val, teacher, STUDENT, tmp_path / "student")
    fewer = distill(train.subset(np.arange(16)), val, teacher, STUDENT, tmp_path / "student")
    assert fewer.manifest.inputs != first.manifest.inputs
    assert fewer.manifest.facts.pictures == 16
    other_teacher = teach(train, val, updated(TEACHER, seed=1), tmp_path / "teacher")
    other = distill(train, val, other_teacher, STUDENT, tmp_path / "student")
    assert other.manifest.inputs not in (first.manifest.inputs, fewer.manifest.inputs)
    assert other.manifest.parent == other_teacher.as_parent


def test_a_damaged_result_is_made_again(splits, tmp_path, caplog):
    first = teach(*splits, TEACHER, tmp_path / "teacher")
    sha = file_sha256(first.model_path)
    first.model_path.write_bytes(first.model_path.read_bytes()[:-1])
    caplog.set_level("INFO", "edgepress")
    again = teach(*splits, TEACHER, tmp_path / "teacher")
    assert file_sha256(again.model_path) == sha
    assert "it is made again and replaced: " in caplog.text


def test_a_person_s_folder_is_not_overwritten(splits, tmp_path):
    out = tmp_path / "holiday"
    out.mkdir()
    (out / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(InputError, match="a folder with other files in it"):
        teach(*splits, TEACHER, out)
    assert (out / "photo.jpg").read_bytes() == b"mine"


def test_a_student_does_not_take_its_teacher_s_place(teacher, splits):
    with pytest.raises(InputError, match="is the teacher itself"):
        distill(*splits, teacher, STUDENT, teacher.path)
    assert Bundle.open(teacher.path).digest == teacher.digest


def with_groups(data, **rules):
    return replace(data, groups=LabelGroups(**rules))


def test_with_label_groups_the_terms_are_the_groups_losses_and_structure_is_of_the_rest():
    teacher_model, student = models()
    batch = random_batch(0.3)
    logits, embeddings = student(batch.images)
    with torch.no_grad():
        told, shown = teacher_model.eval()(batch.teacher_images)
    train = with_groups(TRAIN, one_of=(("d", "b"),), implies={"a": ("c",)})
    for reduction in ("mean", "published"):
        config = updated(STUDENT, reduction=reduction, mld=2.0, cd=0.0, id=5.0, kd=3.0)
        terms = DistillTask(config, LiveTeacher(teacher_model), student, train)(batch, logits, embeddings)
        given = [[3, 1]], [False], 4, reduction
        targets, ignore = batch.targets, batch.ignore
        alone = ignore.clone()
        alone[:, [1, 3]] = True
        structure = LabelWiseEmbeddingDistillation(0.0, 1.0, reduction).terms(embeddings, shown, targets, alone)
        rest = MultiLabelLogitsDistillation(reduction), BinaryKD(reduction=reduction)
        expected = {
            "bce": GroupedTaskLoss(BinaryCrossEntropy(reduction), *given)(logits, targets, ignore),
            "mld": 2 * GroupedLogitsLoss(rest[0], *given)(logits, told, targets, ignore),
            "kd": 3 * GroupedLogitsLoss(rest[1], *given, temperature=4.0)(logits, told, targets, ignore),
            "id": 5 * structure["id"],
        }
        for name, value in expected.items():
            torch.testing.assert_close(terms[name], value, msg=name)


def test_a_calibrated_teacher_keeps_the_odds_within_a_group():
    teacher_model, student = models()
    train = with_groups(TRAIN, one_of=(("d", "b"),))
    everything = np.ones(4, bool)
    calibrator = Affine(method="platt", slopes=(2.0,) * 4, offsets=(1.0,) * 4)
    examined = Examined(taught=everything, inside=everything, calibrator=calibrator)
    task = DistillTask(STUDENT, LiveTeacher(teacher_model), student, train, examined)
    assert task._slopes.tolist() == [2, 1, 2, 1]
    assert task._offsets.tolist() == [1, 0, 1, 0]


def test_groups_are_learnt_and_are_in_the_bundle(splits, tmp_path):
    train, val = (with_groups(split, at_most_one_of=(("circle", "bars"),)) for split in splits)
    made = teach(train, val, TEACHER, tmp_path / "teacher")
    assert made.decisions.groups == train.groups
    student = distill(train, val, made, updated(STUDENT, mld=1.0), tmp_path / "student")
    assert student.decisions.groups == train.groups
    assert teach(*splits, TEACHER, tmp_path / "plain").manifest.decisions is None
