"""Distillation losses at the edges of numbers and of memory, and what they refuse."""

from __future__ import annotations

import itertools
import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgepress.compress.losses import (
    AsymmetricLoss,
    BinaryCrossEntropy,
    ClassAwareEmbeddingDistillation,
    InstanceAwareEmbeddingDistillation,
    LabelWiseEmbeddingDistillation,
    MultiLabelLogitsDistillation,
    label_wise,
)
from tests.compress.losses.loss_batches import assert_same, few, value_and_gradient

pytestmark = pytest.mark.usefixtures("one_thread")
EMBEDDING_LOSSES = [ClassAwareEmbeddingDistillation, InstanceAwareEmbeddingDistillation]


def test_mld_is_finite_at_extreme_logits_and_pulls_towards_the_teacher():
    student = torch.tensor([[200.0, -200.0, 200.0, 0.0, -100.0]])
    teacher = torch.tensor([[-200.0, 200.0, 200.0, 200.0, 100.0]])
    value, gradient = value_and_gradient(MultiLabelLogitsDistillation("published"), student, teacher, torch.zeros(1, 5))
    assert value.item() == pytest.approx(200 + 200 + 0 + math.log(2) + 100, rel=1e-6)
    torch.testing.assert_close(gradient, torch.tensor([[1.0, -1.0, 0.0, -0.5, -1.0]]))


@pytest.mark.parametrize("loss", [BinaryCrossEntropy("published"), AsymmetricLoss(clip=0.0, reduction="published")])
def test_task_losses_are_finite_at_extreme_logits_and_pull_towards_the_targets(loss):
    logits, targets = torch.tensor([[200.0, -200.0, 200.0, -200.0]]), torch.tensor([[0, 1, 1, 0]])
    value, gradient = value_and_gradient(loss, logits, targets)
    assert value.item() == pytest.approx(400, rel=1e-6)
    torch.testing.assert_close(gradient, torch.tensor([[1.0, -1.0, 0.0, 0.0]]))


def test_asl_with_its_margin_is_finite_at_extreme_logits_and_never_pulls_the_wrong_way():
    logits = torch.tensor([[200.0, 4.0, -200.0, -4.0]])
    value, gradient = value_and_gradient(AsymmetricLoss(gamma_pos=1.0), logits, torch.tensor([[0, 0, 1, 1]]))
    assert value.isfinite()
    assert gradient.isfinite().all()
    assert (gradient[0, :2] >= 0).all()
    assert gradient[0, 1] > 0
    assert (gradient[0, 2:] < 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_changes_nothing(dtype):
    random = torch.Generator().manual_seed(0)
    targets = (torch.rand(6, 5, generator=random) < 0.7).to(torch.uint8)
    # Rows close together: where a distance in half precision is wrong.
    student = (10 + torch.randn(6, 5, 16, generator=random) / 2).to(dtype)
    teacher = (10 + torch.randn(6, 5, 8, generator=random) / 2).to(dtype)
    logits, others = torch.randn(2, 6, 5, generator=random).mul(10).to(dtype)
    for loss, first, rest in (
        (MultiLabelLogitsDistillation(), logits, [others]),
        (LabelWiseEmbeddingDistillation(100, 1000, "published"), student, [teacher]),
        (BinaryCrossEntropy(), logits, []),
        (AsymmetricLoss(), logits, []),
    ):
        expected, gradient = value_and_gradient(loss, first.float(), *[tensor.float() for tensor in rest], targets)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value, mixed = value_and_gradient(loss, first, *rest, targets)
        assert value.dtype == torch.float32
        assert value.item() == expected.item()
        assert mixed.dtype == dtype
        torch.testing.assert_close(mixed, gradient.to(dtype))


def test_the_students_precision_is_the_losses():
    random = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 4, 3, 5, generator=random)
    loss, targets = LabelWiseEmbeddingDistillation(), torch.ones(4, 3)
    assert (loss.cd_weight, loss.id_weight, loss.reduction) == (1, 1, "mean")
    assert loss(student, teacher.double(), targets).dtype == torch.float32
    assert loss(student.double(), teacher, targets).dtype == torch.float64


@pytest.mark.parametrize("elements", [1, 7, 40])
def test_chunks_change_nothing(monkeypatch, elements):
    random = torch.Generator().manual_seed(1)
    student = torch.randn(7, 6, 5, generator=random, dtype=torch.float64)
    teacher = torch.randn(7, 6, 3, generator=random, dtype=torch.float64)
    targets = (torch.rand(7, 6, generator=random) < 0.6).float()
    loss = LabelWiseEmbeddingDistillation(reduction="published")
    whole = value_and_gradient(loss, student, teacher, targets)
    assert whole[0] > 0
    monkeypatch.setattr(label_wise, "_CHUNK_ELEMENTS", elements)
    pairs = torch.zeros(17, dtype=torch.int64)
    assert len(list(label_wise._differences(student[0], pairs, pairs))) > 1
    assert_same(value_and_gradient(loss, student, teacher, targets), whole, atol=1e-12, rtol=1e-12)


