"""Trials of one method: halving, the journal, and a search that was killed and goes on."""

from __future__ import annotations

import pytest

from edgepress.compress.config import DistillConfig
from edgepress.compress.distill import distill
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import InputError
from edgepress.run.trials import Journal, best, with_settings
from tests.edgepress.run.trainer import Trainer, trials_in

COUNT = 3


@pytest.fixture
def base(micro):
    return DistillConfig.parse({**micro["distill"], "preset": "alone", "epochs": 2}, "test")


def test_the_best_of_short_trainings_go_on_and_a_killed_search_ends_the_same(splits, base, tmp_path):
    trainer = Trainer(splits)
    whole = trials_in(tmp_path / "whole", trainer, base)
    made = whole.tune(COUNT)
    assert trainer.epochs == [1, 1, 1, 2]  # a third of the epochs, and then all for a third of the trials
    short = sorted(made, key=lambda one: (-one.trainings[0].val_mAP, one.number))
    assert [one.number for one in made if one.state == "finished"] == [short[0].number]
    assert [len(one.trainings) for one in short] == [2, 1, 1]
    assert best(made) == short[0]
    assert made[0].settings == {"lr": base.lr}

    folder = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        trials_in(folder, Trainer(splits, stop_before=2), base).tune(COUNT)
    (folder / "journal.jsonl").open("a").write('{"inputs": "half a li')  # the line that it was writing
    trainer = Trainer(splits)
    again = trials_in(folder, trainer, base)
    resumed = again.tune(COUNT)
    assert trainer.epochs == [1, 2]
    assert [(one.settings, one.state) for one in resumed] == [(one.settings, one.state) for one in made]
    assert best(resumed).trainings[-1].val_mAP == best(made).trainings[-1].val_mAP

    # The chosen trial's student is kept in its place, and nothing is trained a third time.
    again.keep(best(resumed), tmp_path / "student")
    config = with_settings(base, best(resumed).settings)
    student = distill(splits.train, splits.val, None, config, tmp_path / "student")
    assert student.manifest.facts.val_mAP == best(resumed).trainings[-1].val_mAP
    assert sorted(path.name for path in folder.iterdir()) == ["journal.jsonl"]
    assert trials_in(folder, Trainer(splits, stop_before=0), base).tune(COUNT) == resumed


def test_a_student_takes_no_place_of_anything_else(splits, base, tmp_path):
    trials = trials_in(tmp_path / "trials", Trainer(splits), base.model_copy(update={"epochs": 1}))
    (made,) = trials.tune(1)
    own, notes = tmp_path / "own", tmp_path / "trials" / "alone" / "notes.txt"
    own.mkdir()
    for file in (own / "thesis.txt", notes):
        file.write_text("mine")
    (tmp_path / "link").symlink_to(own)
    with pytest.raises(InputError, match="own: a folder with other files in it"):
        trials.keep(made, own)
    with pytest.raises(InputError, match="link: is a link, and the chosen student would replace it"):
        trials.keep(made, tmp_path / "link")
    trials.keep(made, tmp_path / "student")
    assert Bundle.open(tmp_path / "student").manifest.role == "student"
    assert (own / "thesis.txt").read_text() == "mine"
    assert list(notes.parent.iterdir()) == [notes]  # the trials beside it are gone


def test_settings_whose_loss_is_not_finite_are_passed_over(splits, base, tmp_path):
    made = trials_in(tmp_path, Trainer(splits, diverge=(0,)), base).tune(2)
    assert [one.state for one in made] == ["diverged", "finished"]
    assert best(made).number == 1


def test_nothing_is_chosen_where_every_loss_is_not_finite(splits, base, tmp_path):
    with pytest.raises(InputError, match="method alone: the loss was not finite in 2 trials; give a lower lr"):
        trials_in(tmp_path, Trainer(splits, diverge=(0, 1)), base).tune(2)


def test_one_trial_is_the_method_itself_trained_once(splits, base, tmp_path):
    trainer = Trainer(splits)
    (made,) = trials_in(tmp_path, trainer, base).tune(1)
    assert (trainer.epochs, made.state, made.settings) == ([2], "finished", {"lr": base.lr})


def test_a_schedule_that_stops_early_stops_as_early_in_a_short_training(splits, base, tmp_path):
    early = base.model_copy(update={"epochs": 80, "stop_epoch": 30})
    trials = trials_in(tmp_path, Trainer(splits), early)
    made = [trials.config({"lr": 0.1}, epochs) for epochs in (trials.short, 80)]
    assert [(one.epochs, one.stop_epoch, one.epochs_trained, one.lr) for one in made] == [
        (27, 11, 11, 0.1),
        (80, 30, 30, 0.1),
    ]


def test_a_journal_that_somebody_changed_is_refused(tmp_path):
    (tmp_path / "journal.jsonl").write_text('{"inputs": 1}\n')
    with pytest.raises(InputError, match=r"journal.jsonl, line 1: no trial \(inputs"):
        Journal(tmp_path / "journal.jsonl")
