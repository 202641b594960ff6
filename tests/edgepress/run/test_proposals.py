"""What is proposed next follows from the trials so far, and learns from them."""

from __future__ import annotations

import math

import pytest

from edgepress.compress.config import DistillConfig
from edgepress.run.proposals import FIRST, propose
from edgepress.run.search_space import Choice, space_of, spread
from edgepress.run.trials import Trial, TrialTraining

SPACE = (*space_of(DistillConfig(review_kd=0.0, mld=4.0, lr=0.002)), Choice(name="size", own=64, values=(64, 96)))


def tried(settings, number=0):
    """A trial that is the better the nearer its rate is to 0.004, and better with 96 px."""
    value = (
        None
        if settings["mld"] > 30
        else 0.5 - 0.1 * abs(math.log(settings["lr"] / 0.004)) + (settings["size"] - 96) / 200
    )
    training = TrialTraining(inputs="", epochs=1, val_mAP=value, best_epoch=1, seconds=1.0)
    return Trial(method="m", number=number, settings=settings, trainings=(training,))


def test_the_first_are_spread():
    trials = []
    for number in range(FIRST):
        trials.append(tried(propose(SPACE, trials, seed=0), number))
    assert [one.settings for one in trials] == spread(SPACE, FIRST)


def test_then_they_follow_from_the_trials_alone_and_are_better():
    pytest.importorskip("optuna", reason="optuna is not installed; it proposes what is tried after the first points")
    trials = [tried(settings) for settings in spread(SPACE, FIRST)]
    for _ in range(24):
        proposed = propose(SPACE, trials, seed=0)
        assert proposed == propose(SPACE, trials, seed=0)
        for one in SPACE[:2]:
            assert one.low <= proposed[one.name] <= one.high
        trials.append(tried(proposed))
    rates = [abs(math.log(one.settings["lr"] / 0.004)) for one in trials]
    assert sum(rates[-12:]) / 12 < 0.6 * sum(rates[:FIRST]) / FIRST
    assert sum(one.settings["size"] == 96 for one in trials[-12:]) >= 9
