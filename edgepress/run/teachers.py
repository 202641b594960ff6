"""Finished teachers as the verbs take them: looked at, and matched with the data set, before anything is made."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgepress.calibration.decide.teacher_answers import calibrate_answers
from edgepress.compress.config import DistillConfig, TeacherOptions
from edgepress.compress.reading import Reading
from edgepress.multilabel.datasets import DataOptions, MultiLabelDataset

if TYPE_CHECKING:
    from edgepress.compress.teacher_sources import GivenTeacher

log = logging.getLogger("edgepress")


@dataclass(frozen=True)
class Teaching:
    """The finished teachers that were given, none of which is loaded yet, and how their answers are read."""

    given: tuple[GivenTeacher, ...]
    reading: Reading

    @classmethod
    def of(cls, options: TeacherOptions, data: str | Path, reader: DataOptions) -> Teaching:
        """Look at the teachers and read their maps of labels.

        Args:
            data, reader: the data set's folder and how it is read, for the command in a message.

        Raises:
            InputError: see `look_at_teacher` and `Reading.of`.
        """
        from edgepress.compress.teacher_sources import look_at_teacher

        given = tuple(look_at_teacher(Path(source), data, reader) for source in options.teacher)
        return cls(given, Reading.of(options, calibrate_answers))

    def fitted(self, config: DistillConfig) -> DistillConfig:
        """The settings with terms that the teachers can teach, if they name none; see `with_terms_for`."""
        from edgepress.compress.teachable import with_terms_for

        return with_terms_for(config, self.given, self.reading.features)

    def can_teach(self, config: DistillConfig) -> bool:
        """Whether the teachers have what the settings ask for."""
        from edgepress.compress.teachable import can_teach

        return can_teach(config, self.given, self.reading.features)

    def require(self, students: Iterable[DistillConfig], train: MultiLabelDataset) -> None:
        """Stop if the teachers cannot teach the students; say once which of their labels are the data set's.

        Raises:
            InputError: see `match_labels`, `require_teachable` and `StoredAnswers.rows`.
        """
        from edgepress.compress.teachable import require_teachable

        for match in self.reading.matches(self.given, train.labels):
            if match.told:
                log.info("%s", match.told)
        for config in students:
            require_teachable(config, self.given, self.reading.features)
        for teacher in self.given:
            if teacher.answers is not None:
                teacher.answers.rows(train)
