"""Keep: which of a teacher's answers are kept on the disk beside its logits, for a student and for those after it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from edgepress.compress.config import DistillConfig
from edgepress.compress.methods import ON_FEATURE_MAPS, ON_MEMORY, ON_POOLED


@dataclass(frozen=True, kw_only=True)
class Keep:
    """What is kept. Every field but the logits' is off where no student needs it, because it takes more room."""

    embeddings: bool = False
    """Label-wise embeddings, of the labels that a picture has."""
    label_maps: bool = False
    """Scores of labels in regions."""
    memory: bool = False
    """What the teacher's head reads."""
    feature_maps: bool = False
    """Maps inside its backbone."""
    pooled: bool = False
    """The mean of its backbone's last features."""

    @classmethod
    def for_students(cls, configs: Iterable[DistillConfig]) -> Keep:
        """What the students with these settings need; one whose teacher runs beside it needs nothing.

        Example:
            >>> Keep.for_students([DistillConfig(cd=1.0), DistillConfig(simkd=4.0, variations=8)])
            Keep(embeddings=True, label_maps=False, memory=True, feature_maps=False, pooled=False)
        """
        needs = [_needs(config) for config in configs if not config.asks_each_step]
        return cls(**{field.name: any(getattr(one, field.name) for one in needs) for field in fields(cls)})

    @property
    def inside(self) -> bool:
        """Whether something is kept that lies between the pixels and the head's answers."""
        return self.memory or self.feature_maps or self.pooled

    def __or__(self, other: Keep) -> Keep:
        """What either keeps."""
        return Keep(**{field.name: getattr(self, field.name) or getattr(other, field.name) for field in fields(self)})


def _needs(config: DistillConfig) -> Keep:
    return Keep(
        embeddings=config.compares_embeddings,
        label_maps=config.compares_maps,
        memory=any(getattr(config, name) for name in ON_MEMORY),
        feature_maps=any(getattr(config, name) for name in ON_FEATURE_MAPS),
        pooled=any(getattr(config, name) for name in ON_POOLED),
    )
