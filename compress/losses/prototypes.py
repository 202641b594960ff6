"""Label prototypes: how similar a positive's embedding is to what each label looks like on average.

After multi-label prototype-based distillation (MPSCD, 2025), in a form of our own: p_c is a moving average of the
teacher's label-wise embeddings of the pictures that have label c. At each positive (i, c) the student's similarities to
all prototypes follow the teacher's, as a distribution over labels k:

    L = 1 / positives · Σ_(i,c) KL(softmax_k(cos(e_T[i,c], p_k) / τ) ‖ softmax_k(cos(r(e_S[i,c]), p_k) / τ))

with a linear regressor r if widths differ. CD and ID compare the embeddings of one batch among themselves; prototypes
remember those of earlier batches, so a positive that is alone in its batch teaches as well.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgepress.compress.losses.checks import compared, positive_rows
from edgepress.compress.losses.feature_checks import unit


class LabelPrototypes(nn.Module):
    """KL of the similarities to the labels' prototypes, averaged over the positive rows.

    Prototypes are averaged in training mode alone, before they are used, and are saved with the training. A label
    without a positive so far has none and takes no part. If widths differ, there are parameters, which are trained
    with the student.

    Args:
        labels: number of labels.
        student_dim: width of the student's label-wise embeddings.
        teacher_dim: width of the teacher's.
        momentum: what remains of a prototype in a step in which its label has a positive.
        temperature: τ, of cosines between −1 and 1.
    """

    prototypes: Tensor
    seen: Tensor

    def __init__(
        self, labels: int, student_dim: int, teacher_dim: int, momentum: float = 0.9, temperature: float = 0.1
    ) -> None:
        super().__init__()
        if not 0 <= momentum < 1 or not 0 < temperature < float("inf"):
            raise ValueError(f"received momentum {momentum}, temperature {temperature}; expected below 1, and above 0")
        self.momentum, self.temperature = momentum, temperature
        self.project: nn.Module = nn.Identity() if student_dim == teacher_dim else nn.Linear(student_dim, teacher_dim)
        self.register_buffer("prototypes", torch.zeros(labels, teacher_dim))
        self.register_buffer("seen", torch.zeros(labels, dtype=torch.bool))

    def forward(
        self, student_embeddings: Tensor, teacher_embeddings: Tensor, targets: Tensor, ignore: Tensor | None = None
    ) -> Tensor:
        """Return a scalar in float32 or float64; 0 if no row is positive.

        Args:
            student_embeddings: `[N, C, student_dim]`, of the whole batch.
            teacher_embeddings: `[N, C, teacher_dim]`; no gradient flows into them.
            targets: `[N, C]`; rows with a 1 take part.
            ignore: bool `[N, C]`, rows that are left out.

        Raises:
            ValueError: the shapes do not fit.
        """
        positive = positive_rows(student_embeddings, teacher_embeddings, targets, ignore)
        with torch.autocast(student_embeddings.device.type, enabled=False):
            student, teacher = compared(self.project, student_embeddings, teacher_embeddings, positive)
            if self.training:
                self._average(teacher, positive)
            prototypes = unit(self.prototypes.to(student.dtype)).T / self.temperature
            mine, theirs = (
                (unit(rows) @ prototypes).masked_fill(~self.seen, _NEVER).log_softmax(dim=1)
                for rows in (student, teacher)
            )
            return (theirs.exp() * (theirs - mine)).sum() / max(len(student), 1)

    @torch.no_grad()
    def _average(self, teacher: Tensor, positive: Tensor) -> None:
        """Move the prototypes of this batch's labels towards the mean of their positives `[P, teacher_dim]`."""
        labels = positive.nonzero()[:, 1]
        counts = positive.sum(dim=0)
        sums = torch.zeros_like(self.prototypes, dtype=teacher.dtype).index_add(0, labels, teacher)
        means = sums / counts.clamp(min=1)[:, None]
        kept = (self.seen.to(teacher.dtype) * self.momentum)[:, None]
        moved = kept * self.prototypes + (1 - kept) * means
        here = counts > 0
        self.prototypes.copy_(torch.where(here[:, None], moved, self.prototypes))
        self.seen.logical_or_(here)


_NEVER = -1e4
"""A similarity of which nothing is left after a softmax, and that is finite."""
