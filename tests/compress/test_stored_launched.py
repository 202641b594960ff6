"""distill with stored answers in two processes that are told what a launcher tells: one student, and no other one."""

from __future__ import annotations

from edgepress.multilabel.bundle import Bundle
from tests.launched import EPOCHS, answers_of, arguments_of


def test_two_processes_make_one_student(distilled_in_two):
    assert distilled_in_two.stdout.split() == [str(distilled_in_two.student)]  # one process prints
    history = Bundle.open(distilled_in_two.student).manifest.facts.history
    assert len(history) == EPOCHS
    assert all(entry.terms["dist"] > 0 for entry in history)


def test_two_processes_stop_together(forks, tiny_data, tmp_path):
    answers = answers_of(tiny_data, tmp_path / "answers.npz", without=3)
    done = forks.run(["edgepress", *arguments_of(tiny_data, answers.path, tmp_path / "student")], processes=2)
    assert 0 not in done.codes
    assert "answers for 21 of 24 pictures of 'train'" in done.err
    assert not (tmp_path / "student").exists()
