"""The gate on decisions: how far an engine's yes and no may be from those of the model it came from.

Both answer by the bundle's calibrated probabilities and thresholds, the engine by its own, so what is compared is what
`predict` prints. Four numbers are bounded: flips per predicted positive, net flips per predicted positive, the drop of
OF1 and CF1, and the worst label's drop of recall and of precision. `docs/verify.md` argues for each and for its
defaults; `benchmarks/decision_gate.py` measures what they let pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from edgepress.deploy.verify.label_tallies import LabelTallies
from edgepress.multilabel.confidence import LEVEL, moved, rounded_up
from edgepress.multilabel.errors import InputError, shown
from edgepress.multilabel.judgement import Reason
from edgepress.multilabel.manifest import Precision
from edgepress.multilabel.plural import plural

FEW = 10
"""A label with fewer positives, or fewer predicted positives, is left out of the worst label and named."""
ENOUGH = 100
"""A label with this many positives (for precision, predicted positives) must be proven within the bound. With fewer, it
stops an engine only where its drop is beyond the bound and is not chance."""

REMEDY = "give more test pictures, or allow more"
"""What proves an engine that is unproven."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What the decisions of an engine may lose; see `BOUNDS`.

    Raises:
        InputError: a bound is negative or not finite; names it.
    """

    flips: float
    """Decisions that change, per predicted positive of the reference."""
    net_flips: float
    """How many more or fewer times it answers yes, per predicted positive of the reference."""
    f1_drop: float
    """Points of OF1, and of CF1."""
    label_drop: float
    """Points of any one label's recall, and of its precision."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value < float("inf"):
                raise InputError(f"{name} is {value}; expected a number of at least 0")

    def override(self, **given: float | None) -> Bounds:
        """The same bounds, with those that are given."""
        return replace(self, **{name: value for name, value in given.items() if value is not None})


BOUNDS: dict[Precision, Bounds] = {
    "fp32": Bounds(flips=0.01, net_flips=0.01, f1_drop=0.1, label_drop=2.0),
    "fp16": Bounds(flips=0.04, net_flips=0.02, f1_drop=0.5, label_drop=4.0),
    "int8": Bounds(flips=0.2, net_flips=0.1, f1_drop=2.0, label_drop=12.0),
}
"""The bounds by precision."""


class Bounded(BaseModel):
    """A number, its 95 % interval over pictures, and the most that is allowed."""

    model_config = ConfigDict(frozen=True)

    value: float
    low: float | None
    """Lower end; None of fewer than 10 pictures."""
    high: float | None
    allowed: float


class LabelDrop(BaseModel):
    """What one label loses in recall or in precision, in points."""

    model_config = ConfigDict(frozen=True)

    label: str
    measure: Literal["recall", "precision"]
    drop: float
    low: float
    """No label's drop is below its own `low` in 97.5 % of all test sets: corrected for looking at all labels."""
    high: float
    """Upper end of this label's own 95 % interval. To prove that every label is within a bound, it needs no correction,
    because all must be (an intersection-union test: Berger 1982)."""
    count: int
    """Number of positives; for precision, of the reference's predicted positives."""
    found: Literal["within", "few", "unproven", "beyond"]
    """`few`: fewer than `ENOUGH`, and nothing speaks against it."""


