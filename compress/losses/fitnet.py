"""FitNet hints: the student's maps, after projection, should equal the teacher's.

Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015 (arXiv 1412.6550), equation 3: ½ ‖u_T − r(v_S)‖² with a
convolutional regressor r. Here r is a 1×1 convolution, learnt with the student in one stage.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgepress.compress.losses.checks import Reduction, check_reduction
from edgepress.compress.losses.feature_checks import check_channels, check_maps, common_size, mean_of_kept, raised


class FitNetHints(nn.Module):
    """½ ‖u_T − r(v_S)‖² of every tap. If widths differ, it has parameters, which are trained with the student.

    If sizes differ, the larger map is averaged down to the smaller. If widths are equal, nothing is projected.

    Args:
        student_channels: widths of the student's maps, shallow to deep.
        teacher_channels: as many widths, of the teacher's maps.
        reduction: `published` averages ½ ‖·‖² over the batch and sums over the taps; `mean` averages the squared
            difference over its elements and over the taps.
    """

    def __init__(
        self, student_channels: Sequence[int], teacher_channels: Sequence[int], reduction: Reduction = "mean"
    ) -> None:
        super().__init__()
        check_reduction(reduction)
        check_channels(student_channels, teacher_channels)
        self.student_channels, self.teacher_channels = tuple(student_channels), tuple(teacher_channels)
        self.reduction = reduction
        self.projections = nn.ModuleList(
            nn.Identity() if mine == theirs else nn.Conv2d(mine, theirs, kernel_size=1)
            for mine, theirs in zip(student_channels, teacher_channels, strict=True)
        )

    def forward(
        self, student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor], ignore: Tensor | None = None
    ) -> Tensor:
        """A scalar in float32 or float64.

        Args:
            student_maps: `[N, C, H, W]` per tap, shallow to deep.
            teacher_maps: as many maps, whose sizes may differ; no gradient flows into them.
            ignore: bool `[N]`, pictures that are left out.

        Raises:
            ValueError: as for `pictures`.
        """
        return mean_of_kept(self.pictures(student_maps, teacher_maps), ignore)

    def pictures(self, student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
        """The loss of each picture, `[N]`.

        Raises:
            ValueError: the numbers of maps or of pictures differ, or widths differ from those of construction.
        """
        check_maps(student_maps, teacher_maps, self.student_channels, self.teacher_channels)
        with torch.autocast(student_maps[0].device.type, enabled=False):
            terms = []
            for ours, theirs, project in zip(student_maps, teacher_maps, self.projections, strict=True):
                student, teacher = raised(ours, theirs)
                # A 1×1 convolution and an average commute, so projecting the smaller map is cheaper.
                student, teacher = common_size(student, teacher)
                gap = (project(student) - teacher).square().flatten(1)
                terms.append(gap.mean(dim=1) if self.reduction == "mean" else 0.5 * gap.sum(dim=1))
            total = torch.stack(terms)
            return total.mean(dim=0) if self.reduction == "mean" else total.sum(dim=0)
