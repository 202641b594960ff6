"""Baselines and the options of the task losses against plain loops of the formulas, and what must hold for all."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from compress.losses import (
    AsymmetricLoss,
    AttentionTransfer,
    BinaryCrossEntropy,
    BinaryKD,
    FitNetHints,
    FocalLoss,
    LogitsMSE,
    MultiLabelLogitsDistillation,
    PartialSoftmax,
    ProbabilisticKT,
    RelationalKD,
    ReviewKD,
)
from compress.losses.review_kd import hierarchical_context_loss

few = settings(max_examples=25, deadline=None, derandomize=True)
exact = {"atol": 1e-9, "rtol": 1e-9}
LOGIT_LOSSES = [LogitsMSE(), PartialSoftmax(), BinaryKD(3.0), BinaryKD(0.5, "published")]
POOLED_LOSSES = [RelationalKD(), ProbabilisticKT(), ProbabilisticKT("published")]
WEIGHTS = [0.5, 3.0, 1.0, 0.0, 7.0]
TASK_LOSSES = [
    cls(label_smoothing=smoothing, positive_weights=weights)
    for cls in (BinaryCrossEntropy, AsymmetricLoss, FocalLoss)
    for smoothing in (0.0, 0.1)
    for weights in (None, WEIGHTS)
]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


@st.composite
def logit_batches(draw, labels: int | None = None):
    """Student and teacher logits, targets from none to all positive, an ignore mask or None."""
    n, c = draw(st.integers(1, 5)), labels or draw(st.integers(1, 6))
    seed = draw(st.integers(0, 2**31))
    random = generator(seed)
    targets = torch.rand(n, c, generator=random) < draw(st.sampled_from([0.0, 0.3, 0.6, 1.0]))
    ignore = torch.rand(n, c, generator=random) < 0.3 if draw(st.booleans()) else None
    scale = draw(st.sampled_from([0.1, 3.0]))
    kind = draw(st.sampled_from([torch.uint8, torch.float64, torch.bool]))
    return normal(n, c, seed=seed) * scale, normal(n, c, seed=seed + 1) * scale, targets.to(kind), ignore


@st.composite
def pooled_batches(draw):
    seed, n = draw(st.integers(0, 2**31)), draw(st.integers(1, 5))
    scale = draw(st.sampled_from([0.01, 1.0, 50.0]))
    return normal(n, draw(st.integers(1, 4)), seed=seed) * scale, normal(n, draw(st.integers(1, 4)), seed=seed + 1)


def value_and_gradient(loss, student: Tensor, *arguments) -> tuple[Tensor, Tensor]:
    student = student.detach().clone().requires_grad_()
    value = loss(student, *arguments)
    (gradient,) = torch.autograd.grad(value, student)
    return value.detach(), gradient


def assert_same(mine: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], **tolerances) -> None:
    for got, want in zip(mine, expected, strict=True):
        torch.testing.assert_close(got, want, **(tolerances or exact))


def cells_of(targets: Tensor, ignore: Tensor | None) -> list[tuple[int, int]]:
    n, c = targets.shape
    return [(i, j) for i in range(n) for j in range(c) if ignore is None or not ignore[i, j]]


# Logits.


def partial_softmax_by_loop(student: Tensor, teacher: Tensor, targets: Tensor, ignore: Tensor | None) -> Tensor:
    total = student.sum() * 0
    valid = cells_of(targets, ignore)
    for i in range(len(student)):
        negatives = [c for row, c in valid if row == i and targets[i, c] == 0]
        for positive in [c for row, c in valid if row == i and targets[i, c] == 1]:
            chosen = [*negatives, positive]
            p, q = teacher[i, chosen].softmax(0), student[i, chosen].softmax(0)
            total = total + (p * (p.log() - q.log())).sum()
    return total / len(student)


def kd_by_loop(student: Tensor, teacher: Tensor, targets: Tensor, ignore: Tensor | None, temperature: float) -> Tensor:
    total = student.sum() * 0
    for i, c in cells_of(targets, ignore):
        p, q = (teacher[i, c] / temperature).sigmoid(), (student[i, c] / temperature).sigmoid()
        total = total + p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    return total * temperature**2


@few
@given(logit_batches())
def test_partial_softmax_is_the_formula(batch):
    student, teacher, targets, ignore = batch
    expected = value_and_gradient(lambda z: partial_softmax_by_loop(z, teacher, targets, ignore), student)
    assert_same(value_and_gradient(PartialSoftmax(), *batch), expected)


def test_partial_softmax_with_no_one_and_all_positives():
    student, teacher = normal(1, 4), normal(1, 4, seed=1)
    for row, teaches in ([[0, 0, 0, 0]], False), ([[0, 1, 0, 0]], True), ([[1, 1, 1, 1]], False):
        targets = torch.tensor(row)
        mine = value_and_gradient(PartialSoftmax(), student, teacher, targets)
        assert_same(mine, value_and_gradient(lambda z: partial_softmax_by_loop(z, teacher, targets, None), student))  # noqa: B023
        assert (mine[0] > 0) == teaches
    # One positive: the plain softmax over all labels.
    whole = torch.nn.functional.kl_div(student.log_softmax(1), teacher.softmax(1), reduction="sum")
    torch.testing.assert_close(PartialSoftmax()(student, teacher, torch.tensor([[0, 1, 0, 0]])), whole, **exact)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@few
@given(batch=logit_batches())
def test_binary_kd_is_the_formula(temperature, batch):
    student, teacher, targets, ignore = batch
    expected = value_and_gradient(lambda z: kd_by_loop(z, teacher, targets, ignore, temperature), student)
    published = value_and_gradient(BinaryKD(temperature, "published"), *batch)
    assert_same(published, tuple(part / len(student) for part in expected))
    count = max(len(cells_of(targets, ignore)), 1)
    assert_same(value_and_gradient(BinaryKD(temperature), *batch), tuple(part / count for part in expected))
    if temperature == 1:
        assert_same(published, value_and_gradient(MultiLabelLogitsDistillation("published"), *batch))


@few
@given(logit_batches())
def test_mse_is_the_formula(batch):
    student, teacher, targets, ignore = batch
    cells = cells_of(targets, ignore)

    def by_loop(z: Tensor) -> Tensor:
        return sum(((z[i, c] - teacher[i, c]) ** 2 for i, c in cells), z.sum() * 0) / max(len(cells), 1)

    assert_same(value_and_gradient(LogitsMSE(), *batch), value_and_gradient(by_loop, student))


@few
@given(logit_batches(labels=5))
def test_ignored_cells_may_hold_anything_and_get_no_gradient(batch):
    student, teacher, targets, ignore = batch
    ignore = torch.zeros_like(targets, dtype=torch.bool) if ignore is None else ignore.clone()
    ignore[0, 0] = True
    dirty, dirty_targets = student + 100 * ignore, targets.double().masked_fill(ignore, -1)
    for loss in LOGIT_LOSSES:
        value, gradient = value_and_gradient(loss, student, teacher, targets, ignore)
        assert_same(value_and_gradient(loss, dirty, teacher - 50 * ignore, dirty_targets, ignore), (value, gradient))
        assert (gradient[ignore] == 0).all()
    for loss in TASK_LOSSES:
        value, gradient = value_and_gradient(loss, student, targets, ignore)
        assert_same(value_and_gradient(loss, dirty, dirty_targets, ignore), (value, gradient))
        assert (gradient[ignore] == 0).all()


@pytest.mark.parametrize("loss", LOGIT_LOSSES)
def test_extreme_logits_are_finite_and_pull_towards_the_teacher(loss):
    student = torch.tensor([[200.0, -200.0, 200.0, 0.0], [-200.0, 200.0, 200.0, -200.0]])
    teacher = torch.tensor([[-200.0, 200.0, 200.0, 200.0], [200.0, 200.0, -200.0, -200.0]])
    for targets in torch.tensor([[1, 0, 0, 1], [0, 1, 1, 0]]), torch.ones(2, 4), torch.zeros(2, 4):
        value, gradient = value_and_gradient(loss, student, teacher, targets)
        assert value.isfinite()
        assert gradient.isfinite().all()
    _, gradient = value_and_gradient(loss, student, teacher, torch.tensor([[1, 0, 0, 1], [0, 1, 1, 0]]))
    assert gradient[0, 0] > 0
    assert gradient[1, 0] < 0


# Pooled features.


def huber(gap: Tensor) -> Tensor:
    return 0.5 * gap**2 if gap.abs() < 1 else gap.abs() - 0.5


def distance_by_loop(student: Tensor, teacher: Tensor) -> Tensor:
    n, total = len(student), student.sum() * 0
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    if not pairs:
        return total

    def relative(rows: Tensor) -> list[Tensor]:
        distances = [((rows[i] - rows[j]) ** 2).sum().sqrt() for i, j in pairs]
        return [distance / (sum(distances) / len(distances)) for distance in distances]

    for mine, theirs in zip(relative(student), relative(teacher), strict=True):
        total = total + huber(mine - theirs)
    return total / n**2


def angle_by_loop(student: Tensor, teacher: Tensor) -> Tensor:
    n, total = len(student), student.sum() * 0

    def cosine(rows: Tensor, i: int, j: int, k: int) -> Tensor:
        a, b = rows[i] - rows[j], rows[k] - rows[j]
        return (a * b).sum() / ((a**2).sum().sqrt() * (b**2).sum().sqrt())

    for i in range(n):
        for j in range(n):
            for k in range(n):
                if j not in (i, k):
                    total = total + huber(cosine(student, i, j, k) - cosine(teacher, i, j, k))
    return total / n**3


def pkt_by_loop(student: Tensor, teacher: Tensor) -> Tensor:
    n, total = len(student), student.sum() * 0

    def kernel(rows: Tensor, i: int, j: int) -> Tensor:
        cosine = (rows[i] * rows[j]).sum() / ((rows[i] ** 2).sum().sqrt() * (rows[j] ** 2).sum().sqrt())
        return ((cosine + 1) / 2).clamp(min=1e-7)

    for i in range(n):
        others = [j for j in range(n) if j != i]
        for j in others:
            p = kernel(teacher, i, j) / sum(kernel(teacher, i, k) for k in others)
            q = kernel(student, i, j) / sum(kernel(student, i, k) for k in others)
            total = total + p * (p / q).log()
    return total


@few
@given(pooled_batches())
def test_rkd_is_the_formula(batch):
    student, teacher = batch
    for weights, by_loop in ((1.0, 0.0), distance_by_loop), ((0.0, 1.0), angle_by_loop):
        expected = value_and_gradient(by_loop, student, teacher)
        # Features of one dimension have angles of 0 and 180° alone: their gradient is a rounding error.
        assert_same(value_and_gradient(RelationalKD(*weights), *batch), expected, atol=1e-9, rtol=1e-8)
    both = RelationalKD()(*batch)
    torch.testing.assert_close(both, 25 * distance_by_loop(*batch) + 50 * angle_by_loop(*batch), **exact)


@few
@given(pooled_batches())
def test_pkt_is_the_formula(batch):
    expected = value_and_gradient(pkt_by_loop, *batch)
    assert_same(value_and_gradient(ProbabilisticKT("published"), *batch), expected)
    assert_same(value_and_gradient(ProbabilisticKT(), *batch), tuple(part / len(batch[0]) for part in expected))


@pytest.mark.parametrize("loss", POOLED_LOSSES)
def test_pooled_features_at_their_edges_are_finite(loss):
    features, other = torch.randn(4, 3, generator=generator()), torch.randn(4, 6, generator=generator(1))
    for student in features * 200, torch.zeros(4, 3), torch.ones(4, 3), torch.tensor([[1.0], [-1.0]]), features[:1]:
        for teacher in other[: len(student)], other[: len(student)] * 200, torch.zeros(len(student), 2):
            value, gradient = value_and_gradient(loss, student, teacher)
            assert value.isfinite()
            assert gradient.isfinite().all()
    coincident = torch.cat([features, features[:1]])
    value, gradient = value_and_gradient(loss, coincident, torch.randn(5, 2, generator=generator(2)))
    assert value.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("loss", POOLED_LOSSES)
@few
@given(batch=pooled_batches(), random=st.randoms(use_true_random=False))
def test_pooled_losses_know_neither_the_order_of_pictures_nor_the_scale(loss, batch, random):
    student, teacher = batch
    order = torch.tensor(random.sample(range(len(student)), len(student)))
    value = loss(student, teacher)
    torch.testing.assert_close(loss(student[order], teacher[order]), value, **exact)
    torch.testing.assert_close(loss(student * 7, teacher), value, **exact)


# Feature maps.


@few
@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_attention_transfer_is_the_formula(seed, n, channels, height, width):
    shapes = [(n, channels, height, width), (n, 2, 2, 3)]
    students = [normal(*shape, seed=seed + index) for index, shape in enumerate(shapes)]
    teachers = [normal(n, 5, *shape[2:], seed=seed + 9 + index) for index, shape in enumerate(shapes)]

    def by_loop(first: Tensor) -> Tensor:
        total = first.sum() * 0
        for student, teacher in zip([first, students[1]], teachers, strict=True):
            for i in range(n):
                q_s, q_t = (student[i] ** 2).sum(0).flatten(), (teacher[i] ** 2).sum(0).flatten()
                gap = q_s / (q_s**2).sum().sqrt() - q_t / (q_t**2).sum().sqrt()
                total = total + (gap**2).sum() / (n * gap.numel())
        return total

    mine = value_and_gradient(lambda first: AttentionTransfer()([first, students[1]], teachers), students[0])
    assert_same(mine, value_and_gradient(by_loop, students[0]))


@pytest.mark.parametrize("channels", [(2, 3), (3, 3)])
@few
@given(seed=st.integers(0, 2**31), n=st.integers(1, 3), side=st.integers(1, 4))
def test_fitnet_is_the_formula(channels, seed, n, side):
    torch.manual_seed(seed)
    published = FitNetHints([channels[0]], [channels[1]], "published").double()
    mean = FitNetHints([channels[0]], [channels[1]]).double()
    mean.load_state_dict(published.state_dict())
    # The teacher's map is twice as large and is averaged over cells of 2×2.
    student, teacher = normal(n, channels[0], side, side, seed=seed), normal(n, channels[1], 2 * side, 2 * side, seed=1)

    def by_loop(maps: Tensor) -> Tensor:
        total = maps.sum() * 0
        for i in range(n):
            for y in range(side):
                for x in range(side):
                    ours = maps[i, :, y, x]
                    if channels[0] != channels[1]:
                        layer = published.projections[0]
                        ours = layer.weight[:, :, 0, 0] @ ours + layer.bias
                    theirs = teacher[i, :, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean(dim=(1, 2))
                    total = total + ((ours - theirs) ** 2).sum()
        return total

    expected = value_and_gradient(by_loop, student)
    assert_same(
        value_and_gradient(lambda maps: published([maps], [teacher]), student),
        tuple(part / (2 * n) for part in expected),
    )
    cells = n * channels[1] * side**2
    assert_same(
        value_and_gradient(lambda maps: mean([maps], [teacher]), student), tuple(part / cells for part in expected)
    )


def test_hierarchical_context_loss_by_hand():
    student, teacher = normal(2, 3, 4, 4), normal(2, 3, 4, 4, seed=1)
    gap = student - teacher
    halves = torch.stack([gap[..., y : y + 2, x : x + 2].mean(dim=(2, 3)) for y in (0, 2) for x in (0, 2)])
    # Full size 1, then 4 is not smaller than the map, 2 positions a side ½, 1 position ¼.
    expected = (gap**2).mean() + 0.5 * (halves**2).mean() + 0.25 * (gap.mean(dim=(2, 3)) ** 2).mean()
    torch.testing.assert_close(hierarchical_context_loss(student, teacher), expected / 1.75, **exact)
    assert hierarchical_context_loss(student, student) == 0
    single = normal(2, 3, 1, 1)
    torch.testing.assert_close(hierarchical_context_loss(single, single + 2), torch.tensor(4.0).double(), **exact)


def maps(channels: list[int], sides: list[int], n: int = 3, seed: int = 0) -> list[Tensor]:
    return [
        torch.randn(n, width, side, side, generator=generator(seed + index)).requires_grad_()
        for index, (width, side) in enumerate(zip(channels, sides, strict=True))
    ]


@pytest.mark.parametrize(
    ("teacher_channels", "teacher_sides"),
    [([6, 7, 8], [8, 4, 2]), ([6, 7, 8], [14, 7, 3]), ([5, 5, 5], [4, 4, 4]), ([4, 6, 8], [2, 1, 1])],
)
def test_maps_of_other_widths_and_sizes_teach_every_parameter_and_every_map(teacher_channels, teacher_sides):
    torch.manual_seed(0)
    channels = [4, 6, 10]
    for loss in ReviewKD(channels, teacher_channels), FitNetHints(channels, teacher_channels), AttentionTransfer():
        student, teacher = maps(channels, [8, 4, 2]), maps(teacher_channels, teacher_sides, seed=7)
        value = loss(student, teacher)
        assert value.shape == ()
        value.backward()
        for tensor in [*student, *loss.parameters()]:
            assert tensor.grad.isfinite().all()
        # A batch norm's bias or a map of one position may get nothing; the first map always does.
        assert student[0].grad.abs().sum() > 0 or teacher_sides[-1] == 1
        assert all(tensor.grad is None for tensor in teacher)


def test_review_lets_the_shallowest_stage_of_the_teacher_reach_the_deepest_of_the_student():
    torch.manual_seed(0)
    loss = ReviewKD([4, 6, 600], [3, 5, 7], max_width=8)
    assert loss.fusions[2].attention is None
    assert all(fusion.enter[0].out_channels == 8 for fusion in loss.fusions)
    student = maps([4, 6, 600], [8, 4, 2])
    output, deeper = loss.fusions[2](student[2], None, (2, 2))
    assert output.shape == (3, 7, 2, 2)
    output, deeper = loss.fusions[1](student[1], deeper, (5, 3))
    assert (output.shape, deeper.shape) == ((3, 5, 5, 3), (3, 8, 4, 4))
    output, _ = loss.fusions[0](student[0], deeper, (8, 8))
    output.square().sum().backward()
    assert all(tensor.grad.abs().sum() > 0 for tensor in student)


def test_review_learns_what_it_is_taught():
    torch.manual_seed(0)
    loss = ReviewKD([4, 6], [3, 5])
    student, teacher = maps([4, 6], [4, 2], n=2), maps([3, 5], [4, 2], n=2, seed=5)
    optimizer = torch.optim.Adam([*loss.parameters(), *student], lr=0.05)
    before = loss(student, teacher).item()
    for _ in range(60):
        optimizer.zero_grad()
        loss(student, teacher).backward()
        optimizer.step()
    assert loss(student, teacher).item() < before / 3


def test_extreme_maps_are_finite():
    for loss in ReviewKD([4, 6], [4, 6]), FitNetHints([4, 6], [4, 6]), AttentionTransfer():
        for factor in 0, 200:
            student = [(tensor * factor).detach().requires_grad_() for tensor in maps([4, 6], [4, 2])]
            value = loss(student, maps([4, 6], [4, 2], seed=3))
            value.backward()
            assert value.isfinite()
            assert all(tensor.grad.isfinite().all() for tensor in student)


# What must hold for every distillation loss.


def calls():
    """(name, loss of one student tensor, student, teacher) of every loss, with equal widths and sizes."""
    targets = torch.tensor([[1, 0, 0, 1], [0, 1, 1, 0], [1, 1, 1, 1]])
    logits, teacher_logits = normal(3, 4) * 3, normal(3, 4, seed=1) * 3
    for loss in LOGIT_LOSSES:
        yield type(loss).__name__, lambda s, t, loss=loss: loss(s, t, targets), logits, teacher_logits
    for loss in POOLED_LOSSES:
        yield type(loss).__name__, loss, normal(4, 5), normal(4, 5, seed=1)
    for loss in AttentionTransfer(), FitNetHints([3], [3]), FitNetHints([3], [3], "published"):
        name = type(loss).__name__
        yield name, lambda s, t, loss=loss: loss([s], [t]), normal(2, 3, 4, 4), normal(2, 3, 4, 4, seed=1)


@pytest.mark.parametrize(("name", "loss", "student", "teacher"), list(calls()))
def test_nothing_is_lost_at_the_teacher_and_no_gradient_reaches_it(name, loss, student, teacher):
    value, gradient = value_and_gradient(loss, teacher, teacher)
    torch.testing.assert_close(value, torch.zeros_like(value), atol=1e-12, rtol=0)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-12, rtol=0)
    student, teacher = student.clone().requires_grad_(), teacher.clone().requires_grad_()
    value = loss(student, teacher)
    assert value > 0
    value.backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0
    with torch.no_grad():  # a small step down the gradient comes closer to the teacher
        assert loss(student - 1e-3 * student.grad / student.grad.norm(), teacher) < value


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_changes_nothing(dtype):
    torch.manual_seed(0)
    review = ReviewKD([3], [3])
    losses = [*calls(), ("ReviewKD", lambda s, t: review([s], [t]), normal(2, 3, 4, 4), normal(2, 3, 4, 4, seed=1))]
    for loss in TASK_LOSSES:
        targets = (normal(3, 5, seed=2) > 0).float()
        losses.append((type(loss).__name__, lambda s, _, loss=loss, y=targets: loss(s, y), normal(3, 5), normal(3, 5)))
    for name, loss, student, teacher in losses:
        student, teacher = student.to(dtype), teacher.to(dtype)
        expected, gradient = value_and_gradient(loss, student.float(), teacher.float())
        leaf = student.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = loss(leaf, teacher)
        # Outside, as torch asks: a backward pass under autocast multiplies matrices in half precision.
        (mixed,) = torch.autograd.grad(value, leaf)
        assert value.dtype == torch.float32, name
        torch.testing.assert_close(value.detach(), expected, rtol=1e-6, atol=0, msg=name)
        assert mixed.dtype == dtype, name
        torch.testing.assert_close(mixed, gradient.to(dtype), msg=name)


# Task losses.


def task_by_loop(loss, logits: Tensor, targets: Tensor, ignore: Tensor | None) -> Tensor:
    total = logits.sum() * 0
    for i, c in cells_of(targets, ignore):
        p = 1 / (1 + (-logits[i, c]).exp())
        y = targets[i, c].double() * (1 - loss.label_smoothing) + loss.label_smoothing / 2
        weight = 1.0 if loss.positive_weights is None else loss.positive_weights[c].double()
        if isinstance(loss, FocalLoss):
            alpha = (1.0, 1.0) if loss.alpha is None else (loss.alpha, 1 - loss.alpha)
            positive = alpha[0] * (1 - p) ** loss.gamma * p.log()
            negative = alpha[1] * p**loss.gamma * (1 - p).log()
        elif isinstance(loss, AsymmetricLoss):
            shifted = (p - loss.clip).clamp(min=0)
            positive = (1 - p) ** loss.gamma_pos * p.log()
            negative = shifted**loss.gamma_neg * (1 - shifted).log()
        else:
            positive, negative = p.log(), (1 - p).log()
        total = total - weight * y * positive - (1 - y) * negative
    return total


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@few
@given(batch=logit_batches(labels=5), gamma=st.sampled_from([0.0, 0.5, 2.0]), alpha=st.sampled_from([None, 0.25]))
def test_task_losses_are_their_formulas(smoothing, weights, batch, gamma, alpha):
    logits, _, targets, ignore = batch
    options = {"label_smoothing": smoothing, "positive_weights": weights}
    count = max(len(cells_of(targets, ignore)), 1)
    for make in (
        lambda reduction: BinaryCrossEntropy(reduction, **options),
        lambda reduction: AsymmetricLoss(3.0, 1.0, 0.05, reduction, **options),
        lambda reduction: FocalLoss(alpha, gamma, reduction, **options),
    ):
        loss = make("published")
        expected = value_and_gradient(lambda z, loss=loss: task_by_loop(loss, z, targets, ignore), logits)
        assert_same(value_and_gradient(loss, logits, targets, ignore), expected)
        mean = value_and_gradient(make("mean"), logits, targets, ignore)
        assert_same(mean, tuple(part / count for part in expected))


def test_focal_without_its_settings_is_bce():
    logits, targets = normal(3, 5) * 4, (normal(3, 5, seed=1) > 0).float()
    expected = value_and_gradient(BinaryCrossEntropy(), logits, targets)
    assert_same(value_and_gradient(FocalLoss(None, 0.0), logits, targets), expected)


@pytest.mark.parametrize("loss", [*TASK_LOSSES, FocalLoss(None, 0.5), FocalLoss(None, 0.0)])
def test_task_losses_are_finite_at_extreme_logits(loss):
    logits = torch.tensor([[200.0, -200.0, 200.0, -200.0, 0.0]])
    value, gradient = value_and_gradient(loss, logits, torch.tensor([[0, 1, 1, 0, 1]]))
    assert value.isfinite()
    assert gradient.isfinite().all()
    if not loss.label_smoothing and not isinstance(loss, AsymmetricLoss):
        assert gradient[0, 0] > 0
        assert gradient[0, 1] < 0


def test_label_smoothing_puts_the_best_logit_between_the_infinities():
    # At y = 1 with s = 0.2 the target is 0.9.
    best = torch.tensor([[math.log(0.9 / 0.1)]], dtype=torch.float64)
    _, gradient = value_and_gradient(BinaryCrossEntropy(label_smoothing=0.2), best, torch.ones(1, 1))
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-12, rtol=0)


# Mistakes.


@pytest.mark.parametrize("loss", LOGIT_LOSSES)
def test_logits_of_wrong_shapes_are_refused(loss):
    good = torch.zeros(2, 3)
    for arguments, message in (
        ((torch.zeros(2, 3, 1), good, good), r"logits: received \[2, 3, 1\]; expected \[N, C\]"),
        ((good, torch.zeros(2, 4), good), r"teacher_logits: received \[2, 4\]; expected \[2, 3\]"),
        ((good, good, torch.zeros(3)), r"targets: received \[3\]; expected \[2, 3\]"),
        ((good, good, good, torch.zeros(1, 3)), r"ignore: received \[1, 3\]; expected \[2, 3\]"),
    ):
        with pytest.raises(ValueError, match=message):
            loss(*arguments)


@pytest.mark.parametrize("loss", POOLED_LOSSES)
def test_pooled_features_of_wrong_shapes_are_refused(loss):
    with pytest.raises(ValueError, match=r"student_features: received \[2, 3, 4\]; expected \[N, D\]"):
        loss(torch.zeros(2, 3, 4), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="teacher_features: received 3 pictures; expected 2"):
        loss(torch.zeros(2, 3), torch.zeros(3, 3))


@pytest.mark.parametrize("make", [ReviewKD, FitNetHints])
def test_maps_of_wrong_shapes_are_refused(make):
    loss = make([2, 3], [4, 5])
    good, teacher = [torch.zeros(2, 2, 4, 4), torch.zeros(2, 3, 2, 2)], maps([4, 5], [4, 2], n=2)
    for student, message in (
        (good[:1], "received 1 student maps and 2 teacher maps; expected as many"),
        ([good[0], torch.zeros(2, 9, 2, 2)], r"student map 1: received \[2, 9, 2, 2\]; expected \[2, 3, H, W\]"),
        ([good[0], torch.zeros(1, 3, 2, 2)], r"student map 1: received \[1, 3, 2, 2\]; expected \[2, 3, H, W\]"),
        ([good[0], torch.zeros(2, 3, 4)], r"student map 1: received \[2, 3, 4\]; expected \[2, 3, H, W\]"),
    ):
        with pytest.raises(ValueError, match=message):
            loss(student, teacher)
    with pytest.raises(ValueError, match="received 1 student maps; expected 2, of"):
        loss(good[:1], teacher[:1])
    with pytest.raises(ValueError, match=r"received channels \[2\] of the student and \[\] of the teacher"):
        make([2], [])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BinaryKD(0), "temperature 0; expected"),
        (lambda: BinaryKD(reduction="sum"), "'sum'; expected one of published, mean"),
        (lambda: RelationalKD(-1), "distance_weight -1"),
        (lambda: ProbabilisticKT("sum"), "'sum'; expected one of published, mean"),
        (lambda: FitNetHints([1], [1], "sum"), "'sum'; expected one of published, mean"),
        (lambda: ReviewKD([1], [1], max_width=0), "max_width 0; expected"),
        (lambda: FocalLoss(alpha=2.0), "alpha 2.0"),
        (lambda: FocalLoss(gamma=-1.0), "gamma -1.0"),
        (lambda: BinaryCrossEntropy(label_smoothing=1.0), "label_smoothing 1.0"),
        (lambda: BinaryCrossEntropy(positive_weights=[1.0, -1.0]), r"positive_weights: received \[1.0, -1.0\]"),
        (lambda: FocalLoss(positive_weights=[float("inf")]), r"positive_weights: received \[inf\]"),
        (
            lambda: BinaryCrossEntropy(positive_weights=[1.0])(torch.zeros(2, 3), torch.zeros(2, 3)),
            "positive_weights: received 1; expected 3",
        ),
        (lambda: FocalLoss()(torch.zeros(2, 3), torch.zeros(2, 2)), r"targets: received \[2, 2\]; expected \[2, 3\]"),
    ],
)
def test_wrong_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
