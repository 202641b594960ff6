"""Metrics against scikit-learn and against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score, precision_score, recall_score

from edgepress.multilabel import metrics

BROKEN = r"^scores hold NaN: the model's output is broken, a ranking is not defined$"
few = settings(max_examples=50, deadline=None, derandomize=True)


@st.composite
def scored(draw, levels: int = 4):
    """Targets, scores of so few levels that most are tied, and an ignore mask, all `[N, C]`."""
    shape = (draw(st.integers(1, 12)), draw(st.integers(1, 4)))
    targets = draw(arrays(np.uint8, shape, elements=st.integers(0, 1)))
    scores = draw(arrays(np.int64, shape, elements=st.integers(0, levels - 1))) / levels - 0.4
    return targets, scores, draw(arrays(bool, shape))


@few
@given(scored())
def test_ap_is_scikit_learns_on_tied_scores_and_nan_without_a_positive(data):
    targets, scores, _ = data
    result = metrics.average_precision(targets, scores)
    assert result.dtype == np.float64
    assert result.shape == (targets.shape[1],)
    for column in range(targets.shape[1]):
        if targets[:, column].any() and not targets[:, column].all():
            expected = average_precision_score(targets[:, column], scores[:, column])
            assert result[column] == pytest.approx(expected, abs=1e-12)
        else:
            assert np.isnan(result[column])


@few
@given(scored(), st.randoms(use_true_random=False))
def test_ap_does_not_depend_on_the_order_of_pictures_nor_on_the_scale_of_scores(data, random):
    targets, scores, _ = data
    order = random.sample(range(len(targets)), len(targets))
    np.testing.assert_allclose(
        metrics.average_precision(targets[order], np.exp(scores[order])), metrics.average_precision(targets, scores)
    )


@few
@given(scored())
def test_ignored_cells_are_as_if_deleted_whatever_they_hold(data):
    targets, scores, ignore = data
    dirty_targets = np.where(ignore, -1, targets.astype(int))
    dirty_scores = np.where(ignore, np.nan, scores)
    result = metrics.average_precision(dirty_targets, dirty_scores, ignore)
    for column in range(targets.shape[1]):
        keep = ~ignore[:, column]
        alone = metrics.average_precision(targets[keep, column], scores[keep, column])
        np.testing.assert_allclose(result[column], alone[0])
    assert metrics.labels_counted(dirty_targets, ignore) == np.isfinite(result).sum()


def test_ap_by_hand():
    # Ranks: + − +, so AP = 1/2 · 1 + 1/2 · 2/3.
    np.testing.assert_allclose(metrics.average_precision([1, 0, 1], [0.9, 0.8, 0.1]), [5 / 6])
    # The tie of a positive and a negative enters together: precision 1/2, whichever stands first.
    np.testing.assert_allclose(metrics.average_precision([1, 0], [3.0, 3.0]), [0.5])
    np.testing.assert_allclose(metrics.average_precision([0, 1], [3.0, 3.0]), [0.5])


def test_map_leaves_out_and_counts_labels_without_a_positive():
    targets = np.array([[1, 0, 0], [0, 0, 1]])
    scores = np.array([[0.9, 0.1, 0.8], [0.1, 0.9, 0.2]])
    assert metrics.mean_average_precision(targets, scores) == pytest.approx((1 + 0.5) / 2)
    assert metrics.labels_counted(targets) == 2
    # Ignoring a label's only positive takes the label out as well, and so does ignoring its only negative.
    for row in (0, 1):
        ignore = np.zeros(targets.shape, bool)
        ignore[row, 2] = True
        assert metrics.mean_average_precision(targets, scores, ignore) == pytest.approx(1.0)
        assert metrics.labels_counted(targets, ignore) == 1
    with pytest.raises(ValueError, match=r"^mAP is not defined: no label has both a positive and a negative picture$"):
        metrics.mean_average_precision(np.zeros((2, 3)), scores)


def test_f1_scores_by_hand():
    #                  label 0  1  2 (no positive; its false alarm counts overall only)
    targets = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]])
    decisions = np.array([[1, 1, 1], [0, 1, 0], [0, 1, 0], [0, 1, 0]], dtype=bool)
    f1 = metrics.f1_scores(targets, decisions)
    assert pytest.approx((1 + 1 / 2) / 2) == f1.CP
    assert pytest.approx((1 / 2 + 1) / 2) == f1.CR
    assert pytest.approx(2 * 0.75 * 0.75 / 1.5) == f1.CF1
    assert pytest.approx(3 / 6) == f1.OP
    assert pytest.approx(3 / 4) == f1.OR
    assert pytest.approx(2 * 0.5 * 0.75 / 1.25) == f1.OF1


def test_cf1_is_of_the_mean_precision_and_recall_not_the_mean_f1():
    targets = np.array([[1, 1], [1, 0], [1, 0]])
    decisions = np.array([[1, 1], [0, 1], [0, 1]], dtype=bool)  # label 0: P 1, R 1/3; label 1: P 1/3, R 1
    assert pytest.approx(2 / 3) == metrics.f1_scores(targets, decisions).CF1  # the mean of the two F1 is 1/2


@few
@given(scored(levels=2))
def test_f1_scores_are_scikit_learns(data):
    targets, scores, ignore = data
    decisions = metrics.decide(scores, 0.0)
    f1 = metrics.f1_scores(targets, decisions)
    flat = targets.ravel(), decisions.ravel()
    assert pytest.approx(precision_score(*flat, zero_division=0)) == f1.OP
    assert pytest.approx(recall_score(*flat, zero_division=0)) == f1.OR
    counted = targets.any(axis=0)
    if counted.any():
        columns = [(targets[:, c], decisions[:, c]) for c in np.flatnonzero(counted)]
        assert pytest.approx(np.mean([precision_score(*pair, zero_division=0) for pair in columns])) == f1.CP
        assert pytest.approx(np.mean([recall_score(*pair, zero_division=0) for pair in columns])) == f1.CR
    if not ignore.all():
        masked = metrics.f1_scores(targets, decisions, ignore)
        flat = targets[~ignore], decisions[~ignore]
        assert pytest.approx(precision_score(*flat, zero_division=0)) == masked.OP
        assert pytest.approx(recall_score(*flat, zero_division=0)) == masked.OR


def test_f1_of_small_precision_and_recall():
    f1 = metrics.f1_scores([1, 1, 1, 1, 0, 0, 0, 0], np.array([1, 0, 0, 0, 1, 1, 1, 1], dtype=bool))
    assert pytest.approx((1 / 5, 1 / 4, 2 / 9, 2 / 9)) == (f1.OP, f1.OR, f1.OF1, f1.CF1)


@pytest.mark.filterwarnings("error")  # numpy warns where memory that nobody wrote is read
def test_nothing_over_nothing_is_zero():
    nothing = metrics.f1_scores(np.zeros((3, 2)), np.zeros((3, 2), dtype=bool))
    assert nothing == metrics.F1Scores(CP=0.0, CR=0.0, CF1=0.0, OP=0.0, OR=0.0, OF1=0.0)
    silent = metrics.f1_scores(np.ones((3, 2)), np.zeros((3, 2), dtype=bool))
    assert silent == metrics.F1Scores(CP=0.0, CR=0.0, CF1=0.0, OP=0.0, OR=0.0, OF1=0.0)


def test_top_k_breaks_ties_by_position_and_gives_ignored_cells_no_place():
    scores = np.array([[0.5, 0.9, 0.5, 0.5], [0.1, 0.2, 0.3, 0.4]])
    expected = np.array([[1, 1, 0, 0], [0, 0, 1, 1]], dtype=bool)
    np.testing.assert_array_equal(metrics.top_k(scores, 2), expected)
    ignore = np.array([[0, 1, 0, 0], [1, 1, 1, 0]], dtype=bool)
    expected = np.array([[1, 0, 1, 0], [0, 0, 0, 1]], dtype=bool)
    np.testing.assert_array_equal(metrics.top_k(scores, 2, ignore), expected)
    many = np.zeros((1, 100))
    many[0, 50] = 1
    assert np.flatnonzero(metrics.top_k(many, 5)[0]).tolist() == [0, 1, 2, 3, 50]
    for k in (0, 5):
        with pytest.raises(ValueError, match=f"received k = {k}; expected 1 to 4"):
            metrics.top_k(scores, k)


def test_top_k_takes_scores_of_any_kind_but_nan():
    """Of bytes and booleans, whose negative is another thing than a number's, the best are the best as well."""
    for scores in (np.array([[0, 200, 100]], np.uint8), np.array([[False, True, True]]), [[0, 2, 1]]):
        assert metrics.top_k(scores, 2).tolist() == [[False, True, True]]
    with pytest.raises(ValueError, match=BROKEN):
        metrics.top_k([[0.1, np.nan]], 1)


