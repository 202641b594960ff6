"""A teacher of other labels: its answers as answers for the data set's labels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from edgepress.compress.foreign import OnnxTeacher
from edgepress.compress.models import MultiLabelModel
from edgepress.multilabel.label_map import LabelMatch
from edgepress.multilabel.labels import LabelSpace

LEAST = 1e-30
"""Keeps the logarithm of a probability finite where every logit is far below zero."""


class LabelMapping(nn.Module):
    """Picks and joins a teacher's columns for the labels of a data set.

    A label's logit is that of the teacher's label, or the highest of several, or that of their noisy-or. A label that
    the teacher lacks is answered with zeros.
    """

    known: Tensor
    """bool `[C]`, the labels that the teacher has."""
    single: Tensor
    """bool `[C]`, the labels that are one label of the teacher's."""
    first: Tensor
    """int64 `[C]`, the first of each label's columns; 0 for a label that the teacher lacks."""
    _columns: Tensor
    _padding: Tensor
    _independent: Tensor

    def __init__(self, match: LabelMatch) -> None:
        super().__init__()
        most = max(map(len, match.columns))
        padded = torch.tensor([[*columns, *[0] * (most - len(columns))] for columns in match.columns])
        buffers = {
            "known": torch.from_numpy(match.known),
            "single": torch.from_numpy(match.single),
            "first": padded[:, 0],
            "_columns": padded,
            "_padding": torch.arange(most) >= torch.tensor([[len(columns)] for columns in match.columns]),
            "_independent": torch.tensor([combine == "noisy-or" for combine in match.combine]),
        }
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer, persistent=False)

    def forward(self, logits: Tensor) -> Tensor:
        """Turn the teacher's logits `[B, theirs]` into those of the data set's labels `[B, C]`."""
        picked = logits[:, self._columns]
        joined = picked.masked_fill(self._padding, float("-inf")).amax(dim=2)
        if self._independent.any():
            joined = torch.where(self._independent, _noisy_or(picked, self._padding), joined)
        return joined.masked_fill(~self.known, 0)


class MappedTeacher(nn.Module):
    """A model that answers for the labels of a data set.

    A label's embedding is that of the teacher's label; for a label that is none or several of its labels it is zero.

    Args:
        model: the teacher, with `match.theirs` labels.
        labels: the data set's.
    """

    def __init__(self, model: MultiLabelModel | OnnxTeacher, match: LabelMatch, labels: LabelSpace) -> None:
        super().__init__()
        self.model, self.labels, self.preprocess = model, labels, model.preprocess
        self.mapping = LabelMapping(match)

    @property
    def known(self) -> Tensor:
        """bool `[C]`, the labels that the teacher has."""
        return self.mapping.known

    @property
    def single(self) -> Tensor:
        """bool `[C]`, the labels for which it has an embedding."""
        return self.mapping.single

    @property
    def embedding_dim(self) -> int:
        """Width of the label-wise embeddings."""
        return self.model.embedding_dim

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Turn uint8 RGB `[B, size, size, 3]` into logits `[B, C]` and label-wise embeddings `[B, C, dim]`.

        If the model gives label maps, those follow, each region mapped as the logits are.
        """
        logits, embeddings, *maps = self.model(images)
        regions = (self.mapping(one.transpose(1, 2).flatten(0, 1)) for one in maps)
        mapped = (one.unflatten(0, (len(logits), -1)).transpose(1, 2) for one in regions)
        return self.mapping(logits), embeddings[:, self.mapping.first] * self.single[:, None], *mapped

    def logits(self, images: Tensor) -> Tensor:
        """Turn uint8 RGB `[B, size, size, 3]` into logits `[B, C]`."""
        return self.mapping(self.model.logits(images))


def mapped(logits: np.ndarray, match: LabelMatch) -> np.ndarray:
    """Turn a teacher's logits `[B, theirs]` into those of a data set's labels `[B, C]`; see `LabelMapping`."""
    return LabelMapping(match)(torch.from_numpy(logits)).numpy()


def _noisy_or(logits: Tensor, padding: Tensor) -> Tensor:
    """Logit of 1 - Π (1 - σ(z)) over the last dimension, `[..., K]` to `[...]`: log(e^u - 1) with u = Σ log(1 + e^z).

    Args:
        padding: bool `[..., K]`, true where there is no logit.
    """
    u = nn.functional.softplus(logits.float()).masked_fill(padding, 0).sum(dim=-1)
    return (u + (-torch.expm1(-u)).clamp(min=LEAST).log()).to(logits.dtype)
