"""CD and ID: the structure of label-wise embeddings.

Yang et al., "Multi-Label Knowledge Distillation", ICCV 2023 (arXiv 2308.06453), section 3.3. e[i,c] is what a model
knows of label c in picture i. Of n rows, D[a,b] = ‖e_a − e_b‖₂ divided by the mean of D's positive entries, and
H(S, T) = (1/n) Σ_{a,b} SmoothL1(D(S)[a,b], D(T)[a,b]) with β = 1. Class-aware distillation (CD) sums H over labels, the
rows being the pictures that have the label; instance-aware distillation (ID) sums H over pictures, the rows being the
labels they have.

Only rows that share a label or a picture are ever compared: the positive rows are gathered once, their pairs are
enumerated without a loop over labels or pictures, and distances are direct differences in at least float32 (a Gram
matrix in half precision is 30 % wrong for close rows).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress.losses.checks import Reduction, at_least_float32, check_embeddings, check_reduction

_CHUNK_ELEMENTS = 1 << 22
"""Elements of pair differences held at once: 16 MB in float32, whatever the number of pairs."""


class LabelWiseEmbeddingDistillation(nn.Module):
    """cd_weight · CD + id_weight · ID, from one gather of the positive rows.

    Args:
        cd_weight: weight of CD; 0 leaves it out.
        id_weight: weight of ID; 0 leaves it out.
        reduction: `published` gives the paper's sums, over groups of at least two rows. `mean` does not depend on the
            batch's size: H is divided by the n(n−1) pairs and averaged over the groups of at least three rows (two
            rows always normalise to the same distance and teach nothing).
    """

    def __init__(self, cd_weight: float = 1.0, id_weight: float = 1.0, reduction: Reduction = "mean") -> None:
        super().__init__()
        check_reduction(reduction)
        if cd_weight < 0 or id_weight < 0:
            raise ValueError(f"received cd_weight {cd_weight}, id_weight {id_weight}; expected weights ≥ 0")
        self.cd_weight, self.id_weight, self.reduction = cd_weight, id_weight, reduction

    def forward(
        self, student_embeddings: Tensor, teacher_embeddings: Tensor, targets: Tensor, ignore: Tensor | None = None
    ) -> Tensor:
        """The weighted sum, a scalar; see `terms`."""
        terms = self.terms(student_embeddings, teacher_embeddings, targets, ignore)
        return self.cd_weight * terms["cd"] + self.id_weight * terms["id"]

    def terms(
        self, student_embeddings: Tensor, teacher_embeddings: Tensor, targets: Tensor, ignore: Tensor | None = None
    ) -> dict[str, Tensor]:
        """`cd` and `id` without their weights, and `cd_groups` and `id_groups`, how many groups can teach (n ≥ 3).

        Args:
            student_embeddings: `[N, C, dim]`.
            teacher_embeddings: `[N, C, dim]`, another dim perhaps; no gradient flows into them.
            targets: `[N, C]`; the rows with a 1 take part.
            ignore: bool `[N, C]`, rows left out.

        Raises:
            ValueError: shapes do not fit.
        """
        check_embeddings(student_embeddings, teacher_embeddings, targets, ignore)
        positive = targets == 1
        if ignore is not None:
            positive = positive & ~ignore.bool()
        pictures, labels = positive.nonzero(as_tuple=True)
        with torch.autocast(student_embeddings.device.type, enabled=False):
            rows = pictures * targets.shape[1] + labels
            student = at_least_float32(_Gather.apply(student_embeddings.flatten(0, 1), rows))
            teacher = at_least_float32(teacher_embeddings.detach()[pictures, labels])
            terms = {}
            for name, weight, groups, count in (
                ("cd", self.cd_weight, labels, targets.shape[1]),
                ("id", self.id_weight, pictures, targets.shape[0]),
            ):
                if weight == 0:
                    terms[name], terms[f"{name}_groups"] = student.sum() * 0, torch.zeros((), device=student.device)
                else:
                    terms[name], terms[f"{name}_groups"] = _structure(student, teacher, groups, count, self.reduction)
        return terms


class ClassAwareEmbeddingDistillation(nn.Module):
    """CD: for every label, the distances between the pictures that have it. See the module's docstring.

    Args:
        reduction: as in `LabelWiseEmbeddingDistillation`.
    """

    def __init__(self, reduction: Reduction = "mean") -> None:
        super().__init__()
        self._both = LabelWiseEmbeddingDistillation(1.0, 0.0, reduction)

    def forward(
        self, student_embeddings: Tensor, teacher_embeddings: Tensor, targets: Tensor, ignore: Tensor | None = None
    ) -> Tensor:
        """A scalar; arguments and errors as `LabelWiseEmbeddingDistillation.terms`."""
        return self._both(student_embeddings, teacher_embeddings, targets, ignore)


class InstanceAwareEmbeddingDistillation(nn.Module):
    """ID: for every picture, the distances between the labels that it has. See the module's docstring.

    Args:
        reduction: as in `LabelWiseEmbeddingDistillation`.
    """

    def __init__(self, reduction: Reduction = "mean") -> None:
        super().__init__()
        self._both = LabelWiseEmbeddingDistillation(0.0, 1.0, reduction)

    def forward(
        self, student_embeddings: Tensor, teacher_embeddings: Tensor, targets: Tensor, ignore: Tensor | None = None
    ) -> Tensor:
        """A scalar; arguments and errors as `LabelWiseEmbeddingDistillation.terms`."""
        return self._both(student_embeddings, teacher_embeddings, targets, ignore)


def _structure(
    student: Tensor, teacher: Tensor, group: Tensor, num_groups: int, reduction: Reduction
) -> tuple[Tensor, Tensor]:
    """H summed (`published`) or averaged (`mean`) over groups, and the number of groups of three rows or more.

    Args:
        student: `[P, dim]` positive rows.
        teacher: `[P, dim]`.
        group: int64 `[P]`, the group of each row.
    """
    sizes = torch.bincount(group, minlength=num_groups)
    first, second = _pairs(group, sizes)
    pair_group = group[second]
    student_distance = _normalise(_PairDistance.apply(student, first, second), pair_group, num_groups)
    with torch.no_grad():
        teacher_distance = _normalise(_PairDistance.apply(teacher, first, second), pair_group, num_groups)
    # Each pair stands once here and twice in the sum over ordered pairs.
    cells = 2 * F.smooth_l1_loss(student_distance, teacher_distance.to(student_distance.dtype), reduction="none")
    sums = cells.new_zeros(num_groups).index_add(0, pair_group, cells)
    n = sizes.to(sums.dtype)
    teaching = sizes >= 3
    if reduction == "published":
        return (sums / n.clamp(min=1)).sum(), teaching.sum()
    sums = torch.where(teaching, sums / (n * (n - 1)).clamp(min=1), 0)
    return sums.sum() / teaching.sum().clamp(min=1), teaching.sum()


def _pairs(group: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Indices into the rows of every unordered pair that shares a group, without a loop."""
    order = torch.argsort(group, stable=True)
    start = sizes.cumsum(0) - sizes
    rank = torch.arange(len(group), device=group.device) - start[group[order]]
    # In its group the row of rank k pairs with the k rows before it.
    second = torch.repeat_interleave(rank)
    step = torch.arange(len(second), device=group.device) - (rank.cumsum(0) - rank)[second]
    return order[start[group[order[second]]] + step], order[second]