def test_decide_includes_the_threshold_and_takes_one_a_label():
    scores = np.array([[0.5, 0.5], [0.4, 0.9]])
    np.testing.assert_array_equal(metrics.decide(scores), [[True, True], [False, True]])
    np.testing.assert_array_equal(metrics.decide(scores, np.array([0.3, 0.6])), [[True, False], [True, True]])


def test_prevalence_is_the_mean_share_of_positives_among_known_cells_of_counted_labels():
    targets = np.array([[1, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 0]])
    assert metrics.prevalence(targets) == pytest.approx((1 / 4 + 3 / 4) / 2)
    ignore = np.zeros((4, 3), dtype=bool)
    ignore[3, :] = True
    assert metrics.prevalence(targets, ignore) == pytest.approx(1 / 3)  # the third label lost its only negative
    assert metrics.prevalence(np.zeros((2, 2))) == 0.0


def test_one_dimension_is_one_label():
    assert metrics.average_precision([1, 0, 1], [3, 2, 1]).shape == (1,)
    assert metrics.top_k([0.1, 0.7], 1).shape == (2, 1)
    assert metrics.f1_scores([1, 0], [True, True], [False, True]).OP == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((2, 3)), np.zeros((3, 2))), r"targets \[2, 3\] and scores \[3, 2\]"),
        ((np.zeros((2, 3)), np.zeros((2, 3)), np.zeros((1, 3), bool)), r"ignore mask \[1, 3\].*\[2, 3\]"),
        ((np.zeros((2, 3, 1)), np.zeros((2, 3, 1))), r"shape \[2, 3, 1\]; expected \[N, C\]"),
        (
            (np.full((2, 3), 2), np.zeros((2, 3))),
            r"^targets hold values other than 0 and 1 where the ignore mask is false$",
        ),
        ((np.full((2, 3), -1), np.zeros((2, 3))), "other than 0 and 1"),
        ((np.zeros((2, 3)), np.full((2, 3), np.nan)), BROKEN),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        metrics.average_precision(*arguments)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 1e-15)])
