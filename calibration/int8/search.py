"""The search for an INT8 graph: candidates ordered by their expected benefit, and the choice among them.

It is coordinate descent: a step changes one thing about the best graph so far, either how ranges are set or what was
done to the float model. Weights quantised per tensor are no candidate: in trials they cost mAP and ran no faster.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from edgepress.calibration.int8.finished import Finished
from edgepress.calibration.int8.progress import progress
from edgepress.calibration.int8.sensitivity import worst_within
from edgepress.multilabel.manifest import NodeNoise
from edgepress.multilabel.ratio import Ratio

log = logging.getLogger("edgepress")

TOLERANCE = 0.005
"""Differences of val mAP, in [0, 1], that are chance on a few hundred pictures."""
MOST_FLOAT = 0.10
"""Largest share of convolutions and matrix products that may stay in float."""
MOST_FLOAT_WEIGHTS = 0.05
"""Largest share of the weights that may stay in float, so that the file remains a third of fp32's."""
CHOSEN_BY = ("allowed drop and flips", "not slower than fp32", "latency", "noise of the logits")
"""What the choice among candidates goes by, in this order; a finished bundle was chosen by the same."""
SLOWER = 1.02
"""Multiple of fp32's time from which a graph counts as slower."""


class Candidate(NamedTuple):
    """An INT8 graph that can be made."""

    method: str
    """How ranges are set."""
    touches: tuple[str, ...] = ()
    """What is done to the float model before, in this order."""
    kept: tuple[str, ...] = ()
    """Nodes that are in float on purpose: those of the first step in every graph of a search."""

    def __str__(self) -> str:
        kept = f", {len(self.kept)} left in float" if self.kept else ""
        return ", ".join([self.method, *self.touches]) + kept


class Score(NamedTuple):
    """What a candidate reaches on val."""

    mAP: float
    """mAP in [0, 1]."""
    sqnr: float
    """Signal to quantisation noise of its logits against the fp32 model's, in dB."""
    flips: float
    """Decisions that differ from the fp32 model's, per decision of the fp32 model that says yes."""


class Allowed(NamedTuple):
    """What a candidate may lose on val."""

    drop: float
    """Of mAP, in [0, 1]."""
    flips: float
    """The most that `Score.flips` may be."""


class Trial(NamedTuple):
    """A candidate that was made and measured."""

    candidate: Candidate
    score: Score
    latency: Ratio | None
    """Latency; None for a target that does not run on this machine."""
    float_nodes: tuple[str, ...]
    """All convolutions and matrix products that are in float in its graph."""
    int8_share: float
    """Share of the multiply-accumulates that are in INT8."""
    file: Path


class Quantizer(Protocol):
    """What the search needs from a target."""

    steps: tuple[Candidate, ...]
    """Changes to the best so far, in order of benefit: a method, or one touch more (without a method). Nodes that the
    first leaves in float, because they would be slower in INT8, are in float in every graph."""
    products: list[str]
    weights: dict[str, int]
    """Number of constants in each product."""
    macs: dict[str, int]

    def write(self, out: Path, candidate: Candidate) -> bool:
        """Write a candidate's files; False if it would be the same graph as without its last touch."""

    def float_nodes(self, quantized: Path) -> tuple[str, ...]: ...

    def structure(self, quantized: Path) -> Hashable:
        """What latency depends on: graphs with the same structure take the same time."""

    def rank(self, method: str, advance: Callable[[], None]) -> list[NodeNoise]: ...


@dataclass(frozen=True, kw_only=True)
class Search:
    """What the search found."""

    best: Trial
    tried: list[Trial]
    planned: int
    """Number of candidates that would have been tried without a time limit."""
    sensitivity: list[NodeNoise]


