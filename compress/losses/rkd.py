"""RKD: the distances and the angles between the pictures of a batch.

Park et al., "Relational Knowledge Distillation", CVPR 2019 (arXiv 1904.05068). For the rows x of a batch, section 3
defines ψ_D(i, j) = ‖x_i − x_j‖₂ / μ, with μ the mean distance, and ψ_A(i, j, k) = cos ∠(x_i, x_j, x_k), the angle at
x_j. Both follow the teacher's under the Huber loss with δ = 1. The paper weighs distances by 25, and angles by 50.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgepress.compress.losses.feature_checks import check_ignored, check_pooled, raised, unit


class RelationalKD(nn.Module):
    """distance_weight · RKD-D + angle_weight · RKD-A on pooled features.

    RKD-D is averaged over all N² ordered pairs and RKD-A over all N³ ordered triples, including those that repeat a
    picture (0 in both), and μ is the mean of the positive distances, as in the authors' code, to which the weights
    belong (the paper writes sums). Differences are direct, in at least float32, and take memory of a few N²·D.

    Args:
        distance_weight: weight of RKD-D; 0 omits it.
        angle_weight: weight of RKD-A; 0 omits it.
    """

    def __init__(self, distance_weight: float = 25.0, angle_weight: float = 50.0) -> None:
        super().__init__()
        if not (distance_weight >= 0 and angle_weight >= 0):
            raise ValueError(
                f"received distance_weight {distance_weight}, angle_weight {angle_weight}; expected weights ≥ 0"
            )
        self.distance_weight, self.angle_weight = distance_weight, angle_weight

    def forward(self, student_features: Tensor, teacher_features: Tensor, ignore: Tensor | None = None) -> Tensor:
        """A scalar in float32 or float64.

        Args:
            student_features: `[N, D]`.
            teacher_features: `[N, D']`; no gradient flows into them.
            ignore: bool `[N]`, pictures that are left out, as if they were not in the batch.

        Raises:
            ValueError: the shapes do not fit.
        """
        check_pooled(student_features, teacher_features)
        check_ignored(ignore, len(student_features))
        with torch.autocast(student_features.device.type, enabled=False):
            student, teacher = raised(student_features, teacher_features)
            if ignore is not None:
                student, teacher = student[~ignore.bool()], teacher[~ignore.bool()]
            student, teacher = student - student[:, None], teacher - teacher[:, None]  # [N, N, D]: [j, i] = x_i − x_j
            loss = student.sum() * 0
            if not len(student):
                return loss
            if self.distance_weight:
                loss = loss + self.distance_weight * F.smooth_l1_loss(_distances(student), _distances(teacher))
            if self.angle_weight:
                loss = loss + self.angle_weight * F.smooth_l1_loss(_angles(student), _angles(teacher))
            return loss


def _distances(difference: Tensor) -> Tensor:
    distance = torch.linalg.vector_norm(difference, dim=2)
    positive = (distance > 0).sum()
    return distance / torch.where(positive > 0, distance.sum() / positive.clamp(min=1), 1)


def _angles(difference: Tensor) -> Tensor:
    """Cosines `[j, i, k]` of the angles at j; 0 where i or k coincides with j."""
    direction = unit(difference)
    return direction @ direction.transpose(1, 2)
