"""The calibration set: every label, from train alone, the same for the same seed."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgepress.calibration.int8.embeddings import k_centre
from edgepress.calibration.int8.subset import (
    calibration_hash,
    choose_calibration_set,
    missing_labels,
    spread,
    tell_labels,
)
from edgepress.multilabel.datasets import MultiLabelDataset, load_dataset
from edgepress.multilabel.errors import InputError


@pytest.fixture(scope="module")
def train(tiny_data: Path) -> MultiLabelDataset:
    return load_dataset(tiny_data, "train")


@pytest.fixture(scope="module")
def others(tiny_data: Path) -> list[MultiLabelDataset]:
    return [load_dataset(tiny_data, split) for split in ("val", "test")]


def with_rare_labels(train: MultiLabelDataset) -> MultiLabelDataset:
    """Every label on one picture of its own: nothing but a search finds them all."""
    targets = np.zeros_like(train.targets)
    targets[[3, 7, 11, 15, 19], np.arange(5)] = 1
    return replace(train, targets=targets)


@pytest.mark.parametrize("count", [5, 8, 23])
@pytest.mark.parametrize("seed", range(5))
def test_every_label_is_shown_however_rare(train, others, count, seed):
    rare = with_rare_labels(train)
    chosen = choose_calibration_set(rare, others, count, seed)
    assert (chosen.dtype, len(chosen)) == (np.int64, count)
    assert np.array_equal(chosen, np.unique(chosen))
    assert rare.targets[chosen].any(axis=0).all()


def test_one_picture_that_shows_everything_is_enough(train, others):
    assert train.targets.all(axis=1).any()
    (chosen,) = choose_calibration_set(train, others, 1)
    assert train.targets[chosen].all()


def test_the_seed_decides(train, others):
    draws = [tuple(choose_calibration_set(train, others, 8, seed)) for seed in (0, 0, 1, 2)]
    assert draws[0] == draws[1]
    assert len(set(draws)) == 3


def test_more_than_there_are_is_all(train, others):
    assert choose_calibration_set(train, others, 1000).tolist() == list(range(len(train)))


@pytest.mark.parametrize("count", [0, -1])
def test_no_pictures_are_refused(train, others, count):
    with pytest.raises(InputError, match=f"received {count}; expected at least 1"):
        choose_calibration_set(train, others, count)


def test_too_few_to_show_every_label_are_refused_with_the_number_needed(train, others):
    with pytest.raises(InputError, match="4 calibration pictures cannot show every label; at least 5 are needed"):
        choose_calibration_set(with_rare_labels(train), others, 4)


def test_a_label_that_train_never_shows_is_named(train, others, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("edgepress"), "propagate", True)
    without = replace(train, targets=train.targets.copy())
    without.targets[:, 1] = 0
    with caplog.at_level(logging.WARNING, logger="edgepress"):
        chosen = choose_calibration_set(without, others, 8)
        tell_labels(without, without.subset(chosen))
    assert "green" in caplog.text
    assert not any(name in caplog.text for name in ("red", "blue", "circle", "bars"))
    assert without.targets[chosen].any(axis=0).tolist() == [True, False, True, True, True]


@pytest.mark.parametrize("place", [0, 1])
def test_a_picture_that_also_measures_is_refused_with_both_names(train, others, tmp_path, place):
    """Known by content: another name does not hide it, and it matters whether or not it would have been drawn."""
    twin = tmp_path / "renamed.jpg"
    shutil.copyfile(train.paths[5], twin)
    leaking = replace(others[place], paths=[*others[place].paths[:-1], twin])
    with pytest.raises(InputError) as error:
        choose_calibration_set(train, [leaking if i == place else other for i, other in enumerate(others)], 5)
    assert str(train.paths[5]) in str(error.value)
    assert str(twin) in str(error.value)


def test_the_sets_name_knows_content_and_not_order(train):
    first = train.subset(np.array([1, 4, 2]))
    assert calibration_hash(first) == calibration_hash(train.subset(np.array([2, 1, 4])))
    assert calibration_hash(first) != calibration_hash(train.subset(np.array([2, 1, 5])))


def test_few_and_missing_labels_are_named(train, others, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("edgepress"), "propagate", True)
    rare = with_rare_labels(train)
    with caplog.at_level(logging.INFO, logger="edgepress"):
        tell_labels(rare, rare.subset(choose_calibration_set(rare, others, 6)))
        assert "no calibration picture" not in caplog.text
        assert "red (1), green (1), blue (1), circle (1), bars (1)" in caplog.text
        caplog.clear()
        drawn = choose_calibration_set(rare, others, 3, choice="random")
        tell_labels(rare, rare.subset(drawn))
    missing = missing_labels(rare.subset(drawn))
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert missing
    assert warning == f"no calibration picture shows {', '.join(missing)}"


def test_random_draws_other_pictures_than_covering_and_the_seed_decides(train, others):
    draws = [tuple(choose_calibration_set(train, others, 8, seed, "random")) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert draws[0] != tuple(choose_calibration_set(with_rare_labels(train), others, 8, 0))


def test_k_centre_takes_a_picture_of_every_cluster(train, others):
    """Four far points among many close ones: whoever draws at random misses most of them."""
    rng = np.random.default_rng(0)
    embeddings = 0.01 * rng.standard_normal((len(train), 4))
    far = [2, 9, 13, 20]
    embeddings[far] += 10 * np.eye(4)
    for seed in range(5):
        chosen = choose_calibration_set(
            train,
            others,
            5,
            seed,
            "k-centre",
            lambda pictures: embeddings[[train.paths.index(p) for p in pictures.paths]],
        )
        assert set(far) <= set(chosen.tolist())
        assert len(set(chosen.tolist())) == 5


def test_k_centre_takes_no_picture_twice_where_all_look_the_same():
    assert sorted(k_centre(np.zeros((6, 3)), 6, 2)) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("choice", ["random", "k-centre"])
def test_leaks_are_refused_however_pictures_are_chosen(train, choice):
    with pytest.raises(InputError):
        choose_calibration_set(train, [train.subset(np.array([3]))], 5, 0, choice, lambda p: np.zeros((len(p), 1)))


@pytest.mark.parametrize(("pictures", "count"), [(100, 10), (101, 10), (99, 10), (5, 8), (64, 64), (65, 64)])
def test_a_spread_is_from_all_over_the_set(pictures, count):
    places = spread(np.arange(pictures), count)
    assert 1 <= len(places) <= count
    gaps = np.diff([*places, pictures])
    assert places[0] == 0
    assert gaps.max() <= -(-pictures // count)
