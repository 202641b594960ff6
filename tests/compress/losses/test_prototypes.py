"""Label prototypes: the moving average, and similarities against a plain loop."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from edgepress.compress.losses import LabelPrototypes
from tests.compress.losses.loss_batches import assert_same, few, generator, normal, value_and_gradient

pytestmark = pytest.mark.usefixtures("one_thread")


def batch(seed: int, pictures: int, labels: int, ours: int, theirs: int, density: float = 0.5):
    random = generator(seed)
    targets = (torch.rand(pictures, labels, generator=random) < density).double()
    ignore = torch.rand(pictures, labels, generator=random) < 0.3
    student, teacher = normal(pictures, labels, ours, seed=seed), normal(pictures, labels, theirs, seed=seed + 1)
    return student, teacher, targets, ignore


@few
@given(
    seed=st.integers(0, 10_000),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    widths=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    density=st.sampled_from([0.0, 0.4, 1.0]),
)
def test_it_is_the_formula_over_batches_that_follow_each_other(seed, shape, widths, density):
    loss = LabelPrototypes(shape[1], *widths).double()
    prototypes: dict[int, torch.Tensor] = {}
    for step in range(3):
        student, teacher, targets, ignore = batch(seed + 10 * step, *shape, *widths, density)
        cells = [(i, c) for i in range(shape[0]) for c in range(shape[1]) if targets[i, c] == 1 and not ignore[i, c]]
        for c in {c for _, c in cells}:
            mean = torch.stack([teacher[i, k] for i, k in cells if k == c]).mean(dim=0)
            prototypes[c] = 0.9 * prototypes[c] + 0.1 * mean if c in prototypes else mean

        def by_loop(student, cells=cells, teacher=teacher):
            total = student.sum() * 0
            for i, c in cells:
                rows = torch.stack([prototypes[k] for k in sorted(prototypes)])
                p, q = (
                    (F.cosine_similarity(e[None], rows, dim=1, eps=0) / 0.1).softmax(0)
                    for e in (teacher[i, c], loss.project(student[i, c]))
                )
                total = total + (p * (p / q).log()).sum()
            return total / max(len(cells), 1)

        mine = value_and_gradient(loss, student, teacher, targets, ignore)
        assert_same(mine, value_and_gradient(by_loop, student))
        assert loss.seen.nonzero()[:, 0].tolist() == sorted(prototypes)


def test_prototypes_move_in_training_alone_and_are_saved():
    loss = LabelPrototypes(3, 4, 4).double()
    loss(*batch(0, 5, 3, 4, 4))
    before = copy.deepcopy(loss.state_dict())
    assert before["seen"].any()
    loss.eval()(*batch(1, 5, 3, 4, 4))
    assert all(torch.equal(before[name], tensor) for name, tensor in loss.state_dict().items())
    other = LabelPrototypes(3, 4, 4).double()
    other.load_state_dict(before)
    given = batch(2, 5, 3, 4, 4)
    assert other(*given) == loss.train()(*given)


def test_widths_other_than_at_construction_are_told():
    student, _, targets, _ = batch(0, 4, 3, 5, 5)
    with pytest.raises(ValueError, match="expected alike"):
        LabelPrototypes(3, 5, 5)(student, torch.zeros(4, 3, 6), targets)
