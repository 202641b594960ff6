"""The search space: every preset has one, its first point is the method itself, and the others fill it evenly."""

from __future__ import annotations

import numpy as np
import pytest

from edgepress.compress.config import DistillConfig
from edgepress.compress.methods import PRESETS, TERMS
from edgepress.multilabel.errors import InputError
from edgepress.run import search_space
from edgepress.run.search_space import RANGES, space_of, spread


def settings_of(**given):
    return DistillConfig.parse(given, "test")


def test_every_term_has_a_range_and_every_range_is_of_a_setting():
    assert set(TERMS) <= set(RANGES)
    assert set(RANGES) <= set(DistillConfig.model_fields)
    for name, bounds in RANGES.items():
        assert 0 < bounds.low < 1 < bounds.high, name
        assert bounds.term is None or bounds.term in TERMS


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_tuned_over_its_rate_its_weights_and_what_belongs_to_them(preset):
    config = settings_of(preset=preset)
    space = {one.name: one for one in space_of(config)}
    weights = {name for name in TERMS if PRESETS[preset][name]}
    assert set(space) == {"lr", *weights, *(["kd_temperature"] if "kd" in weights else [])}
    for name, one in space.items():
        assert one.own == getattr(config, name)
        assert one.low < one.own < one.high


def test_a_term_without_a_range_is_refused(monkeypatch):
    monkeypatch.setattr(search_space, "RANGES", {name: RANGES[name] for name in RANGES if name != "mld"})
    with pytest.raises(InputError, match=r"mld: has no range of its own to be tuned in; expected lr, cd"):
        space_of(settings_of(preset="mld"))


def test_a_method_may_have_every_term():
    space = space_of(settings_of(**{name: 1.0 for name in TERMS}))
    assert [set(point) for point in spread(space, 3)] == [set(RANGES)] * 3


def test_the_first_point_is_the_method_and_more_points_change_none_of_the_first():
    space = space_of(settings_of(preset="l2d", lr=0.002))
    points = spread(space, 27)
    assert points[0] == {"lr": 0.002, "mld": 10, "cd": 100, "id": 1000}
    assert spread(space, 5) == points[:5]
    assert len({tuple(one.values()) for one in points}) == 27
    for one in space:
        assert all(one.low <= point[one.name] <= one.high for point in points)


@pytest.mark.parametrize("preset", ["alone", "mld", "kd", "l2d"])
def test_the_points_fill_each_setting_evenly(preset):
    """Of nine points each third of a setting's range, on a logarithmic scale, has two to four."""
    space = space_of(settings_of(preset=preset))
    for one in space:
        places = [np.log(point[one.name] / one.low) / np.log(one.high / one.low) for point in spread(space, 10)[1:]]
        assert set(np.histogram(places, 3, (0, 1))[0]) <= {2, 3, 4}
