"""Ratio: one latency as a multiple of another, with its 95 % interval; every such comparison has this form."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Ratio(BaseModel):
    """How long one thing takes as a multiple of another; below 1 it is the faster.

    Example:
        >>> str(Ratio(ratio=0.42, low=0.4, high=0.45))
        '0.42 times, 0.40 to 0.45'
    """

    model_config = ConfigDict(frozen=True)

    ratio: float
    low: float | None = None
    """Lower end of the 95 % interval; None where there were too few measurements for one."""
    high: float | None = None
    """Upper end of the 95 % interval; None where there were too few measurements for one."""
    cautions: tuple[str, ...] = ()
    """What disturbed the machine while the two were measured in turn."""

    def slower(self, beyond: float = 1.0) -> bool:
        """Whether it is slower by more than the factor `beyond`, and not merely by chance."""
        return self.low is not None and self.low > beyond

    def slower_by_disturbance(self, beyond: float = 1.0) -> bool:
        """Whether it is slower, and may be so because the machine was disturbed: then it is worth a second timing."""
        return self.slower(beyond) and bool(self.cautions)

    def slower_than(self, other: Ratio) -> bool:
        """Whether this ratio is slower than another ratio to the same thing, with intervals that do not overlap."""
        return self.low is not None and other.high is not None and self.low > other.high

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.ratio:.2f} times"
        return f"{self.ratio:.2f} times, {self.low:.2f} to {self.high:.2f}"
