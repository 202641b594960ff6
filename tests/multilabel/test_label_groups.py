"""LabelGroups: read from YAML, refused where they contradict themselves, and what is left of them for fewer labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgepress.multilabel.errors import InputError
from edgepress.multilabel.label_groups import LabelGroups, is_groups_file
from edgepress.multilabel.labels import LabelSpace


def read(tmp_path: Path, text: str) -> LabelGroups:
    file = tmp_path / "labels.yaml"
    file.write_text(text)
    return LabelGroups.read(file)


def test_both_kinds_and_implications_are_read(tmp_path):
    found = read(
        tmp_path,
        "one_of:\n  - [front, side, back]\n  - [day, night]\n"
        "at_most_one_of: [rain, snow]\nimplies:\n  sparrow: bird\n  bird: [animal]\n",
    )
    assert found.one_of == (("front", "side", "back"), ("day", "night"))
    assert found.at_most_one_of == (("rain", "snow"),)
    assert found.closure() == {"sparrow": ("bird", "animal"), "bird": ("animal",)}
    assert LabelGroups.model_validate_json(found.model_dump_json()) == found
    assert read(tmp_path, found.as_yaml()) == found


def test_names_are_taken_as_they_are_written(tmp_path):
    found = read(tmp_path, "one_of: [no, on, 1]\nimplies:\n  off: 'true'\n")
    assert found.one_of == (("no", "on", "1"),)
    assert found.implies == {"off": ("true",)}
    assert read(tmp_path, found.as_yaml()) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("one_of: [[a, b], [b, c]]", "'b' is in two groups: one of a, b, and one of b, c"),
        ("one_of: [[a, b]]\nat_most_one_of: [[b, c]]", "'b' is in two groups"),
        ("one_of: [a, b, a]", "'a' is twice in a group"),
        ("one_of: [[a]]", "a group of 1 labels (a); expected at least two"),
        ("implies: {a: b, b: c, c: a}", "circle: a -> b -> c -> a"),
        ("implies: {a: a}", "circle: a -> a"),
        ("one_of: [a, b]\nimplies: {a: b}", "'a' implies 'b', but one of a, b: they exclude each other"),
        ("one_of: [a, b]\nimplies: {a: x, x: b}", "'a' implies 'b'"),
        ("one_of: [a, b]\nimplies: {x: [a, b]}", "'x' implies both 'a' and 'b'"),
        # One of the fine labels is always true, and none of them is a person.
        (
            "one_of: [[car, bike, person], [sedan, suv, racer]]\nimplies: {sedan: car, suv: car, racer: bike}",
            "'person' could be true of no picture",
        ),
        ("one-of: [a, b]", "unknown key 'one-of'; did you mean 'one_of'?"),
        (
            "one_of: {a: b}",
            "line 1 (one_of: {a: b}): expected lists of labels, such as one_of: [[front, back], [day, night]]",
        ),
        ("one_of: [[a, [b]]]", "line 1 (one_of: [[a, [b]]]): expected names of labels, such as one_of: [[front"),
        ("one_of:\n  - a\n  - [b, c]", "line 2 (- a): expected names of labels, such as one_of: [[front, back]"),
        ("implies: [a, b]", "line 1 (implies: [a, b]): expected labels and what each implies, such as"),
        ("implies: {a: {b: c}}", "implies a, line 1 (implies: {a: {b: c}}): expected labels and what each"),
        ("implies: {a: b, a: c}", "'a' is given twice"),
        ("- a", "line 1 (- a): expected keys and their values, such as one_of: [[front, back]], and on a line of its"),
        ("one_of: [a, b", "not YAML (line 1 (one_of: [a, b): expected ',' or ']'"),
        ("one_of: [a, b", "expected keys and their values, such as one_of: [[front, back]]"),
        ("", "expected keys"),
    ],
)
def test_what_contradicts_itself_is_refused_by_name(tmp_path, text, said):
    with pytest.raises(InputError, match=r"labels\.yaml") as refused:
        read(tmp_path, text)
    assert said in str(refused.value)


def test_a_hierarchy_of_groups_can_be_kept(tmp_path):
    text = "one_of: [[car, bike], [sedan, suv, racer]]\nimplies: {sedan: car, suv: car, racer: bike}"
    assert read(tmp_path, text).one_of[0] == ("car", "bike")
    # With none of the fine labels allowed, a coarse one without a fine one is possible.
    looser = "one_of: [[car, bike, person]]\nat_most_one_of: [sedan, suv]\nimplies: {sedan: car, suv: car}"
    assert read(tmp_path, looser).at_most_one_of == (("sedan", "suv"),)


def test_a_long_chain_is_followed():
    chain = {f"l{number}": (f"l{number + 1}",) for number in range(3000)}
    assert len(LabelGroups(implies=chain).closure()["l0"]) == 3000


def test_every_fault_of_a_file_is_named_at_once(tmp_path):
    text = "one_of: [[front, bakc], [day, night, day]]\nat_most_one_off: [a]\n"
    text += "implies: {x: y, y: x, u: v, v: u, day: [dya]}"
    file = tmp_path / "labels.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=r"labels\.yaml: 6 faults: ") as refused:
        LabelGroups.read(file, LabelSpace(("front", "back", "day", "night", "x", "y", "u", "v")))
    for said in (
        "(1) unknown key 'at_most_one_off'; did you mean 'at_most_one_of'?",
        "'bakc' is no label of the data set",
        "did you mean 'back'",
        "'dya' is no label",
        "'day' is twice in a group",
        "x -> y -> x",
        "(6) implications go round in a circle: u -> v -> u",
    ):
        assert said in str(refused.value)
    with pytest.raises(ValueError, match="2 faults"):
        LabelGroups(one_of=(("a", "b"), ("b", "c"), ("c", "d")))


def test_for_fewer_labels_a_group_may_have_none_and_implications_go_on():
    groups = LabelGroups(one_of=(("a", "b", "c"), ("d", "e")), implies={"x": ("y",), "y": ("z",)})
    left = groups.select(LabelSpace(("a", "b", "d", "x", "z")))
    assert left.one_of == ()
    assert left.at_most_one_of == (("a", "b"),)
    assert left.implies == {"x": ("z",)}
    assert groups.select(LabelSpace(groups.names)) == groups
    among = groups.among(LabelSpace(("a", "b", "d", "x", "z")))
    assert (among.one_of, among.at_most_one_of, among.implies) == ((("a", "b"),), (), {})


def test_another_programs_file_is_told_apart_from_a_mistyped_one(tmp_path):
    file = tmp_path / "labels.yaml"
    for text, ours in (("one_of: [a, b]", True), ("implise: {a: b}", True), ("names: [a]", False), ("- a", False)):
        file.write_text(text)
        assert is_groups_file(file) == ours