class DecisionGate(BaseModel):
    """How an engine's decisions differ from its reference's on labelled pictures, and what is allowed."""

    model_config = ConfigDict(frozen=True)

    predicted_positives: int
    """How often the reference answers yes."""
    flips: Bounded
    net_flips: Bounded
    """Above 0, the engine answers yes more often; `allowed` bounds its size."""
    OF1_drop: Bounded
    """In points, as is CF1's."""
    CF1_drop: Bounded
    labels: tuple[LabelDrop, ...]
    """The label with the largest `low` for recall and for precision, and every label that is beyond or unproven."""
    allowed_label_drop: float
    labels_proven: int
    """Number of labels with `ENOUGH` positives and predicted positives."""
    few: tuple[str, ...]
    """The labels with fewer, of which a drop is not ruled out."""

    def reasons(self, remedy: str = REMEDY) -> list[Reason]:
        """What speaks against the engine: what is beyond its bound, and what is not proven to be within.

        Args:
            remedy: what to do about the latter, in words.
        """
        found = [*self._overall(remedy), *self._labels(remedy)]
        return sorted(found, key=lambda reason: reason.kind == "interval")

    def caution(self) -> str | None:
        """Which labels have too few pictures for a drop of their recall or precision to be ruled out, or that the
        reference answers nothing; None if neither is so."""
        if not self.predicted_positives:
            return (
                "the reference answers yes to no label of any picture, so equal decisions prove nothing: fit "
                "thresholds (edgepress calibrate), or give pictures that have the labels"
            )
        if not self.few:
            return None
        said = (
            f"{len(self.few)} of {self.labels_proven + len(self.few)} labels have fewer than {ENOUGH} positives or "
            f"predicted positives, so only a large drop of their recall or precision is found: {shown(self.few)}"
        )
        beyond = [
            f"{one.label} loses {one.drop:.1f} points of {one.measure} on {one.count}"
            for one in self.labels
            if one.found == "few" and one.drop > self.allowed_label_drop
        ]
        if not beyond:
            return said
        return f"{said}; more than the allowed {self.allowed_label_drop:g} may be chance there: {', '.join(beyond)}"

    def _overall(self, remedy: str) -> Iterator[Reason]:
        of_yes = f"(of {plural(self.predicted_positives, 'predicted positive')})"
        net = self.net_flips.value
        way = "fewer" if round(net, 3) < 0 else "more"
        at = "(at the bundle's thresholds)"
        rows = (
            (self.flips, "share", f"{self.flips.value:.3f} decisions changed per predicted positive {of_yes}"),
            (self.net_flips, "share", f"{abs(net):.3f} {way} predicted positives, as a share {of_yes}"),
            (self.OF1_drop, "drop", f"OF1 {moved(self.OF1_drop.value)} {at}"),
            (self.CF1_drop, "drop", f"CF1 {moved(self.CF1_drop.value)} {at}"),
        )
        for one, what, said in rows:
            signed = one is self.net_flips  # fewer are bounded as more are
            size = abs(one.value) if signed else one.value
            ends = [] if one.low is None or one.high is None else [one.high, *([-one.low] if signed else [])]
            if size > one.allowed:
                yield Reason(kind="decisions", text=f"{said}; {one.allowed:g} is allowed")
            elif ends and (most := max(ends)) > one.allowed:
                beyond = f"the true {what} may be up to {rounded_up(most):g} (95 %), beyond the allowed {one.allowed:g}"
                yield Reason(kind="interval", text=f"{said}, which is allowed, but {beyond}: {remedy}")

    def _labels(self, remedy: str) -> Iterator[Reason]:
        for one in self.labels:
            counted = "positive" if one.measure == "recall" else "predicted positive"
            allowed = f"{self.allowed_label_drop:g}"
            said = f"{one.label}: its {one.measure} {moved(one.drop, 1)} on {plural(one.count, counted)}"
            if one.found == "beyond":
                least = f"the true drop is at least {one.low:.1f} (95 %, among all labels)"
                yield Reason(kind="decisions", text=f"{said}; {allowed} are allowed, and {least}")
            elif one.found == "unproven" and one.drop > self.allowed_label_drop:
                may = f"the true drop may be within it ({one.low:.1f} to {one.high:.1f}, 95 %)"
                yield Reason(kind="interval", text=f"{said}, more than the allowed {allowed}, but {may}: {remedy}")
            elif one.found == "unproven":
                may = f"the true drop may be up to {rounded_up(one.high, 1):g} (95 %), beyond the allowed {allowed}"
                yield Reason(kind="interval", text=f"{said}, which is allowed, but {may}: {remedy}")


def measure_gate(
    before: np.ndarray,
    after: np.ndarray,
    targets: np.ndarray,
    ignore: np.ndarray,
    names: tuple[str, ...],
    bounds: Bounds,
    counts: np.ndarray | None,
) -> DecisionGate:
    """Compare decisions with the reference's on labelled pictures.

    The intervals are a paired percentile bootstrap over pictures (see `multilabel.confidence`). The worst label's lower
    end is a max-statistic bootstrap (Romano and Wolf 2005, with standard errors held at the sample's): the 97.5 %
    quantile of the largest standardised deviation of all labels replaces that of one.

    Args:
        before: the reference's decisions, bool `[N, C]`, like those of the engine, targets and ignore.
        counts: how often each picture is in each resample, int16 `[N, R]`; None for no intervals.
    """
    found = LabelTallies.of(before, after, targets, ignore, counts)
    judged = [*_label_drops(found, names, bounds.label_drop, "recall")]
    judged += _label_drops(found, names, bounds.label_drop, "precision")
    told = [one for one in judged if one.found in ("unproven", "beyond")]
    for measure in ("recall", "precision"):
        some = [one for one in judged if one.measure == measure]
        told += [one for one in sorted(some, key=lambda one: -one.low)[:1] if one not in told]
    enough = (found.positives >= ENOUGH) & (found.predicted >= ENOUGH)
    flips, net, of1, cf1 = found.overall()
    return DecisionGate(
        predicted_positives=int(found.predicted.sum()),
        flips=_bounded(flips, bounds.flips),
        net_flips=_bounded(net, bounds.net_flips),
        OF1_drop=_bounded(of1, bounds.f1_drop),
        CF1_drop=_bounded(cf1, bounds.f1_drop),
        labels=tuple(told),
        allowed_label_drop=bounds.label_drop,
        labels_proven=int(enough.sum()),
        few=tuple(name for name, known in zip(names, enough, strict=True) if not known),
    )


def _bounded(measured: tuple[float, np.ndarray | None], allowed: float) -> Bounded:
    value, drawn = measured
    if drawn is None:
        return Bounded(value=value, low=None, high=None, allowed=allowed)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Bounded(value=value, low=float(low), high=float(high), allowed=allowed)


def _label_drops(
    found: LabelTallies, names: tuple[str, ...], allowed: float, measure: Literal["recall", "precision"]
) -> Iterator[LabelDrop]:
    measured = found.drops(measure, FEW)
    if measured is None:
        return
    two_sided = 1.959964
    for place, column in enumerate(measured.columns):
        drop, error = measured.drop[place], measured.error[place]
        low, high = drop - measured.critical * error, drop + two_sided * error
        count = int((found.positives if measure == "recall" else found.predicted)[column])
        kind: Literal["within", "few", "unproven", "beyond"]
        if low > allowed:
            kind = "beyond"
        elif (count >= ENOUGH and high > allowed) or (drop > allowed and low > 0):
            kind = "unproven"
        else:
            kind = "within" if count >= ENOUGH else "few"
        yield LabelDrop(
            label=names[column],
            measure=measure,
            drop=float(drop),
            low=float(low),
            high=float(high),
            count=count,
            found=kind,
        )
