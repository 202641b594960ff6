"""Several processes: what they learn together is what one learns from the whole batch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.stored_answers import write_answers

PROGRAM = Path(__file__).with_name("fit_in_processes.py")


@pytest.fixture(scope="module")
def learn(forks):
    def learn(
        data: Path, out: Path, batch_size: int, processes: int, answers: Path | None = None
    ) -> tuple[list[dict], dict]:
        program = [PROGRAM, data, out, batch_size, *([] if answers is None else [answers])]
        done = forks.run(program, processes=processes)
        assert done.codes == [0] * processes, done.err[-3000:]
        return json.loads((out / "history.json").read_text()), load_file(out / "model.safetensors")

    return learn


@pytest.fixture(scope="module")
def alone(learn, tiny_data, tmp_path_factory):
    return learn(tiny_data, tmp_path_factory.mktemp("one") / "out", batch_size=8, processes=1)


def test_two_processes_learn_what_one_learns_from_the_whole_batch(learn, tiny_data, tmp_path, alone):
    """Every term, its groups, val mAP and the final weights; ignored cells make the halves count differently."""
    history, weights = alone
    shared_history, shared_weights = learn(tiny_data, tmp_path / "two", batch_size=4, processes=2)
    for entry, shared in zip(history, shared_history, strict=True):
        assert entry.keys() == shared.keys()
        assert entry["cd_groups"] > 1
        assert entry["id_groups"] > 1
        for name in entry.keys() - {"seconds"}:
            assert shared[name] == pytest.approx(entry[name], rel=1e-9, abs=1e-12), name
    assert weights.keys() == shared_weights.keys()
    for name, tensor in weights.items():
        # Adam divides by the root of the squared gradient: rounding in the last place grows a little.
        assert (shared_weights[name] - tensor).abs().max() < 1e-7, name


def test_stored_answers_teach_two_processes_what_they_teach_one(learn, tiny_data, tmp_path):
    """Each process takes its own pictures' answers and mixes its own pictures: all terms, val mAP and the final weights
    are those of one."""
    train = load_dataset(tiny_data, "train")
    logits = np.random.default_rng(0).normal(0, 2, train.targets.shape).astype(np.float32)
    answers = write_answers(tmp_path / "answers.npz", train.labels, train.hashes(), logits).path
    history, weights = learn(tiny_data, tmp_path / "one", 8, 1, answers)
    shared_history, shared_weights = learn(tiny_data, tmp_path / "two", 4, 2, answers)
    assert {"bce", "soft_bce"} <= history[0].keys()
    for entry, shared in zip(history, shared_history, strict=True):
        for name in entry.keys() - {"seconds"}:
            assert shared[name] == pytest.approx(entry[name], rel=1e-9, abs=1e-12), name
    for name, tensor in weights.items():
        assert (shared_weights[name] - tensor).abs().max() < 1e-7, name


def test_the_comparison_sees_a_difference(learn, tiny_data, tmp_path, alone):
    """The control: half the batch in one process learns something else."""
    history, weights = alone
    other_history, other_weights = learn(tiny_data, tmp_path / "half", batch_size=4, processes=1)
    assert abs(history[0]["cd"] / other_history[0]["cd"] - 1) > 1e-3
    assert max(float((other_weights[name] - tensor).abs().max()) for name, tensor in weights.items()) > 1e-4