def test_sigmoid_is_exact_at_the_middle_and_does_not_overflow(dtype, tolerance):
    logits = np.array([-200, -3, -0.5, 0, 0.5, 3, 200], dtype=dtype)
    with np.errstate(over="raise", invalid="raise"):
        result = metrics.sigmoid(logits)
    assert result.dtype == dtype
    expected = [0, *(1 / (1 + np.exp(-z)) for z in (-3, -0.5, 0, 0.5, 3)), 1]
    np.testing.assert_allclose(result, expected, atol=tolerance)


def test_scores_of_bytes_and_masks_of_numbers_are_what_they_say():
    """The negative of a byte is a byte, and the complement of 1 is −2: neither is meant."""
    targets, scores = np.array([1, 0, 0]), np.array([200, 100, 0], np.uint8)
    assert metrics.average_precision(targets, scores).tolist() == [1.0]
    assert metrics.average_precision([1, 0, 1], scores, [0, 0, 1]).tolist() == [1.0]
    assert metrics.top_k([[3, 2, 1]], 1, [[1, 0, 0]]).tolist() == [[False, True, False]]


def test_infinite_scores_tie_like_any_other():
    for targets in ([0, 1], [1, 0]):
        assert metrics.average_precision(targets, [np.inf, np.inf]).tolist() == [0.5]


def test_raw_probabilities_are_no_decisions():
    with pytest.raises(
        ValueError, match=r"^decisions hold values other than 0 and 1: call decide or top_k on scores first$"
    ):
        metrics.f1_scores([[0, 1]], [[0.2, 0.7]])


def test_an_ignored_label_takes_no_place_even_beside_minus_infinity():
    assert metrics.top_k([[-np.inf, -np.inf, 1.0]], 2, [[True, False, False]]).tolist() == [[False, True, True]]
    with pytest.raises(ValueError, match="same shape"):
        metrics.top_k(np.zeros((3, 2)), 1, np.zeros((1, 2), bool))


def test_a_label_whose_known_cells_are_all_positive_proves_nothing():
    """Any scores rank such a label perfectly: with it a model of chance would gain."""
    targets = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0]])
    ignore = np.zeros(targets.shape, bool)
    ignore[3, 0] = True
    scores = np.array([[0.1, 0.2, 0.3], [0.2, 0.9, 0.1], [0.3, 0.1, 0.4], [0.9, 0.8, 0.2]])
    per_label = metrics.average_precision(targets, scores, ignore)
    assert np.isnan(per_label).tolist() == [True, False, True]
    assert metrics.mean_average_precision(targets, scores, ignore) == per_label[1]
    assert metrics.labels_counted(targets, ignore) == 1
    assert metrics.left_out(targets, ignore) == metrics.LeftOut(without_positive=(2,), without_negative=(0,))
    assert metrics.prevalence(targets, ignore) == 0.5
    with pytest.raises(ValueError, match="no label has both a positive and a negative picture"):
        metrics.mean_average_precision(targets[:, [0, 2]], scores[:, [0, 2]], ignore[:, [0, 2]])


