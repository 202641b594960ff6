"""Losses of labels that exclude each other: cross-entropy and KL by hand and by torch's own."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from edgepress.compress.losses import (
    BinaryCrossEntropy,
    BinaryKD,
    GroupedLogitsLoss,
    GroupedTaskLoss,
    MultiLabelLogitsDistillation,
)

COLUMNS, NONE, LABELS = [[4, 0, 2], [1, 5]], [False, True], 7


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def consistent(seed: int = 1, pictures: int = 9) -> torch.Tensor:
    """Targets of one label in the first group, and one or none in the second."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.zeros(pictures, LABELS)
    first = torch.tensor(COLUMNS[0])[torch.randint(3, (pictures,), generator=generator)]
    targets[torch.arange(pictures), first] = 1
    second = torch.randint(3, (pictures,), generator=generator)
    for row, choice in enumerate(second.tolist()):
        if choice < 2:
            targets[row, COLUMNS[1][choice]] = 1
    targets[:, [3, 6]] = (torch.rand((pictures, 2), generator=generator) < 0.5).float()
    return targets


def with_none(z: torch.Tensor) -> torch.Tensor:
    return torch.cat([z, z.new_zeros(len(z), 1)], dim=1)


@pytest.mark.parametrize("reduction", ["mean", "published"])
def test_known_labels_give_torchs_cross_entropy(reduction):
    z, targets = normal(9, LABELS).requires_grad_(), consistent()
    loss = GroupedTaskLoss(BinaryCrossEntropy(reduction), COLUMNS, NONE, LABELS, reduction)(z, targets)
    second = torch.cat([targets[:, COLUMNS[1]], 1 - targets[:, COLUMNS[1]].sum(dim=1, keepdim=True)], dim=1)
    expected = (
        F.cross_entropy(z[:, COLUMNS[0]], targets[:, COLUMNS[0]].argmax(dim=1), reduction="sum")
        + F.cross_entropy(with_none(z[:, COLUMNS[1]]), second.argmax(dim=1), reduction="sum")
        + F.binary_cross_entropy_with_logits(z[:, [3, 6]], targets[:, [3, 6]].double(), reduction="sum")
    )
    torch.testing.assert_close(loss, expected / (9 * 4) if reduction == "mean" else expected)
    mine, theirs = torch.autograd.grad(loss, z), torch.autograd.grad(expected, z)
    torch.testing.assert_close(mine[0], theirs[0] / (36 if reduction == "mean" else 1))


def test_smoothing_is_torchs():
    z, targets = normal(5, 3), torch.eye(3)[[0, 1, 2, 1, 0]]
    loss = GroupedTaskLoss(BinaryCrossEntropy(), [[0, 1, 2]], [False], 3, label_smoothing=0.2)(z, targets)
    torch.testing.assert_close(loss, F.cross_entropy(z, targets.argmax(dim=1), label_smoothing=0.2))


@pytest.mark.parametrize(
    ("targets", "unknown", "none", "possible"),
    [
        ([0, 0, 0], [0, 1, 1], False, [1, 2]),  # not the first
        ([0, 0, 0], [0, 1, 1], True, [1, 2, 3]),
        ([1, 0, 0], [0, 1, 1], False, [0]),
        ([0, 0, 0], [0, 0, 0], True, [3]),
        ([0, 0, 0], [1, 1, 1], False, None),  # everything is possible
        ([0, 0, 0], [0, 0, 0], False, None),  # nothing is
        ([1, 1, 0], [0, 0, 0], False, [0, 1]),  # contradicts itself: one of them
        ([9, 0, 1], [1, 0, 0], False, [2]),  # an unknown cell may hold anything
    ],
)
def test_of_a_picture_known_in_part_the_possible_outcomes_count(targets, unknown, none, possible):
    z = normal(1, 3)
    loss = GroupedTaskLoss(BinaryCrossEntropy(), [[0, 1, 2]], [none], 3)
    found = loss(z, torch.tensor([targets]), torch.tensor([unknown], dtype=torch.bool))
    p = (with_none(z) if none else z).softmax(dim=1)[0]
    assert float(found) == pytest.approx(0 if possible is None else -math.log(float(p[possible].sum())))


