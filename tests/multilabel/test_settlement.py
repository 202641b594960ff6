"""Settlement: no answer contradicts a group or an implication, and each is the one that the rules say, by hand."""

from __future__ import annotations

from edgepress.multilabel.settlement import Settlement

NAMES = ("indoor", "outdoor", "bird", "sofa", "animal")
SCENE = Settlement.of([(("indoor", "outdoor"), False)], {"bird": ("outdoor", "animal"), "sofa": ("indoor",)}, NAMES)


def settled(settlement: Settlement, p: dict[str, float], names=NAMES, bar: float = 0.5) -> set[str]:
    values = [p.get(name, 0.0) for name in names]
    return {names[label] for label in settlement.settle(values, [value >= bar for value in values])}


def test_what_a_yes_implies_is_yes():
    assert settled(SCENE, {"outdoor": 0.9, "bird": 0.9}) == {"outdoor", "bird", "animal"}


def test_a_group_has_its_most_probable_label_and_what_contradicts_it_is_withdrawn():
    assert settled(SCENE, {"indoor": 0.9, "outdoor": 0.6, "bird": 0.6, "sofa": 0.9}) == {"indoor", "sofa"}
    assert settled(SCENE, {"indoor": 0.2, "outdoor": 0.1}) == {"indoor"}


def test_where_none_may_be_true_the_surest_comes_first():
    loose = Settlement.of([(("indoor", "outdoor"), True)], {"bird": ("outdoor",), "sofa": ("indoor",)}, NAMES)
    assert settled(loose, {"bird": 0.6, "sofa": 0.9, "indoor": 0.9, "outdoor": 0.6}) == {"sofa", "indoor"}
    assert settled(loose, {"indoor": 0.2}) == set()


def test_a_choice_that_would_leave_another_group_without_a_label_is_not_made():
    names = ("car", "bike", "a", "b", "x", "y")
    # Both a and b imply a vehicle, and so do x and y; only (a, x) and (b, y) can be true together.
    two = Settlement.of(
        [(("car", "bike"), False), (("a", "b"), False), (("x", "y"), False)],
        {"a": ("car",), "b": ("bike",), "x": ("car",), "y": ("bike",)},
        names,
    )
    found = settled(two, {"a": 0.9, "y": 0.95, "car": 0.9, "bike": 0.95}, names)
    assert found in ({"a", "x", "car"}, {"b", "y", "bike"})
    assert all(two.possible(label) for label in range(len(names)))


def test_the_groups_that_imply_others_come_first():
    names = ("car", "bike", "sedan", "racer", "day", "night")
    nested = Settlement.of(
        [(("car", "bike"), False), (("sedan", "racer"), False), (("day", "night"), False)],
        {"sedan": ("car",), "racer": ("bike",)},
        names,
    )
    assert nested.entangled == (1, 0)
    assert settled(nested, {"sedan": 0.6, "car": 0.6, "bike": 0.9, "day": 0.1}, names) == {"sedan", "car", "day"}