def test_labels_are_left_out_for_want_of_positives_or_of_negatives():
    targets = np.array([[1, 0, 1, 0], [0, 0, 1, 1]])
    ignore = np.zeros(targets.shape, bool)
    assert metrics.left_out(targets, ignore) == metrics.LeftOut((1,), (2,))
    ignore[:, 3] = True  # nothing is known of it, so it has no positive
    assert metrics.left_out(targets, ignore) == metrics.LeftOut((1, 3), (2,))
    ignore[0, 2] = True
    assert metrics.left_out(targets, ignore) == metrics.LeftOut((1, 3), (2,))


def test_logits_of_probabilities_are_float32_and_finite_at_both_ends():
    p = np.array([[0.25, 0.5, 0.9], [0.0, 1.0, 1e-9]])
    found = metrics.logit(p)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], [-np.log(3), 0, np.log(9)], atol=1e-6)
    # Near 1 the numbers of float32 are wider apart than near 0.
    np.testing.assert_allclose(found[1, ::2], np.log(metrics.LEAST), rtol=1e-6)
    assert 15 < found[1, 1] < 17
    np.testing.assert_allclose(metrics.sigmoid(found[0]), p[0], atol=1e-6)


def test_labels_that_tell_no_picture_from_another_are_named():
    names = ("cat", "dog", "sun", "sea", "sky", "tree", "boat")
    logits = np.zeros((3, 7), np.float32)
    told = metrics.told_constant
    assert told(logits, names) == "every one of 3 pictures gets the same answer: the model tells nothing apart"
    assert told(logits[:1], names) is None  # one picture cannot tell
    assert told(logits[:2], names).startswith("every one of 2 pictures")
    logits[0] = np.arange(7)
    logits[:, 1] = 2
    assert told(logits[:, 1:], names[1:]) == "1 of 6 labels have the same logit for each of 3 pictures: dog"
    logits[:, :6] = 5
    several = "6 of 7 labels have the same logit for each of 3 pictures: cat, dog, sun, sea, sky, ..."
    assert told(logits, names) == several
    assert told(logits[:, 1:], names[1:]).endswith(": dog, sun, sea, sky, tree")
    assert told(np.array([[0.0, 3.0], [1.0, 2.0]]), ("cat", "dog")) is None
    with pytest.raises(ValueError, match="shorter"):
        told(logits, [*names, "one too many"])


@pytest.mark.parametrize(
    ("values", "constant"),
    [
        ((1000, 1000.0009), True),  # a millionth of the value: the noise of float32
        ((1000, 1000.0011), False),
        ((-1000, -1000.0009), True),
        ((1e-3, 1e-3 + 9e-7), True),  # below 1 a millionth itself
        ((1e-3, 1e-3 + 1.1e-6), False),
        ((-2, 2), False),
    ],
)
def test_a_label_is_constant_up_to_the_noise_of_float32(values, constant):
    logits = np.array([[values[0], 0.0], [values[1], 1.0]])
    said = metrics.told_constant(logits, ("cat", "dog"))
    assert said == ("1 of 2 labels have the same logit for each of 2 pictures: cat" if constant else None)


def test_a_few_labels_at_a_time_have_the_same_ap(monkeypatch):
    rng = np.random.default_rng(5)
    targets, scores, ignore = rng.random((20, 7)) < 0.4, rng.random((20, 7)).round(1), rng.random((20, 7)) < 0.2
    whole = metrics.average_precision(targets, scores, ignore)
    monkeypatch.setattr("edgepress.multilabel.cells._COLUMN_CELLS", 60)
    np.testing.assert_array_equal(metrics.average_precision(targets, scores, ignore), whole)
    with pytest.raises(ValueError, match=r"targets \[20, 7\] and scores \[20, 6\]"):
        metrics.f1_scores(np.zeros((20, 7)), np.zeros((20, 6), bool))
    with pytest.raises(ValueError, match=r"targets \[20, 7\] and scores \[20, 6\]"):
        metrics.average_precision(targets, scores[:, :6])
    with pytest.raises(ValueError, match=r"ignore mask \[20, 6\]"):
        metrics.average_precision(targets, scores, ignore[:, :6])