@pytest.mark.parametrize(("rest", "temperature"), [(MultiLabelLogitsDistillation, 1.0), (BinaryKD, 4.0)])
def test_kl_is_that_of_the_groups_distributions(rest, temperature):
    student, teacher = normal(6, LABELS).requires_grad_(), normal(6, LABELS, seed=5).requires_grad_()
    loss = GroupedLogitsLoss(rest(), COLUMNS, NONE, LABELS, temperature=temperature)
    targets = torch.zeros(6, LABELS)

    def kl(theirs: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        both = [(z / temperature).log_softmax(dim=1) for z in (own, theirs)]
        return temperature**2 * F.kl_div(*both, log_target=True, reduction="sum")

    expected = kl(teacher[:, COLUMNS[0]], student[:, COLUMNS[0]])
    expected = expected + kl(with_none(teacher[:, COLUMNS[1]]), with_none(student[:, COLUMNS[1]]))
    free = rest()(student[:, [3, 6]], teacher[:, [3, 6]], targets[:, [3, 6]]) * 12
    found = loss(student, teacher, targets)
    torch.testing.assert_close(found, (expected + free) / 24)
    found.backward()
    assert teacher.grad is None
    torch.testing.assert_close(student.grad, torch.autograd.grad((expected + free) / 24, student)[0])


def test_what_a_teacher_lacks_leaves_the_odds_of_the_others():
    student, teacher = normal(4, 3), normal(4, 3, seed=5)
    lacking = torch.zeros(4, 3, dtype=torch.bool)
    lacking[:, 1] = True
    loss = GroupedLogitsLoss(MultiLabelLogitsDistillation(), [[0, 1, 2]], [False], 3)
    found = loss(student, teacher, torch.zeros(4, 3), lacking)
    both = [z[:, [0, 2]].log_softmax(dim=1) for z in (student, teacher)]
    torch.testing.assert_close(found, F.kl_div(*both, log_target=True, reduction="batchmean"))
    lacking[:, 2] = True  # one label alone tells nothing
    assert float(loss(student, teacher, torch.zeros(4, 3), lacking)) == 0


@pytest.mark.parametrize("size", [0.0, 100.0, 1e4])
def test_values_and_gradients_are_finite_and_zero_at_the_teacher(size):
    z = (size * normal(9, LABELS)).requires_grad_()
    ignore = torch.rand((9, LABELS), generator=torch.Generator().manual_seed(3)) < 0.4
    task = GroupedTaskLoss(BinaryCrossEntropy(), COLUMNS, NONE, LABELS)(z, consistent(), ignore)
    same = GroupedLogitsLoss(MultiLabelLogitsDistillation(), COLUMNS, NONE, LABELS)(z, z, consistent(), ignore)
    (task + same).backward()
    assert torch.isfinite(task)
    assert same.item() == pytest.approx(0, abs=1e-9)
    assert torch.isfinite(z.grad).all()


def test_a_shift_of_a_whole_group_changes_nothing():
    student, teacher, targets = normal(9, LABELS), normal(9, LABELS, seed=5), consistent()
    shifted = student.clone()
    shifted[:, COLUMNS[0]] += 3
    task = GroupedTaskLoss(BinaryCrossEntropy(), COLUMNS, NONE, LABELS)
    follow = GroupedLogitsLoss(MultiLabelLogitsDistillation(), COLUMNS, NONE, LABELS)
    torch.testing.assert_close(task(student, targets), task(shifted, targets))
    torch.testing.assert_close(follow(student, teacher, targets), follow(shifted, teacher, targets))


def test_columns_that_do_not_fit_are_told():
    with pytest.raises(ValueError, match="groups of different columns of 3"):
        GroupedTaskLoss(BinaryCrossEntropy(), [[0, 1], [1, 2]], [False, False], 3)


def test_a_teacher_of_other_labels_is_refused_though_its_groups_are_there():
    loss = GroupedLogitsLoss(MultiLabelLogitsDistillation(), COLUMNS, NONE, LABELS)
    z = torch.zeros(4, LABELS)
    with pytest.raises(ValueError, match="teacher"):
        loss(z, torch.zeros(4, LABELS + 1), z)
