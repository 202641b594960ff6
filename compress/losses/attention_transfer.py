"""Attention transfer: where in the picture a stage is active.

Zagoruyko and Komodakis, "Paying More Attention to Attention", ICLR 2017 (arXiv 1612.03928). The attention map of
activations A is Q = vec(Σ_c A_c²) (their F²_sum), and the student's follows the teacher's: equation 2,
Σ_j ‖Q_S / ‖Q_S‖₂ − Q_T / ‖Q_T‖₂‖₂. Widths may differ, as channels are summed away.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgepress.compress.losses.feature_checks import check_maps, common_size, mean_of_kept, raised, unit


class AttentionTransfer(nn.Module):
    """Squared difference of the normalised attention maps, averaged over batch and positions and summed over the taps.

    Equation 2 writes the norm of the difference; this follows the authors' code, whose β of 10³ belongs to its mean
    over positions. If sizes differ, the larger attention map is averaged down to the smaller.
    """

    def forward(
        self, student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor], ignore: Tensor | None = None
    ) -> Tensor:
        """A scalar in float32 or float64.

        Args:
            student_maps: `[N, C, H, W]` per tap, shallow to deep.
            teacher_maps: as many maps, whose sizes and widths may differ; no gradient flows into them.
            ignore: bool `[N]`, pictures that are left out.

        Raises:
            ValueError: as for `pictures`.
        """
        return mean_of_kept(self.pictures(student_maps, teacher_maps), ignore)

    def pictures(self, student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
        """The loss of each picture, `[N]`.

        Raises:
            ValueError: the numbers of maps or of pictures differ.
        """
        check_maps(student_maps, teacher_maps)
        with torch.autocast(student_maps[0].device.type, enabled=False):
            terms = []
            for ours, theirs in zip(student_maps, teacher_maps, strict=True):
                student, teacher = raised(ours, theirs)
                student, teacher = common_size(_attention(student), _attention(teacher))
                terms.append((unit(student.flatten(1)) - unit(teacher.flatten(1))).square().mean(dim=1))
            return torch.stack(terms).sum(dim=0)


def _attention(maps: Tensor) -> Tensor:
    """Turn `[N, C, H, W]` into `[N, 1, H, W]` by the mean over channels, because the scale is normalised away."""
    return maps.square().mean(dim=1, keepdim=True)
