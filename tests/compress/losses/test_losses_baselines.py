"""What must hold for every baseline, and what each refuses."""

from __future__ import annotations

import copy

import pytest
import torch

from edgepress.compress.losses import (
    DIST,
    AsymmetricLoss,
    AttentionTransfer,
    BinaryCrossEntropy,
    BinaryKD,
    FitNetHints,
    FocalLoss,
    GroupedLogitsLoss,
    LabelMapDistillation,
    LabelPrototypes,
    MultiLabelLogitsDistillation,
    ProbabilisticKT,
    RefinedLogits,
    RelationalKD,
    ReviewKD,
    SoftBCE,
)
from tests.compress.losses.loss_batches import (
    LOGIT_LOSSES,
    POOLED_LOSSES,
    TASK_LOSSES,
    assert_same,
    maps,
    normal,
    value_and_gradient,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def calls():
    """(name, loss of one student tensor, student, teacher) of every loss, with equal widths and sizes."""
    targets = torch.tensor([[1, 0, 0, 1], [0, 1, 1, 0], [1, 1, 1, 1]])
    logits, teacher_logits = normal(3, 4) * 3, normal(3, 4, seed=1) * 3
    grouped = GroupedLogitsLoss(MultiLabelLogitsDistillation("published"), [[0, 2]], [True], 4, "published")
    for loss in LOGIT_LOSSES:

        def lost(s, t, loss=loss):
            # Soft BCE is least at the teacher, by the entropy of the teacher's answers.
            least = loss(t, t, targets).detach() if isinstance(loss, SoftBCE) else 0
            return loss(s, t, targets) - least

        yield type(loss).__name__, lost, logits, teacher_logits
    for loss in POOLED_LOSSES:
        yield type(loss).__name__, loss, normal(4, 5), normal(4, 5, seed=1)
    sides = (teacher_logits > 0).double()  # labels that the teacher does not contradict
    refined = RefinedLogits(0.6, [0.5, 0.1, 1.0, 0.9])
    yield "RefinedLogits", lambda s, t: refined(s, t, sides), logits, teacher_logits
    prototypes = LabelPrototypes(3, 5, 5).double()
    prototypes(normal(4, 3, 5), normal(4, 3, 5, seed=1), torch.ones(4, 3))
    prototypes.eval()
    yield "LabelPrototypes", lambda s, t: prototypes(s, t, torch.ones(4, 3)), normal(4, 3, 5), normal(4, 3, 5, seed=1)
    for groups in None, grouped:
        yield "LabelMapDistillation", LabelMapDistillation(groups=groups), normal(3, 4, 5), normal(3, 4, 5, seed=1)
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


@pytest.mark.parametrize(("name", "loss", "student", "teacher"), list(calls()))
def test_values_of_200_are_finite(name, loss, student, teacher):
    for other in teacher, -student:
        value, gradient = value_and_gradient(loss, 200 * student.sign().float(), 200 * other.sign().float())
        assert value.isfinite()
        assert gradient.isfinite().all()


@pytest.mark.parametrize(("name", "loss", "student", "teacher"), list(calls()))
def test_compiled_it_is_the_same(name, loss, student, teacher):
    compiled = torch.compile(loss, backend="eager")
    assert_same(value_and_gradient(compiled, student, teacher), value_and_gradient(loss, student, teacher))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_changes_nothing(dtype):
    torch.manual_seed(0)
    review = ReviewKD([3], [3])
    double = copy.deepcopy(review).double()
    losses = [*calls()]
    losses.append(
        (
            "ReviewKD",
            lambda s, t: (double if s.dtype == torch.float64 else review)([s], [t]),
            normal(2, 3, 4, 4),
            normal(2, 3, 4, 4, seed=1),
        )
    )
    for loss in TASK_LOSSES:
        targets = (normal(3, 5, seed=2) > 0).float()
        losses.append((type(loss).__name__, lambda s, _, loss=loss, y=targets: loss(s, y), normal(3, 5), normal(3, 5)))
    for name, loss, student, teacher in losses:
        student, teacher = student.to(dtype), teacher.to(dtype)
        # In float64, which autocast leaves alone: it might as well be switched on inside a loss.
        expected, gradient = value_and_gradient(loss, student.double(), teacher.double())
        leaf = student.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = loss(leaf, teacher)
        # Outside, as torch asks: a backward pass under autocast multiplies matrices in half precision.
        (mixed,) = torch.autograd.grad(value, leaf)
        assert value.dtype == torch.float32, name
        torch.testing.assert_close(value.detach().double(), expected, rtol=1e-5, atol=0, msg=name)
        assert mixed.dtype == dtype, name
        torch.testing.assert_close(mixed, gradient.to(dtype), msg=name)


@pytest.mark.parametrize("cls", [BinaryCrossEntropy, AsymmetricLoss, FocalLoss])
def test_smoothed_labels_are_labels_between_and_no_other_setting_is_lost_beside(cls):
    logits, targets = normal(3, 4), (normal(3, 4, seed=1) > 0).double()
    for reduction in "mean", "published":
        settings = {"reduction": reduction, "positive_weights": [0.5, 2.0, 1.0, 3.0]}
        smoothed = cls(label_smoothing=0.2, **settings)(logits, targets)
        torch.testing.assert_close(smoothed, cls(**settings)(logits, targets * 0.8 + 0.1))
        assert smoothed != cls(**settings)(logits, targets)
        assert smoothed != cls(label_smoothing=0.2, reduction=reduction)(logits, targets)
    assert not cls(**settings).state_dict()  # a setting is no part of a checkpoint


@pytest.mark.parametrize(("alpha", "seen"), [(0, [False, True]), (1, [True, False])])
def test_focal_may_see_negatives_or_positives_alone(alpha, seen):
    _, gradient = value_and_gradient(FocalLoss(alpha=alpha), torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))
    assert (gradient[0] != 0).tolist() == seen


