"""PS: partial softmax.

Song et al., "Handling Difficult Labels for Multi-label Image Classification via Uncertainty Distillation", ACM MM 2021;
the baseline PS of Yang et al., "Multi-Label Knowledge Distillation", ICCV 2023 (arXiv 2308.06453). A softmax over all
labels makes positive labels compete with each other. So each positive label p competes only with the negatives N:

    L = (1/B) Σ_i Σ_{p positive in i} KL(softmax(z_T[N ∪ p]) ‖ softmax(z_S[N ∪ p]))

With ℓ = logsumexp over N, the distribution over N ∪ p is a binary choice, p against N with the logit z_p − ℓ, followed
by a softmax within N. The divergence splits in the same way (the chain rule of KL), so no tensor is larger than the
logits:

    KL = KL(Bernoulli(σ(z_T,p − ℓ_T)) ‖ Bernoulli(σ(z_S,p − ℓ_S)))
         + σ(ℓ_T − z_T,p) · KL(softmax(z_T[N]) ‖ softmax(z_S[N]))
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgepress.compress.losses.checks import at_least_float32, check_logits


class PartialSoftmax(nn.Module):
    """KL over [all negatives, one positive], summed over the positives and averaged over the batch.

    A picture without positives counts as 0 in that average; without negatives, each softmax is over one label and
    teaches nothing.
    """

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor, targets: Tensor, ignore: Tensor | None = None
    ) -> Tensor:
        """A scalar in float32 or float64.

        Args:
            student_logits: `[N, C]`.
            teacher_logits: `[N, C]`; no gradient flows into them.
            targets: `[N, C]`; positive where 1, else negative.
            ignore: bool `[N, C]`, cells that count as neither positive nor negative.

        Raises:
            ValueError: the shapes differ.
        """
        check_logits(student_logits, teacher_logits, targets, ignore)
        positive, negative = targets == 1, targets != 1
        if ignore is not None:
            positive, negative = positive & ~ignore.bool(), negative & ~ignore.bool()
        some = negative.any(dim=1, keepdim=True)
        positive = positive & some
        with torch.autocast(student_logits.device.type, enabled=False):
            student = _against_negatives(at_least_float32(student_logits), negative, some)
            teacher = _against_negatives(at_least_float32(teacher_logits.detach()), negative, some)
            # Masked before exp, because values outside N may be large.
            probability = teacher.masked_fill(~negative, float("-inf")).exp()
            within = (probability * (teacher - student).masked_fill(~negative, 0)).sum(dim=1, keepdim=True)
            # Equal logits have a divergence of 0 and no gradient.
            student, teacher = student.masked_fill(~positive, 0), teacher.masked_fill(~positive, 0)
            choice = teacher.sigmoid() * (F.logsigmoid(teacher) - F.logsigmoid(student)) + (-teacher).sigmoid() * (
                F.logsigmoid(-teacher) - F.logsigmoid(-student)
            )
            cells = choice + (-teacher).sigmoid() * within
            return cells.masked_fill(~positive, 0).sum() / max(len(cells), 1)


def _against_negatives(logits: Tensor, negative: Tensor, some: Tensor) -> Tensor:
    """z − ℓ `[N, C]`: each label's logit against all negatives, and each negative's log-softmax within them.

    Rows without a negative have ℓ of 0: over −∞ alone, logsumexp would have no gradient.
    """
    masked = logits.masked_fill(~negative & some, float("-inf")).masked_fill(~some, 0)
    return logits - masked.logsumexp(dim=1, keepdim=True)
