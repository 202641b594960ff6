"""ReviewKD: a shallow stage of the teacher also teaches the deeper stages of the student.

Chen et al., "Distilling Knowledge via Knowledge Review", CVPR 2021 (arXiv 2104.09044), section 3. From the deepest
stage to the shallowest, attention-based fusion (ABF) adds what the deeper stages know to the student's map, and the
result follows the teacher's map of that stage under the hierarchical context loss (HCL):

    HCL = Σ_l w_l · mean((pool_l(f_S) − pool_l(f_T))²) / Σ_l w_l

where l is the full size and 4, 2 and 1 positions per side, and w = 1, ½, ¼, ⅛.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgepress.compress.losses.feature_checks import check_channels, check_maps, mean_of_kept, raised

_FEW = 16
"""On smaller maps adding up weights costs more than it saves."""


class ReviewKD(nn.Module):
    """Σ over taps of HCL(ABF output, teacher's map). Its parameters are trained with the student.

    HCL is a mean over elements, and taps are summed, as published. The authors raise its weight linearly from 0 over
    the first epochs (20 of 240; `rising`) because the fusion starts random. The batch norms need several values per
    channel to train on, and see pictures that are left out as well.

    Args:
        student_channels: widths of the student's maps, shallow to deep.
        teacher_channels: as many widths, of the teacher's maps.
        max_width: the fused maps are as wide as the student's deepest map, but at most this.
    """

    def __init__(self, student_channels: Sequence[int], teacher_channels: Sequence[int], max_width: int = 512) -> None:
        super().__init__()
        check_channels(student_channels, teacher_channels)
        if max_width < 1:
            raise ValueError(f"received max_width {max_width}; expected at least 1")
        self.student_channels, self.teacher_channels = tuple(student_channels), tuple(teacher_channels)
        width, deepest = min(max_width, student_channels[-1]), len(student_channels) - 1
        self.fusions = nn.ModuleList(
            AttentionBasedFusion(mine, width, theirs, fuse=index < deepest)
            for index, (mine, theirs) in enumerate(zip(student_channels, teacher_channels, strict=True))
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
            deeper: Tensor | None = None
            for index in reversed(range(len(student_maps))):
                student, teacher = raised(student_maps[index], teacher_maps[index])
                output, deeper = self.fusions[index](student, deeper, (teacher.shape[2], teacher.shape[3]))
                terms.append(hierarchical_context_loss(output, teacher))
            return torch.stack(terms).sum(dim=0)


def rising(epoch: int, epochs: int, share: float) -> float:
    """The factor of the weight in an epoch, as in the authors' published loop: min(1, epoch / warm-up).

    Args:
        epoch: counted from 0, in which the factor is 0.
        epochs: of the whole training.
        share: that of the warm-up in it; 0 for none.
    """
    return min(1.0, epoch / (share * epochs)) if share else 1.0


class AttentionBasedFusion(nn.Module):
    """ABF: adds the stage's own map and the map from deeper stages, each weighted by a map of attention.

    Args:
        in_channels: width of the student's map.
        width: width of the fused map that is passed to the next shallower stage.
        out_channels: width of the teacher's map.
        fuse: False for the deepest stage, which has nothing to fuse.
    """

    def __init__(self, in_channels: int, width: int, out_channels: int, fuse: bool) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Conv2d(in_channels, width, 1, bias=False), nn.BatchNorm2d(width))
        self.attention = nn.Conv2d(2 * width, 2, 1) if fuse else None
        self.leave = nn.Sequential(
            nn.Conv2d(width, out_channels, 3, padding=1, bias=False), nn.BatchNorm2d(out_channels)
        )
        for convolution in (self.enter[0], self.leave[0]):
            nn.init.kaiming_uniform_(convolution.weight, a=1)

    def forward(self, maps: Tensor, deeper: Tensor | None, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the map to compare `[N, out_channels, *size]` and the fused map `[N, width, H, W]`.

        Args:
            maps: `[N, in_channels, H, W]`.
            deeper: the fused map of the next deeper stage, of any size; None for the deepest.
            size: height and width of the teacher's map.
        """
        fused = self.enter(maps)
        if self.attention is not None:
            assert deeper is not None
            # Of both maps, one behind the other; without that copy, and before the deeper one grows.
            mine, below = self.attention.weight.split(fused.shape[1], dim=1)
            votes = F.interpolate(F.conv2d(deeper, below), fused.shape[2:], mode="nearest")
            votes = votes + F.conv2d(fused, mine, self.attention.bias)
            own, theirs = votes.sigmoid().split(1, dim=1)
            fused = own * fused + theirs * F.interpolate(deeper, fused.shape[2:], mode="nearest")
        convolution, norm = self.leave
        high, wide = fused.shape[2:]
        if size == (2 * high, 2 * wide) and high * wide >= _FEW:
            return norm(convolved_doubled(fused, convolution.weight)), fused
        resized = fused if (high, wide) == size else F.interpolate(fused, size, mode="nearest")
        return self.leave(resized), fused


def convolved_doubled(maps: Tensor, weight: Tensor) -> Tensor:
    """A padded 3x3 convolution of the maps at twice their size (nearest), computed at their own size.

    Each position becomes four, and of a 3x3 window over them, rows (and columns) fall on two different positions only.
    Their weights are added first: 16 products for each position and pair of channels instead of 36. What each position
    adds to its surroundings is then a 4x4 kernel, as of a transposed convolution.

    Args:
        maps: `[N, C, H, W]`.
        weight: `[O, C, 3, 3]`.

    Returns:
        `[N, O, 2 H, 2 W]`, but for rounding what `F.conv2d(F.interpolate(maps, scale_factor=2), weight, padding=1)` is.
    """
    for dim in (2, 3):
        before, here, after = weight.flip(dim).unbind(dim)
        weight = torch.stack([before, before + here, here + after, after], dim)
    return F.conv_transpose2d(maps, weight.transpose(0, 1), stride=2, padding=1)


def hierarchical_context_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """HCL `[N]` of each picture's maps `[N, C, H, W]`, of one shape; levels not smaller than the map are left out."""
    source = student - teacher  # Pooled once: the mean of a difference is the difference of the means.
    total, weight, weights = _squared(source), 1.0, 1.0
    for side in (4, 2, 1):
        if side >= min(student.shape[2:]):
            continue
        weight /= 2
        weights += weight
        pooled = F.adaptive_avg_pool2d(source, side)
        total = total + weight * _squared(pooled)
        if all(length % side == 0 for length in source.shape[2:]):
            source = pooled  # Windows are equal and do not overlap, so means of these means are the next level's.
    return total / weights


def _squared(differences: Tensor) -> Tensor:
    """The mean of each picture's squares, `[N]`."""
    return differences.square().flatten(1).mean(dim=1)