def test_memory_holds_the_gradient_and_a_chunk_never_all_pairs(monkeypatch, tmp_path):
    """Two labels that every picture has make 4,032 pairs of 5,120 rows: as differences twice 0.8 times the rows. The
    gradient is as large as the rows, and in pages that are none of torch's."""
    monkeypatch.setattr(label_wise, "_CHUNK_ELEMENTS", 1 << 12)
    random = torch.Generator().manual_seed(3)
    student = torch.randn(64, 80, 64, generator=random, requires_grad=True)
    teacher = torch.randn(64, 80, 64, generator=random)
    targets = torch.rand(64, 80, generator=random) < 2.9 / 80
    targets[:, :2] = True
    loss = LabelWiseEmbeddingDistillation(reduction="published")
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        loss(student, teacher, targets).backward()
    profiler.export_chrome_trace(str(tmp_path / "trace.json"))
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    changes = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event["name"] == "[memory]")
    peak = max(itertools.accumulate(change for _, change in changes))
    size = student.numel() * student.element_size()
    assert 0 < peak < size


@pytest.mark.parametrize("reduction", ["published", "mean"])
def test_compiled_it_is_the_same(reduction):
    loss = LabelWiseEmbeddingDistillation(2.0, 3.0, reduction)
    compiled = torch.compile(loss, backend="eager")
    random = torch.Generator().manual_seed(4)
    for density in (0.8, 0.4):
        student, teacher = torch.randn(2, 6, 5, 4, generator=random, dtype=torch.float64)
        arguments = student, teacher, torch.rand(6, 5, generator=random) < density
        expected = value_and_gradient(loss, *arguments)
        assert expected[0] > 0
        assert_same(value_and_gradient(compiled, *arguments), expected)


@pytest.mark.parametrize("elements", [1 << 22, 8])
def test_the_gradient_of_the_distance_is_its_derivative(monkeypatch, elements):
    monkeypatch.setattr(label_wise, "_CHUNK_ELEMENTS", elements)
    rows = torch.randn(4, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64, requires_grad=True)
    first, second = torch.tensor([0, 0, 1, 3, 2]), torch.tensor([1, 2, 2, 0, 3])
    torch.autograd.gradcheck(lambda x: label_wise._PairDistance.apply(x, first, second), (rows,))


@few
@given(st.lists(st.integers(0, 4), max_size=12))
def test_pairs_are_every_unordered_pair_of_a_group_once(groups):
    group = torch.tensor(groups, dtype=torch.int64)
    first, second = label_wise._pairs(group, torch.bincount(group, minlength=5))
    found = sorted(tuple(sorted(pair)) for pair in zip(first.tolist(), second.tolist(), strict=True))
    n = range(len(groups))
    assert found == [(a, b) for a in n for b in n if a < b and groups[a] == groups[b]]


# Mistakes.


@pytest.mark.parametrize(
    ("student", "teacher", "targets", "ignore", "message"),
    [
        ((2, 3, 1), (2, 3), (2, 3), None, r"logits: received \[2, 3, 1\]; expected \[N, C\]"),
        ((2, 3), (2, 4), (2, 3), None, r"teacher_logits: received \[2, 4\]; expected \[2, 3\]"),
        ((2, 3), (2, 3), (3,), None, r"targets: received \[3\]; expected \[2, 3\]"),
        ((2, 3), (2, 3), (2, 3), (1, 3), r"ignore: received \[1, 3\]; expected \[2, 3\]"),
    ],
)
def test_logits_of_wrong_shapes_are_refused(student, teacher, targets, ignore, message):
    ignore = None if ignore is None else torch.zeros(ignore, dtype=torch.bool)
    with pytest.raises(ValueError, match=message):
        MultiLabelLogitsDistillation()(torch.zeros(student), torch.zeros(teacher), torch.zeros(targets), ignore)
    if "teacher" not in message:
        for loss in (BinaryCrossEntropy(), AsymmetricLoss()):
            with pytest.raises(ValueError, match=message):
                loss(torch.zeros(student), torch.zeros(targets), ignore)


@pytest.mark.parametrize(
    ("student", "teacher", "targets", "ignore", "message"),
    [
        ((2, 3), (2, 3, 4), (2, 3), None, r"student_embeddings: received \[2, 3\]; expected \[N, C, dim\]"),
        ((2, 4, 4), (2, 3, 4), (2, 3), None, r"student_embeddings: received \[2, 4, 4\]; .* = \[2, 3\]"),
        ((2, 3, 4), (1, 3, 4), (2, 3), None, r"teacher_embeddings: received \[1, 3, 4\]; .* = \[2, 3\]"),
        ((2, 3, 4), (2, 3, 4), (2, 3), (3,), r"ignore: received \[3\]; expected \[2, 3\]"),
    ],
)
@pytest.mark.parametrize("loss", [*EMBEDDING_LOSSES, LabelWiseEmbeddingDistillation])
def test_embeddings_of_wrong_shapes_are_refused(loss, student, teacher, targets, ignore, message):
    ignore = None if ignore is None else torch.zeros(ignore, dtype=torch.bool)
    with pytest.raises(ValueError, match=message):
        loss()(torch.zeros(student), torch.zeros(teacher), torch.zeros(targets), ignore)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MultiLabelLogitsDistillation("sum"), "'sum'; expected one of published, mean"),
        (lambda: BinaryCrossEntropy("sum"), "'sum'; expected one of published, mean"),
        (lambda: ClassAwareEmbeddingDistillation("sum"), "'sum'; expected one of published, mean"),
        (lambda: LabelWiseEmbeddingDistillation(cd_weight=-1), "cd_weight -1"),
        (lambda: LabelWiseEmbeddingDistillation(id_weight=-1), "id_weight -1"),
        (lambda: AsymmetricLoss(gamma_neg=-1), "gamma_neg -1"),
        (lambda: AsymmetricLoss(gamma_pos=-1), "gamma_pos -1"),
        (lambda: AsymmetricLoss(clip=1.0), "clip 1.0"),
    ],
)
def test_wrong_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
