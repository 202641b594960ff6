"""A teacher of a batch: its answers when they are needed, from one model or from several that answer as one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol, TypeAlias

import torch
from torch import Tensor, nn

from edgepress.compress.features import TAPS, Features, FeatureTaps, stages_of
from edgepress.compress.foreign import OnnxTeacher
from edgepress.compress.label_maps import mirrored
from edgepress.compress.loader import Batch
from edgepress.compress.mapped import MappedTeacher
from edgepress.compress.models import MultiLabelModel
from edgepress.multilabel.errors import InputError

log = logging.getLogger("edgepress")


class Teacher(Protocol):
    """Returns logits `[B, C]` and label-wise embeddings `[B, C, dim]` of a batch, without gradient; then, if it was
    made so, label maps `[B, C, REGIONS]`."""

    embedding_dim: int
    map_side: int
    """Places on each side of its label maps; 0 where it has none."""

    def __call__(self, batch: Batch) -> tuple[Tensor, ...]: ...


class Ensemble(nn.Module):
    """Several models, or several views of a picture, that answer as one.

    Logits are averaged over the models that have the label. Label-wise embeddings are averaged over the views and
    concatenated over the models, so that the distance between two embeddings is the root of the models' summed squares.

    Args:
        models: models with one label space and one preprocessing size.
        mirrored: whether to average over the picture and its mirror image.

    Raises:
        InputError: the models differ in labels, size or resize.
    """

    known: Tensor
    """bool `[C]`, the labels that some model has."""
    single: Tensor
    """bool `[C]`, the labels for which every model has an embedding."""
    _shares: Tensor
    """float32 `[models, C]`, the weight of each model's logit."""

    def __init__(self, models: Sequence[MultiLabelModel | OnnxTeacher | MappedTeacher], mirrored: bool) -> None:
        super().__init__()
        first = models[0]
        for other in models[1:]:
            other.labels.require_equal(first.labels, "a further teacher", "the first teacher")
            ours, theirs = first.preprocess, other.preprocess
            if (ours.size, ours.seen) != (theirs.size, theirs.seen):
                raise InputError(
                    f"teachers see pictures of {ours.size} px ({ours.seen}) and {theirs.size} px ({theirs.seen}); "
                    f"expected the same for all of an ensemble"
                )
        self.models, self.mirrored = nn.ModuleList(models), mirrored
        self.preprocess, self.labels = first.preprocess, first.labels
        has = torch.stack([known_of(model) for model in models])
        self.register_buffer("known", has.any(dim=0), persistent=False)
        self.register_buffer("single", torch.stack([single_of(model) for model in models]).all(dim=0), persistent=False)
        self.register_buffer("_shares", has / has.sum(dim=0).clamp(min=1), persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Turn uint8 RGB `[B, size, size, 3]` into logits `[B, C]` and label-wise embeddings `[B, C, sum of dims]`.

        If the models give label maps, those follow, averaged as the logits are.
        """
        logits, embeddings, *maps = zip(*(self._views(model, images) for model in self.models), strict=True)
        averaged = ((torch.stack(one) * self._shares[:, None, :, None]).sum(dim=0) for one in maps)
        return (torch.stack(logits) * self._shares[:, None]).sum(dim=0), torch.cat(embeddings, dim=2), *averaged

    def logits(self, images: Tensor) -> Tensor:
        """Turn uint8 RGB `[B, size, size, 3]` into logits `[B, C]`."""
        return self(images)[0]

    @property
    def embedding_dim(self) -> int:
        """Width of the label-wise embeddings of all models together."""
        return sum(model.embedding_dim for model in self.models)

    def _views(self, model: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
        if not self.mirrored:
            return model(images)
        other_logits, other_embeddings, *other_maps = model(images.flip(2))
        logits, embeddings, *maps = model(images)  # it is last because taps keep the features of the last pass
        both = ((one + mirrored(other)) / 2 for one, other in zip(maps, other_maps, strict=True))
        return (logits + other_logits) / 2, (embeddings + other_embeddings) / 2, *both


AnyTeacher: TypeAlias = MultiLabelModel | OnnxTeacher | MappedTeacher | Ensemble
"""Any model that returns logits and label-wise embeddings of pictures."""


def map_labels(model: AnyTeacher) -> int:
    """Let a teacher return label maps from now on; returns the places on each side of the coarsest one's map.

    Raises:
        InputError: it has none.
    """
    inner = [one for one in model.modules() if isinstance(one, MultiLabelModel)]
    for one in inner:
        one.map_labels()
    return min(one.map_side for one in inner)


def known_of(model: AnyTeacher) -> Tensor:
    """bool `[C]`, the labels that a model has: all of its own, unless it is mapped to others."""
    return model.known if isinstance(model, MappedTeacher | Ensemble) else torch.ones(len(model.labels)).bool()


def single_of(model: AnyTeacher) -> Tensor:
    """bool `[C]`, the labels for which a model has an embedding of their own."""
    return model.single if isinstance(model, MappedTeacher | Ensemble) else torch.ones(len(model.labels)).bool()


class LiveTeacher:
    """The model itself, applied to the batch's `teacher_images`.

    Args:
        maps: whether it returns label maps.

    Raises:
        InputError: it has none.
    """

    def __init__(self, model: AnyTeacher, *, maps: bool = False) -> None:
        self.model = model.eval().requires_grad_(False)
        self.embedding_dim = model.embedding_dim
        self.map_side = map_labels(model) if maps else 0
        self._taps: FeatureTaps | None = None
        self._graph: OnnxTeacher | None = None

    def __call__(self, batch: Batch) -> tuple[Tensor, ...]:
        assert batch.teacher_images is not None
        with torch.no_grad():
            return self.model(batch.teacher_images)

    def tap(self, most: int = TAPS) -> list[int]:
        """Tap the backbone (of an ensemble's first model); returns the widths of its maps, from shallow to deep.

        Args:
            most: how many maps at most, the deepest; of an ONNX graph they are all that are named.
        """
        model = _first_of(self.model)
        if isinstance(model, OnnxTeacher):
            self._graph = model
            return list(model.map_channels)
        assert isinstance(model, MultiLabelModel)
        count = max(1, min(most, len(stages_of(model.backbone))))
        self._taps = FeatureTaps(model.backbone, count, size=model.config.size)
        return self._taps.channels()

    def remember(self) -> tuple[int, int]:
        """Let the first model keep what its head reads from now on; returns its width and its number of places."""
        model = _first_of(self.model)
        assert isinstance(model, MultiLabelModel)
        model.keeps_memory = True
        return model.memory_dim, model.positions

    def memory(self) -> Tensor:
        """Return what the first model's head read of the last batch, `[B, S, width]`; see `remember`."""
        model = _first_of(self.model)
        assert isinstance(model, MultiLabelModel)
        return model.take_memory()

    def features(self) -> Features:
        """Return the features of the last batch; `tap` must be called before."""
        if self._graph is not None:
            return self._graph.features()
        assert self._taps is not None
        return self._taps.take()

    def close(self) -> None:
        """Look inside no more: remove the taps, and keep no memory."""
        if self._taps is not None:
            self._taps.close()
            self._taps = None
        if isinstance(first := _first_of(self.model), MultiLabelModel):
            first.keeps_memory = False


def _first_of(model: AnyTeacher) -> MultiLabelModel | OnnxTeacher:
    """The model itself, or an ensemble's first one."""
    first = model.models[0] if isinstance(model, Ensemble) else model
    return first.model if isinstance(first, MappedTeacher) else first
