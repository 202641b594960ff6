"""A search within a time budget: what is begun, what is not, and that an interrupted search ends the same."""

from __future__ import annotations

import time

import pytest

from edgepress.compress.config import DistillConfig
from edgepress.multilabel.errors import InputError
from edgepress.run.budgeted import BudgetedSearch, Pace, require_time, shown
from edgepress.run.search_space import Choice, space_of
from edgepress.run.trials import best
from tests.edgepress.run.trainer import Trainer, trials_in

AGES = 1e6
"""Seconds that no test takes."""


@pytest.fixture
def base(micro):
    return DistillConfig.parse({**micro["distill"], "preset": "alone", "epochs": 2}, "test")


def pace(seconds=0.001, steps=3):
    return Pace(step_seconds=lambda config: seconds * config.size, steps=steps)


def search(folder, trainer, base, budget, most=None):
    return BudgetedSearch(trials_in(folder, trainer, base), space_of(base), pace(), budget, most)


def last(steps):
    return list(steps)[-1]


def test_an_interrupted_search_ends_with_the_same_best_trial(splits, base, tmp_path):
    trainer = Trainer(splits)
    made = last(search(tmp_path / "whole", trainer, base, AGES, most=4).run())
    assert trainer.epochs == [1, 1, 1, 2, 1, 2]  # of three short ones the best goes on; the fourth leaves room for one
    assert sorted(one.state for one in made) == ["finished", "finished", "pruned", "pruned"]
    folder = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        last(search(folder, Trainer(splits, stop_before=4), base, AGES, most=4).run())
    trainer = Trainer(splits)
    again = search(folder, trainer, base, AGES, most=4)
    resumed = last(again.run())
    assert trainer.epochs == [1, 2]
    results = [[(one.number, one.settings, one.state, one.val_mAP) for one in trials] for trials in (made, resumed)]
    assert results[0] == results[1]
    assert best(resumed).number == best(made).number
    first = [training.seconds for one in made[:3] for training in one.trainings]
    assert again.earlier == pytest.approx(sum(first), rel=0.9)  # of other trainings with the same settings


def test_the_budget_is_kept_and_used(splits, base, tmp_path):
    pytest.importorskip("optuna", reason="optuna is not installed; it proposes what is tried after the first points")
    budget = 3.0
    started = time.perf_counter()
    made = last(search(tmp_path, Trainer(splits), base, budget).run())
    took = time.perf_counter() - started
    longest = max(sum(one.seconds for one in trial.trainings) for trial in made)
    assert took <= 1.1 * budget + longest  # a machine that others use may slow the last trial
    assert took >= budget - 3 * longest - 0.1  # what was left had no room for another trial
    assert any(one.state == "finished" for one in made)


def test_what_was_spent_before_is_spent(splits, base, tmp_path):
    last(search(tmp_path, Trainer(splits), base, AGES, most=1).run())
    again = search(tmp_path, Trainer(splits, stop_before=0), base, 0.001, most=9)
    assert [one.state for one in last(again.run())] == ["finished"]  # which takes no time any more, and nothing new
    assert again.earlier > 0.001


def test_settings_that_are_proposed_again_are_spent_once(splits, base, tmp_path):
    only = (Choice(name="size", own=base.size, values=(base.size,)),)
    base = base.model_copy(update={"epochs": 1})

    def searched(trainer):
        made = BudgetedSearch(trials_in(tmp_path, trainer, base), only, pace(), AGES, 3)
        return made, last(made.run())

    trainer = Trainer(splits)
    first, trials = searched(trainer)
    assert (trainer.epochs, len(trials), first.earlier) == ([1], 3, 0)  # its seconds are in the call's own time
    again, trials = searched(Trainer(splits, stop_before=0))
    assert again.earlier == trials[0].trainings[0].seconds > 0


def test_one_trial_is_begun_and_no_more_where_it_takes_longer_than_was_thought(splits, base, tmp_path):
    trainer = Trainer(splits)
    made = last(search(tmp_path, trainer, base, 1e-9).run())
    assert [one.state for one in made] == ["pruned"]
    assert trainer.epochs == [1]
    assert best(made).number == 0


def test_a_student_that_was_not_trained_yet_is_judged_by_its_step(base):
    known = pace()
    assert known.seconds(base) == pytest.approx(2 * 3 * 0.064)  # 2 epochs of 3 steps: the least
    known.learn(base, 10.0)
    assert known.seconds(base) == 10
    larger, smaller = (base.model_copy(update={"size": size}) for size in (128, 32))
    assert known.seconds(larger) == pytest.approx(20)  # twice the step
    assert known.seconds(smaller) == pytest.approx(10)  # a teacher may take most of it
    known.learn(base.model_copy(update={"epochs": 1}), 6.0)
    known.learn(base.model_copy(update={"epochs": 1}), 2.0)
    assert known.seconds(base) == 12  # the slowest counts


def test_epochs_in_which_the_teacher_answers_take_longer(base):
    known = pace()
    one, two, eight = (base.model_copy(update={"epochs": epochs}) for epochs in (1, 2, 8))
    known.learn(one, 9.0)  # the teacher answers for the first epoch
    known.learn(one, 2.0)
    assert known.seconds(one) == 2
    assert known.seconds(two) == 2 + 9  # and would for the second
    assert known.seconds(eight.model_copy(update={"variations": 3})) == 6 * 2 + 2 * 9
    known.learn(two, 10.0)
    assert known.seconds(two) == 4


def test_a_budget_without_room_for_a_trial_is_refused(base):
    require_time(pace(), base, 1.0)
    with pytest.raises(InputError, match=r"budget 0.5 s: one trial takes at least 0.576 s here \(3 epochs of 3 steps"):
        require_time(pace(), base, 0.5)


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.25, "0.25 s"), (60, "1 min"), (61, "1 min 1 s"), (5400, "1 h 30 min"), (7261, "2 h 1 min")]
)
def test_a_duration_in_words(seconds, said):
    assert shown(seconds) == said
