"""What a finished tagger reaches, and which way of preparing pictures would give it more."""

from __future__ import annotations

import difflib
import logging
from pathlib import Path

import numpy as np
import pytest

from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.preprocess import Preprocess
from edgepress.multilabel.reached import (
    NORMALISATIONS,
    answer_split,
    compare_relatives,
    require_among,
    tell_reached,
    tell_relatives,
)

HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
RAW = NORMALISATIONS[3]


def tagger(mean, std, learnt: str = "rgb"):
    """Reads red, green and blue off the mean of a channel that is clipped to -1..1, as a net that saturates does."""

    def answer(pixels: np.ndarray) -> np.ndarray:
        assert pixels.ndim == 4
        x = (pixels.astype(np.float32) / 255 - np.float32(mean)) / np.float32(std)
        channels = np.clip(x, -1, 1).mean(axis=(1, 2))[:, :: 1 if learnt == "rgb" else -1]
        return np.concatenate([channels, np.zeros((len(pixels), 2), np.float32)], axis=1)

    return answer


@pytest.fixture(scope="module")
def data(tiny_data):
    return load_dataset(tiny_data, "test")


def of(mean_std, resize="squash") -> Preprocess:
    return Preprocess(size=32, resize=resize, mean=mean_std[0], std=mean_std[1])


def test_the_answers_of_a_split_are_in_its_order(data):
    preprocess = of(HALF)
    found = answer_split(tagger(*HALF), preprocess, data)
    one = tagger(*HALF)(preprocess(data.picture(7))[None])
    assert found.shape == (len(data), 5)
    np.testing.assert_allclose(found[7], one[0], rtol=1e-6)


def test_a_right_statement_has_no_better_relative(data, caplog):
    found = compare_relatives(tagger(*HALF), of(HALF), data, fractional=True)
    assert [one.what for one in found] == [
        "--colors bgr",
        "--resize crop",
        "--resize letterbox",
        "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225",
        "--mean 0,0,0 --std 1,1,1",
        "--mean 0,0,0 --std 0.00392157,0.00392157,0.00392157",
    ]
    assert not any(one.wins for one in found)
    with caplog.at_level(logging.INFO, logger="edgepress"):
        tell_relatives("own", found)
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "as stated; if it is stated differently, --colors bgr: " in caplog.text


def test_the_other_order_of_colours_wins_where_the_model_learnt_with_it(data, caplog):
    found = compare_relatives(tagger(*HALF, learnt="bgr"), of(HALF), data, fractional=True)
    best = max(found, key=lambda one: one.mAP)
    assert (best.what, best.wins) == ("--colors bgr", True)
    with caplog.at_level(logging.INFO, logger="edgepress"):
        tell_relatives("own", found)
    assert "caution: own: mAP would be" in caplog.text
    assert "with --colors bgr: was the model trained so?" in caplog.text


def test_a_statement_of_bgr_is_compared_with_rgb(data):
    def turned(pixels: np.ndarray) -> np.ndarray:  # as a model with --colors bgr does inside
        return tagger(*HALF)(pixels[..., ::-1])

    found = {one.what: one for one in compare_relatives(turned, of(HALF), data, colors="bgr", fractional=False)}
    assert list(found) == ["--colors rgb", "--resize crop", "--resize letterbox"]
    assert found["--colors rgb"].wins


def test_a_relative_gets_what_it_would_get_from_the_model_with_that_statement(data):
    """The stated mean and std stay inside the model, so the pictures themselves are changed."""
    found = {one.what: one for one in compare_relatives(tagger(*RAW), of(RAW), data, fractional=True)}
    half = found["--mean 0.5,0.5,0.5 --std 0.5,0.5,0.5"]
    assert half.wins  # 0..255 saturates this tagger
    right = compare_relatives(tagger(*HALF), of(HALF), data, fractional=True)
    assert half.mAP == pytest.approx(right[0].given)


