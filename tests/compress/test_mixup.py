"""Mixup: the same mix for the same seed, epoch and pictures, and what a mixed batch teaches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgepress.compress.config import DistillConfig
from edgepress.compress.distill import distill
from edgepress.compress.loader import mixed
from edgepress.compress.losses import BinaryCrossEntropy, SoftBCE
from edgepress.compress.mixup import Mix, drawn_mix
from edgepress.compress.tasks import DistillTask
from edgepress.compress.teacher import LiveTeacher
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.label_groups import LabelGroups
from tests.compress.lessons import STUDENT, TRAIN, models, random_batch, updated

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_mix_follows_from_seed_epoch_and_picture_wherever_it_is():
    index = torch.tensor([7, 3, 5, 1])
    mix = drawn_mix(index, 0, 2, 0.3)
    assert mix.partner.tolist() == [1, 0, 3, 2]
    assert ((mix.share >= 0.5) & (mix.share <= 1)).all()
    again = drawn_mix(index[[2, 3]], 0, 2, 0.3)  # half of the batch, as another process has it
    assert torch.equal(again.share, mix.share[2:])
    assert torch.equal(again.partner + 2, mix.partner[2:])
    for other in (drawn_mix(index, 1, 2, 0.3), drawn_mix(index, 0, 3, 0.3)):
        assert not torch.equal(other.share, mix.share)
    # An odd batch has no such halves: its last picture takes the first of its own process.
    assert drawn_mix(index[:3], 0, 2, 0.3).partner.tolist() == [1, 0, 0]


@pytest.mark.parametrize("alpha", [0.3, 2.0])
def test_shares_are_the_larger_part_of_beta(alpha):
    share = drawn_mix(torch.arange(4000), 0, 0, alpha).share.double().numpy()
    expected = np.random.default_rng(0).beta(alpha, alpha, 100_000)
    assert share.mean() == pytest.approx(np.maximum(expected, 1 - expected).mean(), abs=0.01)
    assert share.std() == pytest.approx(np.maximum(expected, 1 - expected).std(), abs=0.01)


def test_a_batch_is_mixed_in_pixels_and_labels_and_keeps_the_teacher_s_pictures():
    batch = replace(random_batch(0.3), labelled=torch.tensor([True, True, True, False, True, True]))
    found = mixed(batch, 0, 0.3)
    own = found.mix.share
    for i, j in ((0, 1), (3, 2), (5, 4)):
        pixels = own[i] * batch.images[i].float() + (1 - own[i]) * batch.images[j].float()
        torch.testing.assert_close(found.images[i], pixels)
        torch.testing.assert_close(found.targets[i], own[i] * batch.targets[i] + (1 - own[i]) * batch.targets[j])
        assert torch.equal(found.ignore[i], batch.ignore[i] | batch.ignore[j])
    assert found.labelled.tolist() == [True, True, False, False, True, True]
    assert found.teacher_images is batch.teacher_images


def test_a_student_learns_from_mixed_labels_and_the_teacher_s_answers_for_the_pictures_as_they_are():
    teacher, student = models()
    config = updated(STUDENT, mld=0.0, cd=0.0, id=0.0, soft_bce=0.9, task=0.1, mixup=0.3)
    task = DistillTask(config, LiveTeacher(teacher), student, TRAIN)
    batch = mixed(random_batch(0.3), 0, 0.3)
    logits, embeddings = student.eval()(batch.images)
    terms = task(batch, logits, embeddings)
    with torch.no_grad():
        said = teacher(batch.teacher_images)[0]
    expected = {
        "bce": 0.1 * BinaryCrossEntropy()(logits, batch.targets, batch.ignore),
        "soft_bce": 0.9 * SoftBCE()(logits, said, batch.targets, batch.ignore, batch.mix),
    }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value)
    alone = SoftBCE()(logits, said, batch.targets, batch.ignore, Mix(torch.arange(6), torch.ones(6)))
    assert terms["soft_bce"] != 0.9 * alone


def test_a_term_that_knows_nothing_of_mixed_pictures_is_refused():
    with pytest.raises(ValueError, match=r"mixup shows pictures .*: set mld to 0 and soft_bce above 0"):
        DistillConfig(mixup=0.3, mld=1.0, review_kd=0.0)
    assert DistillConfig(preset="alone", mixup=0.3).mixup == 0.3
    assert DistillConfig(preset="soft_bce").mixup == 0.3


def test_labels_that_exclude_each_other_are_not_mixed(splits, teacher, tmp_path):
    train, val = (replace(data, groups=LabelGroups(at_most_one_of=(data.labels.names[:2],))) for data in splits)
    config = updated(STUDENT, mld=0.0, cd=0.0, id=0.0, soft_bce=0.9, mixup=0.3)
    with pytest.raises(InputError, match=r"exclude each other, .* \(mixup 0.3\): leave out mixup"):
        distill(train, val, teacher, config, tmp_path / "student")
