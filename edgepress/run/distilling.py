"""What the students and trials of one run are trained with: the same pictures, teachers and kept answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgepress.compress.config import DistillConfig
from edgepress.compress.keep import Keep
from edgepress.compress.reading import Reading, TeacherSource
from edgepress.multilabel.bundle import Bundle
from edgepress.run.splits import Splits
from edgepress.run.trials import JOURNAL, Journal, Trials


@dataclass(frozen=True)
class Distilling:
    """Distils students of one data set under the same teachers."""

    splits: Splits
    teachers: tuple[TeacherSource, ...]
    reading: Reading
    out: Path
    """The run's folder; the teachers' answers are kept in it for all students."""
    keep: Keep
    """What is kept of the answers, because one of the students needs it."""

    def distil(self, config: DistillConfig, folder: Path) -> Bundle:
        """A student with these settings; one that is finished is not made again. See `distill`."""
        from edgepress.compress.distill import distill

        first, *others = self.teachers
        return distill(
            *(self.splits.train, self.splits.val, first, config, folder, self.out / "cache"),
            ensemble=others,
            reading=self.reading,
            keep=self.keep,
        )

    def trials(self, method: str, base: DistillConfig) -> Trials:
        """The trials of a method, in the folder `trials` of the run.

        Raises:
            InputError: see `material_for` and `Journal`.
        """
        from edgepress.compress.distill import inputs_of
        from edgepress.compress.material import material_for

        folder = self.out / "trials"
        given = self.splits.train, self.splits.val, base, folder / method / "0", self.teachers, self.reading
        material = material_for("student", *given)
        return Trials(
            method=method,
            base=base,
            folder=folder,
            journal=Journal(folder / JOURNAL),
            distil=self.distil,
            inputs=lambda config: inputs_of("student", material, config),
        )