def test_mean_and_std_are_in_the_order_of_the_model_s_channels(data):
    """A BGR model that reads what ImageNet's mean and std would give it, in the order in which they are said."""
    stated, other = ((0.1, 0.2, 0.6), (0.3, 0.4, 0.5)), NORMALISATIONS[0]
    seen = []

    def bgr(pixels: np.ndarray) -> np.ndarray:
        x = (pixels[..., ::-1].astype(np.float32) / 255 - np.float32(stated[0])) / np.float32(stated[1])
        seen.append(x)
        return x.mean(axis=(1, 2))[:, [0, 1, 2, 0, 1]]

    few = data.subset(np.arange(5))
    found = compare_relatives(bgr, of(stated), few, colors="bgr", fractional=True)
    at = 1 + [one.what for one in found].index("--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225")
    as_said = seen[0] * np.float32(stated[1]) + np.float32(stated[0])
    np.testing.assert_allclose(seen[at], (as_said - np.float32(other[0])) / np.float32(other[1]), atol=1e-4)


def test_few_pictures_and_small_gains_prove_nothing(data):
    found = compare_relatives(tagger(*HALF, learnt="bgr"), of(HALF), data.subset(np.arange(6)), fractional=True)
    assert not any(one.wins for one in found)
    assert found[0].gain is None


def test_a_slow_model_is_asked_about_fewer_pictures(data, monkeypatch):
    monkeypatch.setattr("edgepress.multilabel.reached.MOST_SECONDS", 0.0)
    seen = []

    def slow(pixels: np.ndarray) -> np.ndarray:
        seen.append(len(pixels))
        return tagger(*HALF)(pixels)

    found = compare_relatives(slow, of(HALF), data, fractional=False)
    assert {one.pictures for one in found} == {8}
    assert seen == [8, 8, 8, 8]


def test_without_labels_there_is_nothing_to_compare(data, caplog):
    from dataclasses import replace

    unknown = replace(data, ignore=np.ones_like(data.ignore))
    assert compare_relatives(tagger(*HALF), of(HALF), unknown, fractional=True) == []
    with caplog.at_level(logging.INFO, logger="edgepress"):
        tell_relatives("own", [])
        tell_reached("own", unknown, np.zeros(unknown.targets.shape))
    assert "own: no mAP, because no label of test has both a positive and a negative picture" in caplog.text


@pytest.mark.parametrize(("right", "cautioned"), [(True, False), (False, True)])
def test_a_model_near_chance_gets_a_caution(data, caplog, right, cautioned):
    scores = data.targets if right else np.zeros(data.targets.shape)
    with caplog.at_level(logging.INFO, logger="edgepress"):
        tell_reached("own", data, scores)
    assert ("is not clearly above random scores" in caplog.text) == cautioned


@pytest.mark.parametrize(
    ("has", "said"),
    [
        (("cat", "dogs", "x"), "lacks dog, sky of the labels of the data set /data, and has dogs, x, which the data"),
        (("cat", "dog"), "lacks sky of the labels of the data set /data. Where"),
        (("cat", "dogs", "sky"), "(adopt: --labels FILE, one a line; Python: labels), such as 'dog' for 'dogs'. Where"),
        (("cat",), "one a line; Python: labels). Where the model knows no such label, it can be a teacher alone"),
    ],
)
def test_which_of_both_lacks_a_label_is_told_with_what_to_do(has, said):
    wanted = LabelSpace(("dog", "cat", "sky"))
    with pytest.raises(InputError) as refused:
        require_among(wanted, LabelSpace(has), "net.onnx", Path("/data"))
    assert str(refused.value).startswith("the model net.onnx lacks")
    assert said in str(refused.value)
    require_among(wanted, LabelSpace((*has, *(name for name in wanted if name not in has))), "net.onnx", Path("/data"))


def test_few_names_that_are_spelt_alike_are_sought_among_many(monkeypatch):
    """One search among thousands of names takes a tenth of a second."""
    sought, search = [], difflib.get_close_matches
    monkeypatch.setattr(
        difflib, "get_close_matches", lambda *asked, **more: sought.append(asked) or search(*asked, **more)
    )
    wanted = LabelSpace(tuple(f"{number}" for number in range(300)))
    with pytest.raises(InputError, match=r"lacks 0, 1, .* \(300 in all\)"):
        require_among(wanted, LabelSpace(tuple("abcdefgh")), "net.onnx", Path("/data"))
    assert 0 < len(sought) < 20
    sought.clear()
    with pytest.raises(InputError, match="such as 'cats' for 'cat'"):  # and none after the first that is found
        require_among(LabelSpace(("cats", "dogs")), LabelSpace(("cat", "dog")), "net.onnx", Path("/data"))
    assert len(sought) == 1
