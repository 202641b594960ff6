"""Reading: how the answers of finished teachers are read, and which of them are believed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np

from edgepress.compress.config import TeacherCalibration, TeacherOptions, Weak
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.decisions import FittedAnswers
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.label_map import LabelMap, LabelMatch, match_labels
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.stored_answers import StoredAnswers

Calibrate = Callable[[np.ndarray, np.ndarray, np.ndarray, TeacherCalibration], FittedAnswers]
"""Fits a calibrator of logits `[N, C]` to targets `[N, C]`, without the cells of a mask `[N, C]`."""


TeacherSource: TypeAlias = Bundle | StoredAnswers
"""A finished teacher: its model, or its answers."""


class Given(Protocol):
    """A finished teacher: a bundle, a file of answers, or a path that somebody looked at."""

    @property
    def path(self) -> Path: ...
    @property
    def kind(self) -> str: ...
    @property
    def labels(self) -> LabelSpace: ...


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How answers are read; by default as they are, with labels matched by name.

    Calibration is fitted by `calibrate`, which another room of the package provides.
    """

    maps: tuple[LabelMap, ...] = ()
    """One per teacher, in their order; none where names are equal."""
    features: tuple[str, ...] = ()
    """Tensors in the graph of the first teacher, an ONNX bundle, that it teaches by."""
    calibration: TeacherCalibration = "none"
    weak: Weak = "keep"
    calibrate: Calibrate | None = None

    @classmethod
    def of(cls, options: TeacherOptions, calibrate: Calibrate) -> Reading:
        """Read the files that the settings name.

        Raises:
            InputError: a map cannot be read, or there are not as many maps as teachers.
        """
        maps = tuple(LabelMap.read(Path(path)) for path in options.teacher_labels)
        if maps and len(maps) != len(options.teacher):
            raise InputError(
                f"teacher_labels: {len(maps)} maps of labels for {len(options.teacher)} teachers; expected one for each"
            )
        return cls(
            maps=maps,
            features=options.teacher_features,
            calibration=options.teacher_calibration,
            weak=options.teacher_weak,
            calibrate=calibrate,
        )

    @property
    def identity(self) -> dict[str, object]:
        """What decides how answers are read, for a hash."""
        return {
            "maps": [{name: [taken.names, taken.combine] for name, taken in one.entries.items()} for one in self.maps],
            "features": self.features,
            "calibration": self.calibration,
            "weak": self.weak,
        }

    def matches(self, teachers: Sequence[Given], labels: LabelSpace) -> tuple[LabelMatch, ...]:
        """Find each teacher's labels for those of the data set.

        Raises:
            InputError: as for `match_labels`.
        """
        maps = self.maps or (None,) * len(teachers)
        return tuple(
            match_labels(labels, teacher.labels, given, f"the teacher {teacher.path}")
            for teacher, given in zip(teachers, maps, strict=True)
        )
