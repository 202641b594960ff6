"""Losses of labels that exclude each other: a softmax's cross-entropy and KL within each group, elsewhere another loss.

An outcome of a group is that one of its labels is true, or, where none may be, "none" with a logit of 0. The answer of
a picture may be known in part. Its loss is then -log of the probability of all outcomes that are still possible: the
labels that are known to be true; where there is none, those that are not known to be false, and "none". A group of
which all outcomes are possible teaches nothing, and neither does one without any, whose labels contradict themselves.
The KL compares the distributions over those labels that are not ignored (and "none"), so a teacher that lacks a label
of a group teaches how probable the others are among themselves (conditional distributions).

All groups are computed together, without a loop and in memory that grows with the number of labels alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgepress.compress.losses.checks import Reduction, at_least_float32, check_logits, check_reduction


class _Exclusive(nn.Module):
    """What both losses share: the columns of the groups, and log-sums over them.

    Args:
        rest: the loss of all other columns, of the same reduction; it takes logits, further `[N, C]`, and ignore.
        columns: those of each group.
        none: whether a picture may have no label of each group.
        labels: number of all columns.
        reduction: `published` sums over the groups; `mean` counts a group of a picture like one cell of the others.
    """

    columns: Tensor
    """int64 `[M]`, the columns of all groups."""
    group: Tensor
    """int64 `[M]`, the group of each."""
    none: Tensor
    """bool `[G]`."""
    free: Tensor
    """int64, the other columns."""

    def __init__(
        self,
        rest: nn.Module,
        columns: Sequence[Sequence[int]],
        none: Sequence[bool],
        labels: int,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        check_reduction(reduction)
        self.rest, self.labels, self.reduction = rest, labels, reduction
        flat = [int(column) for group in columns for column in group]
        if len(columns) != len(none) or len(set(flat)) != len(flat) or not set(flat) <= set(range(labels)):
            raise ValueError(f"expected groups of different columns of {labels}, and whether each may be empty")
        buffers = {
            "columns": torch.tensor(flat, dtype=torch.int64),
            "group": torch.tensor([number for number, group in enumerate(columns) for _ in group], dtype=torch.int64),
            "none": torch.tensor(list(none), dtype=torch.bool),
            "free": torch.tensor(sorted(set(range(labels)) - set(flat)), dtype=torch.int64),
        }
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer, persistent=False)

    def _count(self, cells: Tensor) -> Tensor:
        """Sum `[N, M]` within each group: `[N, G]`."""
        found = cells.new_zeros((len(cells), len(self.none)))
        return found.index_add(1, self.group, cells)

    def _log_sum(self, z: Tensor, keep: Tensor, none: Tensor) -> Tensor:
        """log Σ exp z over the kept columns of each group, `[N, G]`, with a term of 1 where `none` is; a group without
        any has a number without meaning.

        Args:
            z: `[N, M]`.
            keep: bool `[N, M]`.
            none: bool `[N, G]`.
        """
        z = z.masked_fill(~keep, float("-inf"))
        highest = z.new_full(none.shape, float("-inf"))
        with torch.no_grad():
            highest = highest.scatter_reduce(1, self.group.expand(len(z), -1), z, "amax")
            highest = torch.where(none, highest.clamp(min=0), highest)
            highest = torch.where(highest.isfinite(), highest, 0)
        total = self._count((z - highest[:, self.group]).exp()) + torch.where(none, (-highest).exp(), 0)
        return highest + total.clamp(min=torch.finfo(z.dtype).tiny).log()

    def _joined(self, rest: Tensor, known: Tensor, groups: Tensor, counted: Tensor) -> Tensor:
        """The loss of the other columns and of the groups as one, by the reduction.

        Args:
            rest: a scalar.
            known: bool, the cells of the other columns that count.
            groups: `[N, G]`.
            counted: bool `[N, G]`.
        """
        groups = groups.masked_fill(~counted, 0)
        if self.reduction == "published":
            return rest + groups.sum()
        cells, pairs = known.sum(), counted.sum()
        return (rest * cells + groups.sum()) / (cells + pairs).clamp(min=1)


class GroupedTaskLoss(_Exclusive):
    """Cross-entropy of a softmax within each group, and another loss of the labels for the other columns.

    Args:
        rest, columns, none, labels, reduction: as above.
        label_smoothing: s in [0, 1); the loss is (1 - s) times its own, plus s times the mean of -log p over outcomes.

    Example:
        >>> import torch
        >>> from edgepress.compress.losses import BinaryCrossEntropy, GroupedTaskLoss
        >>> loss = GroupedTaskLoss(BinaryCrossEntropy(), [[0, 1, 2]], [False], labels=4)
        >>> round(float(loss(torch.zeros(1, 4), torch.tensor([[0, 1, 0, 0]]))), 3)  # (log 3 + log 2) / 2
        0.896
    """

    def __init__(
        self,
        rest: nn.Module,
        columns: Sequence[Sequence[int]],
        none: Sequence[bool],
        labels: int,
        reduction: Reduction = "mean",
        *,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(rest, columns, none, labels, reduction)
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, targets: Tensor, ignore: Tensor | None = None) -> Tensor:
        """A scalar in float32 or float64.

        Args:
            logits: `[N, C]`.
            targets: `[N, C]` in {0, 1}.
            ignore: bool `[N, C]`, cells of which nobody knows the answer.

        Raises:
            ValueError: the shapes differ.
        """
        check_logits(logits, None, targets, ignore)
        ignore = torch.zeros_like(targets, dtype=torch.bool) if ignore is None else ignore.bool()
        with torch.autocast(logits.device.type, enabled=False):
            z = at_least_float32(logits)
            rest = self.rest(z[:, self.free], targets[:, self.free], ignore[:, self.free])
            z, unknown = z[:, self.columns], ignore[:, self.columns]
            positive = (targets[:, self.columns] == 1) & ~unknown
            seen = self._count(positive.to(z.dtype)) > 0
            possible = torch.where(seen[:, self.group], positive, unknown)
            empty = self.none & ~seen
            outcomes = self._count(possible.to(z.dtype)) + empty
            every = self._count(torch.ones_like(z)) + self.none
            whole = self._log_sum(z, torch.ones_like(possible), self.none.expand_as(seen))
            loss = whole - self._log_sum(z, possible, empty)
            if self.label_smoothing:
                smooth = whole - self._count(z) / every
                loss = (1 - self.label_smoothing) * loss + self.label_smoothing * smooth
            counted = (outcomes > 0) & (outcomes < every)
            return self._joined(rest, ~ignore[:, self.free], loss, counted)


class GroupedLogitsLoss(_Exclusive):
    """KL(softmax of the teacher ‖ softmax of the student) within each group, and another loss for the other columns.

    Args:
        rest, columns, none, labels: as above.
        reduction: `published` sums over groups and averages over the batch, as MLD sums over labels; `mean` as above.
        temperature: T; both sides' logits are divided by it, and the KL is multiplied by T² (Hinton et al. 2015).
    """

    def __init__(
        self,
        rest: nn.Module,
        columns: Sequence[Sequence[int]],
        none: Sequence[bool],
        labels: int,
        reduction: Reduction = "mean",
        *,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(rest, columns, none, labels, reduction)
        self.temperature = temperature

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor, targets: Tensor, ignore: Tensor | None = None
    ) -> Tensor:
        """A scalar in float32 or float64.

        Args:
            student_logits: `[N, C]`.
            teacher_logits: `[N, C]`; no gradient flows into them.
            targets: `[N, C]`, for the other columns' loss.
            ignore: bool `[N, C]`, cells that are left out.

        Raises:
            ValueError: the shapes differ.
        """
        check_logits(student_logits, teacher_logits, targets, ignore)
        ignore = torch.zeros_like(targets, dtype=torch.bool) if ignore is None else ignore.bool()
        free = self.free
        with torch.autocast(student_logits.device.type, enabled=False):
            student, teacher = at_least_float32(student_logits), at_least_float32(teacher_logits.detach())
            rest = self.rest(student[:, free], teacher[:, free], targets[:, free], ignore[:, free])
            keep = ~ignore[:, self.columns]
            none = self.none.expand(len(keep), -1)
            divergence = self._divergence(student[:, self.columns], teacher[:, self.columns], keep, none)
            counted = self._count(keep.to(divergence.dtype)) + none > 1
            if self.reduction == "published":
                divergence = divergence / max(len(student), 1)
            return self._joined(rest, ~ignore[:, free], divergence, counted)

    def decided(self, logits: Tensor, ignore: Tensor) -> Tensor:
        """bool `[N, C]`, the labels that logits `[N, C]` decide for: those above 0, and in a group the most probable of
        the labels that are not ignored, unless "none" is."""
        z = logits[:, self.columns].masked_fill(ignore[:, self.columns], float("-inf"))
        highest = torch.where(self.none, 0.0, float("-inf")).to(z.dtype).expand(len(z), -1)
        highest = highest.scatter_reduce(1, self.group.expand(len(z), -1), z, "amax")[:, self.group]
        return (logits > 0).index_copy(1, self.columns, (z == highest) & ~ignore[:, self.columns])

    def agreed(self, same: Tensor) -> Tensor:
        """bool `[N, C]`: in a group, whether all of its labels are the same; elsewhere `same` itself."""
        whole = self._count((~same[:, self.columns]).to(torch.float32)) == 0
        return same.index_copy(1, self.columns, whole[:, self.group])

    def cells(self, ignore: Tensor) -> Tensor:
        """The number of cells of other columns, and of pairs of a picture and a group, that count; at least 1."""
        kept = self._count((~ignore[:, self.columns]).to(torch.float32))
        return ((~ignore[:, self.free]).sum() + (kept + self.none > 1).sum()).clamp(min=1)

    def _divergence(self, student: Tensor, teacher: Tensor, keep: Tensor, none: Tensor) -> Tensor:
        """T² · KL of each group, `[N, G]`; arguments as for `_log_sum`, before the temperature."""
        # A column that is left out has the same finite logit on both sides, and no share of the sums.
        student = student.masked_fill(~keep, 0) / self.temperature
        teacher = teacher.masked_fill(~keep, 0) / self.temperature
        own, theirs = self._log_sum(student, keep, none), self._log_sum(teacher, keep, none)
        # Masked before exp, because what is left out may be large against the rest.
        log_p = (teacher - theirs[:, self.group]).masked_fill(~keep, 0)
        log_q = (student - own[:, self.group]).masked_fill(~keep, 0)
        cells = log_p.exp() * (log_p - log_q)
        nothing = (-theirs.masked_fill(~none, 0)).exp() * (own - theirs).masked_fill(~none, 0)
        return self.temperature**2 * (self._count(cells) + nothing)
