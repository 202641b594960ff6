"""Distillation losses against plain loops of the published formulas, worked examples and what must not matter."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from edgepress.compress.losses import (
    AsymmetricLoss,
    BinaryCrossEntropy,
    ClassAwareEmbeddingDistillation,
    InstanceAwareEmbeddingDistillation,
    LabelWiseEmbeddingDistillation,
    MultiLabelLogitsDistillation,
)
from tests.compress.losses.loss_batches import assert_same, batches, exact, few, value_and_gradient

pytestmark = pytest.mark.usefixtures("one_thread")


EMBEDDING_LOSSES = [ClassAwareEmbeddingDistillation, InstanceAwareEmbeddingDistillation]


def relative_distances(rows: Tensor) -> dict[tuple[int, int], Tensor]:
    distances = {
        (a, b): ((rows[a] - rows[b]) ** 2).sum().sqrt() for a in range(len(rows)) for b in range(len(rows)) if a != b
    }
    positive = [distance for distance in distances.values() if distance > 0]
    mean = sum(positive) / len(positive)
    return {pair: distance / mean for pair, distance in distances.items()}


def huber_by_loop(student: Tensor, teacher: Tensor) -> Tensor:
    mine, theirs = relative_distances(student), relative_distances(teacher)
    total = student.sum() * 0
    for pair in mine:
        gap = (mine[pair] - theirs[pair]).abs()
        total = total + (0.5 * gap**2 if gap < 1 else gap - 0.5)
    return total / len(student)


def structure_by_loop(student: Tensor, teacher: Tensor, targets: Tensor, ignore: Tensor | None, dim: int) -> Tensor:
    """CD for dim 1 (a group a label), ID for dim 0 (a group a picture)."""
    positive = targets == 1
    if ignore is not None:
        positive = positive & ~ignore
    total = student.sum() * 0
    for group in range(targets.shape[dim]):
        rows = positive.select(dim, group)
        if rows.sum() >= 2:
            total = total + huber_by_loop(student.select(dim, group)[rows], teacher.select(dim, group)[rows])
    return total


@pytest.mark.parametrize(("loss", "dim"), [(EMBEDDING_LOSSES[0], 1), (EMBEDDING_LOSSES[1], 0)])
@few
@given(batch=batches(most=5))
def test_published_cd_and_id_are_the_formulas(loss, dim, batch):
    arguments = batch["student"], batch["teacher"], batch["targets"], batch["ignore"]
    mine = value_and_gradient(loss("published"), *arguments)
    expected = value_and_gradient(lambda *all_: structure_by_loop(*all_, dim), *arguments)
    # The gradient carries the embeddings' own scale; it is compared on a scale of 1.
    scale = batch["student"].abs().mean()
    assert_same((mine[0], mine[1] * scale), (expected[0], expected[1] * scale))


@pytest.mark.parametrize(("loss", "dim"), [(EMBEDDING_LOSSES[0], 1), (EMBEDDING_LOSSES[1], 0)])
@few
@given(batch=batches(most=5))
def test_mean_cd_and_id_average_over_pairs_and_over_groups_of_three_or_more(loss, dim, batch):
    valid = batch["targets"] == 1
    if batch["ignore"] is not None:
        valid = valid & ~batch["ignore"]
    sizes = valid.sum(1 - dim)

    def by_loop(student: Tensor) -> Tensor:
        total = student.sum() * 0
        for group in (sizes >= 3).nonzero().squeeze(1).tolist():
            rows, n = valid.select(dim, group), int(sizes[group])
            pair = student.select(dim, group)[rows], batch["teacher"].select(dim, group)[rows]
            total = total + huber_by_loop(*pair) / (n - 1)
        return total / max(int((sizes >= 3).sum()), 1)

    mine = value_and_gradient(loss("mean"), batch["student"], batch["teacher"], batch["targets"], batch["ignore"])
    expected = value_and_gradient(by_loop, batch["student"])
    scale = batch["student"].abs().mean()
    assert_same((mine[0], mine[1] * scale), (expected[0], expected[1] * scale))


# Worked examples. Student rows 0, 1, 3 lie 1, 2, 3 apart, relatively 1/2, 1, 3/2; teacher rows 0, 1, 2 lie 1, 1, 2
# apart, relatively 3/4, 3/4, 3/2. The gaps 1/4, 1/4, 0 cost 1/32 each, twice for both orders: 1/8 over ordered pairs.
STUDENT_ROWS, TEACHER_ROWS, ALL_PAIRS = [0.0, 1.0, 3.0], [0.0, 1.0, 2.0], 1 / 8


def three_labels() -> tuple[Tensor, Tensor, Tensor]:
    """`[3, 3, 1]` twice and targets: label 0 the worked rows, label 1 in two pictures, label 2 alike but for scale."""
    student = torch.tensor([STUDENT_ROWS, [0.0, 5.0, 9.0], [0.0, 1.0, 4.0]]).T[:, :, None]
    teacher = torch.tensor([TEACHER_ROWS, [0.0, 7.0, 1.0], [0.0, 10.0, 40.0]]).T[:, :, None]
    return student, teacher, torch.tensor([[1, 1, 1], [1, 1, 1], [1, 0, 1]])


@pytest.mark.parametrize(("reduction", "expected"), [("published", ALL_PAIRS / 3), ("mean", ALL_PAIRS / 6 / 2)])
def test_cd_by_hand(reduction, expected):
    student, teacher, targets = three_labels()
    loss = LabelWiseEmbeddingDistillation(1.0, 0.0, reduction)
    terms = loss.terms(student, teacher, targets)
    assert terms["cd"].item() == pytest.approx(expected, rel=1e-6)
    assert terms["cd_groups"].item() == 2  # two of three labels have the three pictures that can teach
    # With only the worked label, `mean` is its own H over n(n − 1) pairs.
    alone = loss(student[:, :1], teacher[:, :1], targets[:, :1]).item()
    assert alone == pytest.approx(ALL_PAIRS / (3 if reduction == "published" else 6), rel=1e-6)


@pytest.mark.parametrize(("reduction", "expected"), [("published", ALL_PAIRS / 3), ("mean", ALL_PAIRS / 6 / 2)])
def test_id_by_hand(reduction, expected):
    student, teacher, targets = (tensor.transpose(0, 1) for tensor in three_labels())
    loss = LabelWiseEmbeddingDistillation(0.0, 1.0, reduction)
    terms = loss.terms(student, teacher, targets)
    assert terms["id"].item() == pytest.approx(expected, rel=1e-6)
    assert terms["id_groups"].item() == 2


def test_gaps_above_one_cost_linearly():
    # Relative distances of student rows 0, 0.01, 10: about 0, 3/2, 3/2; of teacher rows 0, 10, 0.01: 3/2, 0, 3/2.
    student, teacher = torch.tensor([[[0.0], [0.01], [10.0]]]), torch.tensor([[[0.0], [10.0], [0.01]]])
    value = InstanceAwareEmbeddingDistillation("published")(student, teacher, torch.ones(1, 3))
    d = [0.01, 9.99, 10.0]
    gap = (d[2] - d[0]) / (sum(d) / 3)
    assert value.item() == pytest.approx(2 * 2 * (gap - 0.5) / 3, rel=1e-5)


@few
@given(batches())
def test_doubling_the_batch_changes_no_mean(batch):
    twice = {name: tensor if tensor is None else torch.cat([tensor, tensor]) for name, tensor in batch.items()}
    for loss, student, teacher in (
        (MultiLabelLogitsDistillation(), "student_logits", "teacher_logits"),
        (InstanceAwareEmbeddingDistillation(), "student", "teacher"),
    ):
        once = loss(batch[student], batch[teacher], batch["targets"], batch["ignore"])
        again = loss(twice[student], twice[teacher], twice["targets"], twice["ignore"])
        torch.testing.assert_close(again, once, **exact)


@pytest.mark.parametrize("reduction", ["published", "mean"])
@pytest.mark.parametrize("loss", EMBEDDING_LOSSES)
@pytest.mark.parametrize("targets", [torch.zeros(3, 3), torch.eye(3)], ids=["no positive", "one a group"])
def test_without_a_group_it_is_zero_and_still_in_the_graph(loss, reduction, targets):
    student = torch.randn(3, 3, 4, requires_grad=True)
    value = loss(reduction)(student, torch.randn(3, 3, 2), targets)
    assert value.item() == 0
    value.backward()
    assert torch.equal(student.grad, torch.zeros_like(student))


@pytest.mark.parametrize("reduction", ["published", "mean"])
def test_two_rows_teach_nothing(reduction):
    targets = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]])
    loss = LabelWiseEmbeddingDistillation(reduction=reduction)
    student, teacher = torch.randn(3, 3, 4, dtype=torch.float64), torch.randn(3, 3, 2, dtype=torch.float64)
    value, gradient = value_and_gradient(loss, student, teacher, targets)
    torch.testing.assert_close(value, torch.zeros_like(value), **exact)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), **exact)
    terms = loss.terms(student, teacher, targets)
    assert (terms["cd_groups"].item(), terms["id_groups"].item()) == (0, 0)


@pytest.mark.parametrize("loss", EMBEDDING_LOSSES)
def test_coincident_rows_are_finite_and_get_no_gradient(loss):
    student, teacher = torch.ones(3, 3, 4), torch.randn(3, 3, 4, generator=torch.Generator().manual_seed(0))
    value, gradient = value_and_gradient(loss("published"), student, teacher, torch.ones(3, 3))
    assert value.item() > 0
    assert torch.equal(gradient, torch.zeros_like(gradient))
    # A coincident teacher, and the two together.
    value, gradient = value_and_gradient(loss("published"), teacher, student, torch.ones(3, 3))
    assert value.item() > 0
    assert gradient.isfinite().all()
    assert loss("published")(student, student * 2, torch.ones(3, 3)).item() == 0


def test_a_coincident_pair_beside_others_counts_as_distance_zero_outside_the_mean():
    # Relative distances: student 0, 1, 1 (the mean is of the two positive ones); teacher 3/4, 3/4, 3/2.
    student, teacher = torch.tensor([[[0.0], [0.0], [5.0]]]), torch.tensor([[[0.0], [1.0], [2.0]]])
    value, gradient = value_and_gradient(
        InstanceAwareEmbeddingDistillation("published"), student, teacher, torch.ones(1, 3)
    )
    # Pairs (0,1), (1,2), (0,2): gaps 3/4, 1/4, 1/2.
    assert value.item() == pytest.approx(2 * 0.5 * (9 + 1 + 4) / 16 / 3, rel=1e-6)
    assert gradient.isfinite().all()


def test_two_rows_of_which_only_the_students_coincide_cost_but_have_no_direction():
    student, teacher = torch.ones(1, 2, 4), torch.tensor([[[0.0], [3.0]]])
    # Relative distances 0 and 1, a gap of 1, in both orders: (1/2) · 2 · 1/2.
    value, gradient = value_and_gradient(
        LabelWiseEmbeddingDistillation(reduction="published"), student, teacher, torch.ones(1, 2)
    )
    assert value.item() == pytest.approx(0.5, rel=1e-6)
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_weights_of_zero_leave_both_terms_out():
    student = torch.randn(3, 3, 4, requires_grad=True)
    terms = LabelWiseEmbeddingDistillation(0, 0, "published").terms(student, torch.randn(3, 3, 2), torch.ones(3, 3))
    assert [terms[name].item() for name in ("cd", "id", "cd_groups", "id_groups")] == [0, 0, 0, 0]
    (terms["cd"] + terms["id"]).backward()
    assert torch.equal(student.grad, torch.zeros_like(student))


@pytest.mark.parametrize("reduction", ["published", "mean"])
@few
@given(batch=batches())
def test_nothing_is_lost_and_nothing_pulls_where_student_is_teacher(reduction, batch):
    shared = batch["targets"], batch["ignore"]
    mld = value_and_gradient(
        MultiLabelLogitsDistillation(reduction), batch["teacher_logits"], batch["teacher_logits"], *shared
    )
    structure = value_and_gradient(
        LabelWiseEmbeddingDistillation(reduction=reduction), batch["teacher"], batch["teacher"], *shared
    )
    for value, gradient in (mld, structure):
        torch.testing.assert_close(value, torch.zeros_like(value), atol=1e-12, rtol=0)
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-12, rtol=0)


@pytest.mark.parametrize("reduction", ["published", "mean"])
@few
@given(batch=batches(), random=st.randoms(use_true_random=False))
def test_the_order_of_pictures_and_labels_does_not_matter(reduction, batch, random):
    n, c = batch["targets"].shape
    rows, columns = torch.tensor(random.sample(range(n), n)), torch.tensor(random.sample(range(c), c))
    moved = {name: tensor if tensor is None else tensor[rows][:, columns] for name, tensor in batch.items()}
    for loss, student, teacher in (
        (MultiLabelLogitsDistillation(reduction), "student_logits", "teacher_logits"),
        (ClassAwareEmbeddingDistillation(reduction), "student", "teacher"),
        (InstanceAwareEmbeddingDistillation(reduction), "student", "teacher"),
    ):
        value, gradient = value_and_gradient(loss, batch[student], batch[teacher], batch["targets"], batch["ignore"])
        again = value_and_gradient(loss, moved[student], moved[teacher], moved["targets"], moved["ignore"])
        assert_same(again, (value, gradient[rows][:, columns]), atol=1e-9, rtol=1e-7)


@few
@given(batches())
def test_ignored_cells_may_hold_anything_and_get_no_gradient(batch):
    ignore = torch.zeros_like(batch["targets"], dtype=torch.bool)
    ignore[::2, ::2] = True
    targets = batch["targets"].float()
    dirty_targets = targets.masked_fill(ignore, -1)
    for loss, student, others in (
        (MultiLabelLogitsDistillation(), "student_logits", [batch["teacher_logits"]]),
        (LabelWiseEmbeddingDistillation(), "student", [batch["teacher"]]),
        (BinaryCrossEntropy(), "student_logits", []),
        (AsymmetricLoss(), "student_logits", []),
    ):
        value, gradient = value_and_gradient(loss, batch[student], *others, targets, ignore)
        dirty = batch[student].clone()
        dirty[ignore] += 100
        assert_same(value_and_gradient(loss, dirty, *others, dirty_targets, ignore), (value, gradient))
        assert (gradient[ignore] == 0).all()


def test_no_gradient_reaches_the_teacher():
    logits, other = torch.randn(4, 5, requires_grad=True), torch.randn(4, 5, requires_grad=True)
    MultiLabelLogitsDistillation()(logits, other, torch.ones(4, 5)).backward()
    student, teacher = torch.randn(4, 5, 3, requires_grad=True), torch.randn(4, 5, 2, requires_grad=True)
    LabelWiseEmbeddingDistillation()(student, teacher, torch.ones(4, 5)).backward()
    assert other.grad is None
    assert teacher.grad is None
    assert logits.grad.abs().min() > 0
    assert student.grad.abs().min() > 0


@few
@given(batch=batches(), cd=st.floats(0, 100), id_=st.floats(0, 100), reduction=st.sampled_from(["published", "mean"]))
def test_both_together_are_the_weighted_two(batch, cd, id_, reduction):
    arguments = batch["student"], batch["teacher"], batch["targets"], batch["ignore"]
    both = value_and_gradient(LabelWiseEmbeddingDistillation(cd, id_, reduction), *arguments)
    first = value_and_gradient(ClassAwareEmbeddingDistillation(reduction), *arguments)
    second = value_and_gradient(InstanceAwareEmbeddingDistillation(reduction), *arguments)
    assert_same(both, tuple(cd * a + id_ * b for a, b in zip(first, second, strict=True)), atol=1e-9, rtol=1e-9)