def test_what_is_not_set_is_what_was_published():
    assert BinaryKD().temperature == 4
    assert ReviewKD([600], [8]).fusions[0].enter[0].out_channels == 512
    assert (RelationalKD().distance_weight, RelationalKD().angle_weight) == (25, 50)
    focal, asymmetric = FocalLoss(), AsymmetricLoss()
    assert (focal.alpha, focal.gamma, focal.label_smoothing) == (0.25, 2, 0)
    assert (asymmetric.gamma_neg, asymmetric.gamma_pos, asymmetric.clip) == (4, 0, 0.05)
    for loss in BinaryKD().divergence, ProbabilisticKT(), FitNetHints([2], [2]), focal, asymmetric:
        assert loss.reduction == "mean"


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
    with pytest.raises(ValueError, match=r"^teacher_features: received \[2\]; expected \[N, D\]$"):
        loss(torch.zeros(2, 3), torch.zeros(2))
    with pytest.raises(ValueError, match=r"^teacher_features: received 3 pictures; expected 2 as the student$"):
        loss(torch.zeros(2, 3), torch.zeros(3, 3))


def test_maps_that_are_no_maps_are_refused_where_any_width_will_do():
    for student, teacher, message in (
        (
            torch.zeros(2, 3, 4),
            torch.zeros(2, 3, 4, 4),
            r"^student map 0: received \[2, 3, 4\]; expected \[2, C, H, W\]$",
        ),
        (torch.zeros(2, 3, 4, 4), torch.zeros(3, 3, 4, 4), r"^teacher map 0: received .*; expected \[2, C, H, W\]$"),
    ):
        with pytest.raises(ValueError, match=message):
            AttentionTransfer()([student], [teacher])
    with pytest.raises(
        ValueError, match=r"^received 0 student maps and 0 teacher maps; expected as many, at least one$"
    ):
        AttentionTransfer()([], [])


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
        (lambda: DIST(-1), "inter -1"),
        (lambda: RefinedLogits(0.4), "sure 0.4"),
        (lambda: RefinedLogits(precision=[1.5]), r"precision: received \[1.5\]"),
        (lambda: LabelPrototypes(2, 3, 3, momentum=1.0), "momentum 1.0"),
        (lambda: LabelPrototypes(2, 3, 3, temperature=0.0), "temperature 0.0"),
        (lambda: DIST(intra=float("inf")), "intra inf"),
        (lambda: BinaryKD(0), "temperature 0; expected"),
        (lambda: BinaryKD(float("inf")), "temperature inf; expected"),
        (lambda: BinaryKD(reduction="sum"), "'sum'; expected one of published, mean"),
        (lambda: RelationalKD(-1), "distance_weight -1"),
        (lambda: ProbabilisticKT("sum"), "'sum'; expected one of published, mean"),
        (lambda: FitNetHints([1], [1], "sum"), "'sum'; expected one of published, mean"),
        (lambda: ReviewKD([1], [1], max_width=0), "max_width 0; expected"),
        (lambda: FocalLoss(alpha=2.0), "alpha 2.0"),
        (lambda: FocalLoss(gamma=-1.0), "gamma -1.0"),
        (lambda: FocalLoss(gamma=float("inf")), "gamma inf"),
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