def _normalise(distance: Tensor, group: Tensor, num_groups: int) -> Tensor:
    """Divide by the mean of the group's positive distances; a group of coincident rows stays 0."""
    zeros = distance.new_zeros(num_groups)
    total = zeros.index_add(0, group, distance)
    positive = zeros.index_add(0, group, (distance > 0).to(distance.dtype))
    mean = total / positive.clamp(min=1)
    return distance / torch.where(positive > 0, mean, 1)[group]


class _Gather(torch.autograd.Function):
    """rows[index], index without repeats: the gradient is written, where indexing would add it up cell by cell."""

    @staticmethod
    def forward(ctx, rows: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.shape = rows.shape
        return rows[index]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):
        (index,) = ctx.saved_tensors
        return grad.new_zeros(ctx.shape).index_copy_(0, index, grad), None


class _PairDistance(torch.autograd.Function):
    """‖rows[first] − rows[second]‖₂ in chunks; coincident rows have distance 0 and gradient 0.

    The differences are made again for the gradient, so that memory holds the rows and one chunk, never all pairs.
    """

    @staticmethod
    def forward(ctx, rows: Tensor, first: Tensor, second: Tensor) -> Tensor:
        distance = rows.new_empty(len(first))
        for part in _chunks(rows, len(first)):
            distance[part] = torch.linalg.vector_norm(rows[first[part]] - rows[second[part]], dim=1)
        ctx.save_for_backward(rows, first, second, distance)
        return distance

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):
        rows, first, second, distance = ctx.saved_tensors
        scale = torch.where(distance > 0, grad / torch.where(distance > 0, distance, 1), 0)
        result = torch.zeros_like(rows)
        for part in _chunks(rows, len(first)):
            step = (rows[first[part]] - rows[second[part]]).mul_(scale[part, None])
            result.index_add_(0, first[part], step).index_add_(0, second[part], step, alpha=-1)
        return result, None, None


def _chunks(rows: Tensor, count: int) -> list[slice]:
    size = max(1, _CHUNK_ELEMENTS // max(rows.shape[1], 1))
    return [slice(begin, begin + size) for begin in range(0, count, size)]
