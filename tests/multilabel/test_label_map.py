"""Labels of a teacher and of a data set: found by name, told by a person, never guessed."""

from __future__ import annotations

import pytest

from edgepress.multilabel.errors import InputError
from edgepress.multilabel.label_map import LabelMap, Taken, match_labels
from edgepress.multilabel.labels import LabelSpace

OURS = LabelSpace(("dog", "t-shirt", "car", "person", "sofa"))
THEIRS = LabelSpace(("hat", "Golden Retriever", "T_Shirt", "sedan", "suv", "man", "woman", "bus"))
WHOLE = """
dog: Golden Retriever
car: [sedan, suv]
person: {noisy-or: [man, woman]}
sofa: null
"""


def written(tmp_path, text: str | bytes):
    file = tmp_path / "map.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_one_several_and_none_of_theirs_answer_for_one_of_ours(tmp_path):
    given = LabelMap.read(written(tmp_path, WHOLE))
    match = match_labels(OURS, THEIRS, given, "the teacher")
    assert match.columns == ((1,), (2,), (3, 4), (5, 6), ())
    assert match.combine == ("max", "max", "max", "noisy-or", "max")
    assert match.known.tolist() == [True, True, True, True, False]
    assert match.single.tolist() == [True, True, False, False, False]
    assert not match.same
    assert match.told == (
        f"the teacher: 4 of 5 labels are found, 1 by name but for case and separators (t-shirt = T_Shirt), 3 by "
        f"{tmp_path}/map.yaml; it does not teach sofa, which it lacks; 2 of its 8 labels are not used"
    )


def test_equal_labels_are_no_news_and_another_order_is_found_by_name():
    assert match_labels(OURS, OURS, None, "the teacher").same
    assert match_labels(OURS, OURS, None, "the teacher").told == ""
    turned = match_labels(OURS, LabelSpace(OURS.names[::-1]), None, "the teacher")
    assert turned.columns == ((4,), (3,), (2,), (1,), (0,))
    assert turned.told == "the teacher: 5 of 5 labels are found, 5 by name"


def test_three_thousand_tags_of_which_thirty_matter():
    names = [f"tag {number}" for number in range(3000)]
    match = match_labels(
        LabelSpace(tuple(f"Tag-{number}" for number in range(0, 3000, 100))), LabelSpace(tuple(names)), None, "big"
    )
    assert match.columns == tuple((number,) for number in range(0, 3000, 100))
    assert "30 of 30 labels are found" in match.told
    assert match.told.endswith("2970 of its 3000 labels are not used")


def test_names_are_those_that_are_written(tmp_path):
    """YAML reads no, on, 1 and 2024-01-01 as other things than text."""
    given = LabelMap.read(written(tmp_path, "no: on\n1: 2024-01-01\n'null': yes\n~x: 'null'\n"))
    assert given.entries == {
        "no": Taken(("on",)),
        "1": Taken(("2024-01-01",)),
        "null": Taken(("yes",)),
        "~x": Taken(("null",)),
    }
    decomposed = LabelMap.read(written(tmp_path, "cafe\u0301: a"))
    assert list(decomposed.entries) == ["caf\u00e9"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dgo: hat", r"map.yaml: 'dgo' is no label of the data set .*; did you mean 'dog'\?"),
        (
            "dog: Golden Retreiver",
            r"map.yaml: 'Golden Retreiver', for 'dog', is no label of .*; did you mean 'Golden Retriever'\?",
        ),
        ("dog: hat\ncar: sedan\ndog: bus", "map.yaml, line 3: the label 'dog' is mapped twice"),
        ("dog: hat\ncar: [sedan, hat]", "map.yaml: its 'hat' is mapped twice, to 'dog' and to 'car'; expected it once"),
        ("car: [sedan, sedan]", "its 'sedan' is mapped twice, to 'car' and to 'car'"),
        (
            "dog: T_Shirt",
            "its 'T_Shirt' is mapped twice, to 'dog' and to 't-shirt'; add t-shirt: null if 't-shirt' is not meant",
        ),
        ("car: {mean: [sedan, suv]}", "map.yaml, line 1: expected one of max, noisy-or, and a list of names"),
        ("car: []", "line 1: expected the teacher's names, or null where it has no such label"),
        ("car: {max: sedan}", "line 1: expected a list of the teacher's names for max"),
        ("car: [[sedan]]", "line 1: expected a label's name"),
        ("- dog", "map.yaml: expected the data set's labels as keys"),
        ("", "map.yaml: expected the data set's labels as keys"),
        ("dog: [hat", r"map.yaml: not YAML \("),
        (b"dog: \xff", r"map.yaml: not YAML \("),
    ],
)
def test_a_wrong_map_is_one_line(tmp_path, text, words):
    with pytest.raises(InputError, match=words) as error:
        match_labels(OURS, THEIRS, LabelMap.read(written(tmp_path, text)), "the teacher")
    assert "\n" not in str(error.value)


def test_a_map_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"absent.yaml: cannot be read \(No such file"):
        LabelMap.read(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        (
            ("t-shirt", "cat"),
            ("T Shirt", "t_shirt", "cat"),
            "'t-shirt' may be its 'T Shirt', 't_shirt', .* as t-shirt: T Shirt",
        ),
        (("t-shirt", "T-Shirt"), ("t_shirt", "cat"), "'t-shirt' may be its 't_shirt'"),
        (
            ("dog", "sofa"),
            ("hat", "bus"),
            r"none of its 2 labels \('hat', 'bus'\) is a label of the data set \('dog', 'sofa'\)",
        ),
        (("tshirt",), ("t-shirt",), "none of its 1 labels"),
    ],
)
def test_what_is_not_equal_is_not_guessed(ours, theirs, words):
    with pytest.raises(InputError, match=words):
        match_labels(LabelSpace(ours), LabelSpace(theirs), None, "the teacher")


def test_an_exact_name_is_taken_beside_others_of_its_form():
    match = match_labels(LabelSpace(("apple",)), LabelSpace(("Apple", "apple")), None, "the teacher")
    assert match.columns == ((1,),)
