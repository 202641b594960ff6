"""Ratios: what counts as slower, what is said."""

from edgepress.multilabel.ratio import Ratio


def test_slower_only_where_the_whole_interval_is():
    assert Ratio(ratio=1.2, low=1.1, high=1.3).slower()
    assert not Ratio(ratio=1.2, low=0.9, high=1.3).slower()
    assert not Ratio(ratio=1.2, low=1.1, high=1.3).slower(beyond=1.15)
    assert not Ratio(ratio=1.2).slower()


def test_what_is_said():
    assert str(Ratio(ratio=0.421, low=0.4, high=0.45)) == "0.42 times, 0.40 to 0.45"
    assert str(Ratio(ratio=2)) == "2.00 times"


def test_slower_by_disturbance_is_slower_on_a_machine_that_did_not_keep_still():
    slow = {"ratio": 1.2, "low": 1.1, "high": 1.3}
    assert Ratio(**slow, cautions=("busy",)).slower_by_disturbance()
    assert not Ratio(**slow).slower_by_disturbance()
    assert not Ratio(**slow, cautions=("busy",)).slower_by_disturbance(1.15)
