"""Label maps: the teacher's score for each label in each region of the picture.

Scale decoupled distillation (Wei et al., "Scaled Decoupled Distillation", CVPR 2024, arXiv 2403.13512) averages the
scores of places over regions of 1×1, 2×2 and 4×4 grids and distils each region's softmax; regions whose decision is not
that of the whole picture count more, because they hold what the whole picture's logits blur. Here every label is a
binary problem of its own, so both are said of each label. With M[i, c, r] the score of label c in region r of picture
i, and r = 0 the whole picture (its logit; see `compress.label_maps`),

    L = 1 / (cells · R) · Σ_i Σ_c Σ_r w[i, c, r] · KL(Bernoulli(σ(M_T[i, c, r])) ‖ Bernoulli(σ(M_S[i, c, r])))

with w = 2 where the teacher's decision M_T[i, c, r] > 0 is another than M_T[i, c, 0] > 0, and otherwise 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgepress.compress.losses.checks import at_least_float32
from edgepress.compress.losses.exclusive import GroupedLogitsLoss
from edgepress.compress.losses.mld import MultiLabelLogitsDistillation


class LabelMapDistillation(nn.Module):
    """Weighted KL of each label's Bernoulli distribution in each region, averaged over valid cells and regions.

    Labels that exclude each other have one distribution in each region, with a KL that counts like that of one label;
    its decision is its most probable outcome.

    Args:
        contrary: w of regions that decide otherwise than the whole picture.
        groups: the KL of labels in groups, with reduction `published`; None where no labels exclude each other.
    """

    def __init__(self, contrary: float = 2.0, groups: GroupedLogitsLoss | None = None) -> None:
        super().__init__()
        if not 0 <= contrary < float("inf"):
            raise ValueError(f"received contrary {contrary}; expected a finite weight ≥ 0")
        assert groups is None or groups.reduction == "published"
        self.contrary = contrary
        self.groups = groups
        self.divergence = MultiLabelLogitsDistillation("published") if groups is None else groups

    def forward(self, student_maps: Tensor, teacher_maps: Tensor, ignore: Tensor | None = None) -> Tensor:
        """A scalar in float32 or float64.

        Args:
            student_maps: `[N, C, R]`, scores in R ≥ 1 regions, the first of which is the whole picture.
            teacher_maps: `[N, C, R]`; no gradient flows into them.
            ignore: bool `[N, C]`, cells that are left out in every region.

        Raises:
            ValueError: the shapes do not fit.
        """
        shape = student_maps.shape
        if len(shape) != 3 or not shape[2]:
            raise ValueError(f"student_maps: received {list(shape)}; expected [N, C, R] with R of at least 1")
        for name, other, expected in (("teacher_maps", teacher_maps, shape), ("ignore", ignore, shape[:2])):
            if other is not None and other.shape != expected:
                raise ValueError(f"{name}: received {list(other.shape)}; expected {list(expected)}")
        with torch.autocast(student_maps.device.type, enabled=False):
            # A row for each picture and region.
            student, teacher = (
                at_least_float32(maps).transpose(1, 2).flatten(0, 1) for maps in (student_maps, teacher_maps.detach())
            )
            left_out = torch.zeros_like(student[:, :1], dtype=torch.bool).expand_as(student)
            if ignore is not None:
                left_out = ignore.bool()[:, None].expand(-1, shape[2], -1).flatten(0, 1)
            targets = torch.zeros_like(student)  # of which only the shape is used
            every = self.divergence(student, teacher, targets, left_out)
            # What a contrary region weighs more is added for these regions alone.
            more = self.divergence(student, teacher, targets, left_out | self._agrees(teacher, left_out, shape[2]))
            cells = (~left_out).sum().clamp(min=1) if self.groups is None else self.groups.cells(left_out)
            return (every + (self.contrary - 1) * more) * len(student) / cells

    def _agrees(self, teacher: Tensor, left_out: Tensor, regions: int) -> Tensor:
        """bool `[N · R, C]`, whether a region decides as the whole picture does."""
        decided = teacher > 0 if self.groups is None else self.groups.decided(teacher, left_out)
        whole = decided[::regions].repeat_interleave(regions, dim=0)
        same = decided == whole
        return same if self.groups is None else self.groups.agreed(same)
