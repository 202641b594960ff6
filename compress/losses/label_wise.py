"""CD and ID: the structure of label-wise embeddings.

Yang et al., "Multi-Label Knowledge Distillation", ICCV 2023 (arXiv 2308.06453), section 3.3. e[i,c] is a model's
embedding of label c in picture i. For n rows, D[a,b] = ‖e_a − e_b‖₂ divided by the mean of D's positive entries, and
H(S, T) = (1/n) Σ_{a,b} SmoothL1(D(S)[a,b], D(T)[a,b]) with β = 1. Class-aware distillation (CD) sums H over labels; its
rows are the pictures that have the label. Instance-aware distillation (ID) sums H over pictures; its rows are the
labels that the picture has.

Only rows that share a label or a picture are compared. Their pairs are enumerated without a loop over labels or
pictures, for CD and ID together, so that one pass over the teacher, one over the student and one dense gradient serve
both. Distances are direct differences in at least float32 (a Gram matrix in half precision is 30 % wrong for close
rows). Besides the gradient, memory holds about 100 bytes per pair and one chunk of differences.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgepress.compress.losses.checks import Reduction, at_least_float32, check_reduction, positive_rows

_CHUNK_ELEMENTS = 1 << 16
"""Number of elements of pair differences that are made at once: 256 KB in float32, so that the two blocks of a
difference fit in a core's cache."""


class LabelWiseEmbeddingDistillation(nn.Module):
    """cd_weight · CD + id_weight · ID, from a single gather of the positive rows.

    Args:
        cd_weight: weight of CD; 0 omits it.
        id_weight: weight of ID; 0 omits it.
        reduction: `published` uses the paper's sums, over groups of at least two rows. `mean` is independent of the
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
        """Return `cd` and `id` without weights, and `cd_groups` and `id_groups`, the numbers of groups with n ≥ 3.

        Args:
            student_embeddings: `[N, C, dim]`.
            teacher_embeddings: `[N, C, dim]`, possibly with another dim; no gradient flows into them.
            targets: `[N, C]`; rows with a 1 take part.
            ignore: bool `[N, C]`, rows that are left out.

        Raises:
            ValueError: the shapes do not fit.
        """
        positive = positive_rows(student_embeddings, teacher_embeddings, targets, ignore)
        num_pictures, num_labels = targets.shape
        rows = positive.flatten().nonzero().squeeze(1)
        # A row's CD group is its label; its ID group is its picture, numbered after the labels.
        groups = [rows % num_labels] if self.cd_weight else []
        if self.id_weight:
            groups.append(num_labels + rows // num_labels)
        group = torch.cat([rows[:0], *groups])
        sizes = torch.bincount(group, minlength=num_labels + num_pictures)
        with torch.autocast(student_embeddings.device.type, enabled=False):
            student, teacher = student_embeddings.flatten(0, 1), teacher_embeddings.detach().flatten(0, 1)
            sums = _sums(student, teacher, rows.repeat(len(groups)), group, sizes)
            cd, cd_groups = self._reduce(sums[:num_labels], sizes[:num_labels])
            id_, id_groups = self._reduce(sums[num_labels:], sizes[num_labels:])
        return {"cd": cd, "cd_groups": cd_groups, "id": id_, "id_groups": id_groups}

    def _reduce(self, sums: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Reduce one kind's groups to a value, and count those that have three rows or more."""
        teaching = sizes >= 3
        if self.reduction == "published":
            return (sums / sizes.clamp(min=1)).sum(), teaching.sum()
        each = torch.where(teaching, sums / (sizes * (sizes - 1)).clamp(min=1), 0)
        return each.sum() / teaching.sum().clamp(min=1), teaching.sum()


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
        """Return a scalar; arguments and errors are those of `LabelWiseEmbeddingDistillation.terms`."""
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
        """Return a scalar; arguments and errors are those of `LabelWiseEmbeddingDistillation.terms`."""
        return self._both(student_embeddings, teacher_embeddings, targets, ignore)


def _sums(student: Tensor, teacher: Tensor, rows: Tensor, group: Tensor, sizes: Tensor) -> Tensor:
    """n · H of every group, `[G]`.

    Args:
        student: `[N·C, dim]`.
        teacher: `[N·C, dim]`.
        rows: int64 `[M]`, rows of both; one row may be in several groups.
        group: int64 `[M]`, the group of each.
        sizes: int64 `[G]`, n of each group.
    """
    first, second = _pairs(group, sizes)
    pair_group = group[second]
    first, second = rows[first], rows[second]
    student_distance = _normalise(_PairDistance.apply(student, first, second), pair_group, len(sizes))
    with torch.no_grad():
        teacher_distance = _normalise(_PairDistance.apply(teacher, first, second), pair_group, len(sizes))
    cells = F.smooth_l1_loss(student_distance, teacher_distance.to(student_distance.dtype), reduction="none")
    # Each pair occurs once here and twice in the sum over ordered pairs.
    return 2 * cells.new_zeros(len(sizes)).index_add(0, pair_group, cells)


def _pairs(group: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Indices into the rows for every unordered pair within a group, found without a loop."""
    order = torch.argsort(group, stable=True)
    start = sizes.cumsum(0) - sizes
    rank = torch.arange(len(group), device=group.device) - start[group[order]]
    # In its group, the row of rank k is paired with the k rows before it.
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


class _PairDistance(torch.autograd.Function):
    """‖rows[first] − rows[second]‖₂ in chunks; coincident rows have distance 0 and gradient 0.

    The differences are computed again for the gradient, so that memory holds only one chunk of them.
    """

    @staticmethod
    def forward(ctx, rows: Tensor, first: Tensor, second: Tensor) -> Tensor:
        distance = at_least_float32(rows.new_empty(len(first)))
        for part, step in _differences(rows, first, second):
            # Written in place: small results kept between large freed chunks would fragment the heap.
            torch.linalg.vector_norm(step, dim=1, out=distance[part])
        ctx.save_for_backward(rows, first, second, distance)
        return distance

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):
        rows, first, second, distance = ctx.saved_tensors
        scale = torch.where(distance > 0, grad / distance, 0)
        result = _zeros(rows.shape, scale)
        for part, step in _differences(rows, first, second):
            step.mul_(scale[part, None])
            result.index_add_(0, first[part], step).index_add_(0, second[part], step, alpha=-1)
        return result.to(rows.dtype), None, None


def _zeros(shape: torch.Size, like: Tensor) -> Tensor:
    """Zeros of the type and device of `like`; on a CPU in pages that the system clears when they are first touched.

    Few rows of a dense gradient matter. torch would write zeros into all of them, into pages that are new each time.
    """
    size = shape.numel() * like.element_size()
    if like.device.type != "cpu" or not size or not hasattr(mmap, "MAP_ANONYMOUS"):
        return like.new_zeros(shape)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(pages, dtype=like.dtype).view(shape)  # keeps the pages as long as it is used


def _differences(rows: Tensor, first: Tensor, second: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """rows[first] − rows[second] in at least float32, one chunk of the pairs at a time."""
    size = max(1, min(len(first), _CHUNK_ELEMENTS // max(rows.shape[1], 1)))
    # Two blocks serve all chunks: new ones would be new pages each time.
    minuend, subtrahend = rows.new_empty(2, size, rows.shape[1])
    for begin in range(0, len(first), size):
        part = slice(begin, begin + size)
        count = len(first[part])
        torch.index_select(rows, 0, first[part], out=minuend[:count])
        torch.index_select(rows, 0, second[part], out=subtrahend[:count])
        step = at_least_float32(minuend[:count])
        yield part, step.sub_(subtrahend[:count])