class Searcher:
    """One search: it makes and measures candidates, and stores each when it is done.

    Args:
        name: name of the model file to make in each candidate's folder.
        evaluate: maps a model file to its score on val.
        measure: maps a model file to its latency; None for a target that does not run on this machine.
        float_map: the fp32 model's mAP in [0, 1] on val.
        allowed: what a graph may lose.
        finished: the store of candidates, including those of an interrupted search.
    """

    def __init__(
        self,
        quantizer: Quantizer,
        name: str,
        *,
        evaluate: Callable[[Path], Score],
        measure: Callable[[Path], Ratio] | None,
        float_map: float,
        allowed: Allowed,
        finished: Finished,
    ) -> None:
        self.quantizer, self.name, self.finished = quantizer, name, finished
        self.evaluate, self.measure = evaluate, measure
        self.float_map, self.allowed = float_map, allowed
        self.trials: list[Trial] = []
        self.timed: dict[Hashable, Ratio] = {}

    def run(self, time_limit: float, *, most_float: bool = False) -> Search:
        """Try candidates for `time_limit` seconds, then leave the worst nodes in float while none is allowed.

        The first candidate is tried in any case, and so are those with nodes in float, which are few.

        Args:
            most_float: leave as many nodes in float as a search may, and take that graph. Where the weights are random
                and a drop means nothing, this is the slowest graph that a search may end with.
        """
        started, planned = time.monotonic(), len(self.quantizer.steps)
        with progress("candidates", planned) as advance:
            for step in self.quantizer.steps:
                if self.trials and time.monotonic() - started > time_limit:
                    break
                self._try(self._changed(step))
                advance()
        if len(self.trials) < planned:
            log.info("  %d of %d candidates tried", len(self.trials), planned)
        with progress("sensitivity", len(self.quantizer.products)) as advance:
            ranked = self.quantizer.rank(self._promising().candidate.method, advance)
        slow = self.quantizer.steps[0].kept
        ranked_in_int8 = [noise for noise in ranked if noise.node not in slow]
        most, count = int(MOST_FLOAT * len(self.quantizer.products)), 1
        room = MOST_FLOAT_WEIGHTS * sum(self.quantizer.weights.values())
        if most_float:
            kept = worst_within(ranked, self.quantizer.weights, most, room)
            self._try(self._promising().candidate._replace(kept=kept))
            return Search(best=self.trials[-1], tried=self.trials, planned=planned, sensitivity=ranked)
        while not self.is_allowed(self._promising()) and count <= most:
            kept = worst_within(ranked_in_int8, self.quantizer.weights, count, room)
            self._try(self._promising().candidate._replace(kept=tuple(sorted({*slow, *kept}))))
            count *= 2
        return Search(best=self.chosen(), tried=self.trials, planned=planned, sensitivity=ranked)

    def drop(self, trial: Trial) -> float:
        """Loss of val mAP in [0, 1] against fp32."""
        return self.float_map - trial.score.mAP

    def is_allowed(self, trial: Trial) -> bool:
        """Whether it loses no more mAP than is allowed, and changes no more decisions: mAP does not see an answer that
        moves across its threshold with all others, and people ship answers."""
        return self.drop(trial) <= self.allowed.drop and trial.score.flips <= self.allowed.flips

    def least_noise(self, trials: list[Trial] | None = None) -> Trial:
        """Of the trials that are allowed, the one with the least noise in its logits.

        Their val mAPs do not order them: on a few hundred pictures a drop is mostly chance, and the noise of all logits
        is not. If none is allowed, it is the one with the fewest flips of those whose drop is; if no drop is allowed,
        mAP comes first, up to chance.
        """
        trials = self.trials if trials is None else trials
        near = [trial for trial in trials if self.is_allowed(trial)]
        if not near and (within := [trial for trial in trials if self.drop(trial) <= self.allowed.drop]):
            return min(within, key=lambda trial: (trial.score.flips, -trial.score.sqnr))
        if not near:
            highest = max(trial.score.mAP for trial in trials)
            near = [trial for trial in trials if trial.score.mAP >= highest - TOLERANCE]
        return max(near, key=lambda trial: (trial.score.sqnr, trial.score.mAP))

    def chosen(self) -> Trial:
        """The fastest trial that is allowed; among those that are as fast up to chance, the least noise decides.

        A graph that is slower than fp32 is only chosen if no other is allowed: both miss a gate then, and a wrong
        answer is worse than a late one.
        """
        allowed = [trial for trial in self.trials if self.is_allowed(trial)]
        return self._fastest(allowed or self.trials)

    def _promising(self) -> Trial:
        """What is allowed already or nearest to it among the graphs that are not slower than fp32: leaving nodes in
        float brings a graph nearer to fp32's answers, and never makes it faster than fp32."""
        return self._fastest(self.trials)

    def _fastest(self, trials: list[Trial]) -> Trial:
        trials = [t for t in trials if t.latency is None or not t.latency.slower(SLOWER)] or trials
        within = [trial for trial in trials if self.is_allowed(trial)]
        timed = [trial.latency for trial in within if trial.latency is not None]
        if timed:
            fastest = min(timed, key=lambda latency: latency.ratio)
            within = [t for t in within if t.latency is None or not t.latency.slower_than(fastest)]
        return self.least_noise(within or trials)

    def _changed(self, step: Candidate) -> Candidate:
        if not self.trials:
            return step
        best = self.least_noise().candidate
        return Candidate(step.method or best.method, (*best.touches, *step.touches), best.kept or step.kept)

    def _try(self, candidate: Candidate) -> None:
        if any(trial.candidate == candidate for trial in self.trials):
            return
        file = self.finished.folder_of(candidate) / self.name
        kept = self.finished.load(candidate)
        if kept is None:
            kept = self._make(candidate, file)
            self.finished.save(candidate, kept)
        if not kept:
            return
        latency = None if kept["latency"] is None else Ratio(**kept["latency"])
        if latency is not None:  # possibly of an interrupted search
            self.timed.setdefault(self.quantizer.structure(file), latency)
        trial = Trial(
            candidate,
            Score(*kept["score"]),
            latency,
            tuple(kept["float_nodes"]),
            kept["int8_share"],
            file,
        )
        self.trials.append(trial)
        log.info(
            "  %s: val mAP %.2f (fp32 %.2f), %.1f dB, flips %.3f%s",
            candidate,
            100 * trial.score.mAP,
            100 * self.float_map,
            trial.score.sqnr,
            trial.score.flips,
            "" if latency is None else f", {latency.ratio:.2f} times fp32's time",
        )

    def _make(self, candidate: Candidate, file: Path) -> dict[str, Any]:
        """Make and measure a candidate; empty if a touch changes nothing."""
        if not self.quantizer.write(file, candidate):
            log.info("  %s: nothing to change", candidate)
            return {}
        score, float_nodes = self.evaluate(file), self.quantizer.float_nodes(file)
        latency = None
        if self.measure is not None:
            structure = self.quantizer.structure(file)
            if structure not in self.timed:
                found = self.measure(file)
                # An engine fails as a whole because of it: what was chance does not occur twice.
                both = (found, self.measure(file)) if found.slower(SLOWER) else (found,)
                # The lower of the two is no better a witness where the other's interval has the limit in it.
                self.timed[structure] = timed = min(both, key=lambda latency: (latency.slower(SLOWER), latency.ratio))
                for caution in timed.cautions:
                    log.warning("  %s, its time: %s", candidate, caution)
            latency = self.timed[structure]
        products, macs = self.quantizer.products, self.quantizer.macs
        share = sum(macs[name] for name in products if name not in float_nodes) / sum(macs.values())
        return {
            "score": score,
            "latency": None if latency is None else latency.model_dump(),
            "float_nodes": float_nodes,
            "int8_share": share,
        }
