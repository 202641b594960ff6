"""Inside: what lies inside a teacher as one row of numbers per picture, which can be kept, and the way back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edgepress.compress.answer_files import MOST
from edgepress.compress.features import TAPS, Features, stages_of
from edgepress.compress.keep import Keep
from edgepress.compress.models import MultiLabelModel
from edgepress.compress.teacher import AnyTeacher, LiveTeacher


@dataclass(frozen=True)
class _Part:
    name: str
    shape: tuple[int, ...]

    @property
    def width(self) -> int:
        return math.prod(self.shape)


class Inside:
    """Reads what is kept of a teacher's inside after each of its passes, and takes rows of it apart again.

    Values are kept in half precision.

    Args:
        model: the teacher, on the CPU, which is tapped from now on; of an ensemble the first model.
        keep: at least one of its memory, feature maps and pooled features.
        student: the model that learns, which tells how many maps are compared.
    """

    def __init__(self, model: AnyTeacher, keep: Keep, student: MultiLabelModel) -> None:
        assert keep.inside
        self._live, self.keep = LiveTeacher(model), keep
        self.memory_dims = self._live.remember() if keep.memory else None
        self.channels: list[int] = []
        if keep.feature_maps or keep.pooled:
            self.channels = self._live.tap(most_taps(student))
        side = model.preprocess.size
        with torch.inference_mode():
            model(torch.zeros(1, side, side, 3, dtype=torch.uint8))
        self._parts = [_Part(name, tuple(values.shape[1:])) for name, values in self._values().items()]

    @property
    def width(self) -> int:
        """Number of values per picture."""
        return sum(part.width for part in self._parts)

    @property
    def identity(self) -> list[tuple[str, tuple[int, ...]]]:
        """What tells its rows apart from others: the parts' names and shapes."""
        return [(part.name, part.shape) for part in self._parts]

    def taken(self) -> np.ndarray:
        """float16 `[B, width]` of the teacher's last pass, once."""
        rows = torch.cat([values.flatten(1) for values in self._values().values()], dim=1)
        return rows.clamp(-MOST, MOST).to(torch.float16).cpu().numpy()

    def close(self) -> None:
        """Remove the taps; nothing more can be taken."""
        self._live.close()

    def memory(self, rows: Tensor) -> Tensor:
        """What the head read, float32 `[B, S, width]`, of rows float32 `[B, width of all]`."""
        return self._apart(rows)["memory"]

    def features(self, rows: Tensor) -> Features:
        """The feature maps, and the mean of the last features as their only token, of rows float32 `[B, width]`."""
        parts = self._apart(rows)
        maps = [values for name, values in parts.items() if name.startswith("map ")]
        return Features(parts.get("pooled", rows[:, :0])[:, None], maps)

    def _apart(self, rows: Tensor) -> dict[str, Tensor]:
        pieces = rows.split([part.width for part in self._parts], dim=1)
        return {part.name: piece.unflatten(1, part.shape) for part, piece in zip(self._parts, pieces, strict=True)}

    def _values(self) -> dict[str, Tensor]:
        """Of the teacher's last pass, float32 `[B, ...]` by name."""
        values: dict[str, Tensor] = {}
        if self.keep.memory:
            values["memory"] = self._live.memory().float()
        if self.channels:
            features = self._live.features()
            if self.keep.pooled:
                values["pooled"] = features.pooled().float()
            if self.keep.feature_maps:
                values |= {f"map {number}": maps.float() for number, maps in enumerate(features.maps)}
        return values


def most_taps(student: MultiLabelModel) -> int:
    """How many feature maps a student has for the terms that compare them."""
    return min(TAPS, len(stages_of(student.backbone)) or TAPS)
