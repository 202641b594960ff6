"""A teacher that is not here: its answers for every picture, read from a file, whatever the augmentation."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from edgepress.compress.loader import Batch
from edgepress.compress.mapped import mapped
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.label_map import LabelMatch
from edgepress.multilabel.stored_answers import StoredAnswers


class StoredTeacher:
    """Stored answers as a teacher; only the labels of the data set are held, in memory.

    Args:
        train: the pictures of the batches, followed by unlabelled ones if there are any.

    Raises:
        InputError: a picture has no answer.
    """

    embedding_dim = 0
    map_side = 0

    def __init__(self, answers: StoredAnswers, match: LabelMatch, train: MultiLabelDataset) -> None:
        self.logits = answers_for(answers, match, train)

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return logits `[B, C]` and embeddings of width 0 `[B, C, 0]`."""
        logits = torch.from_numpy(self.logits[batch.index.cpu().numpy()]).to(batch.targets.device)
        return logits, logits.new_zeros(*logits.shape, 0)


def answers_for(answers: StoredAnswers, match: LabelMatch, data: MultiLabelDataset) -> np.ndarray:
    """Logits float32 `[N, C]` for the pictures and the labels of a split.

    Raises:
        InputError: a picture has no answer.
    """
    return mapped(answers.logits[answers.rows(data)], match)
