"""The names of a finished model's outputs are read from the files that it comes with, or refused by what they are."""

from __future__ import annotations

import pytest

from edgepress.multilabel.errors import InputError
from edgepress.multilabel.output_names import output_names


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tags.txt", "1girl\nsea, old\n"),
        ("tags.json", '["1girl", "sea, old"]'),
        ("config.json", '{"model_type": "vit", "id2label": {"1": "sea, old", "0": "1girl"}}'),
        ("label2id.json", '{"sea, old": 1, "1girl": 0}'),
        ("selected_tags.csv", 'tag_id,name,category,count\r\n9,1girl,0,5\r\n4,"sea, old",0,3\r\n'),
    ],
)
def test_names_are_in_the_order_of_the_outputs(name, text, tmp_path):
    (tmp_path / name).write_text(text, newline="")
    assert output_names(tmp_path / name).names == ("1girl", "sea, old")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("tags.txt", "0 cat\n1 dog\n", r"its lines are numbered \('0 cat'\)"),
        ("names.yaml", "0: cat\n1: dog\n", r"names are not read from \.yaml; .* in a \.txt, a \.json or a \.csv"),
        ("tags.txt", "cat: 0\ndog: 1\n", r"its lines end with numbers \('cat: 0'\)"),
        ("tags.txt", '"cat"\n"dog"\n', "its lines are in quotes or brackets"),
        ("tags.txt", "['cat', 'dog']\n", "its lines are in quotes or brackets"),
        ("tags.csv", "id,name\n1,dog\n0,cat\n", "column 'id' numbers the rows in another order than theirs"),
        ("tags.csv", "name,Class Index\ndog,2\ncat,1\n".replace(" ", "_"), "column 'Class_Index' numbers the rows"),
        ("tags.json", '{"1": "cat", "2": "dog"}', "with the numbers of the outputs from 0 on"),
        ("tags.json", '{"0": "cat", "2": "dog"}', "with the numbers of the outputs from 0 on"),
        ("tags.json", '["cat", 3]', "label 2 is 3: expected a name"),
        ("tags.json", "[", "not JSON"),
        ("tags.csv", "0,cat\n1,dog\n", "its first row is 0, cat; expected a header with one column of names"),
        ("tags.csv", "name,label\na,b\n", "one column of names"),
        ("tags.csv", "id,name\n1,cat\n2,dog,old\n", "row 3: 3 cells for 2 columns"),
        ("tags.csv", "", "its first row is nothing"),
        ("tags.csv", "name\ncat\ncat\n", "'cat' occurs twice"),
        ("tags.csv", 'id,name\n0,"sea\nside"\n', r"label 1 is 'sea\\nside': expected a name on one line"),
        ("tags.csv", "id,name\n0,sea\u2028side\n", "expected a name on one line"),
        ("tags.csv", 'name\n"cat\ndog\nsea\n', "expected a name on one line"),
        ("tags.csv", f"name\n{'a' * 140_000}\n", "not a table of CSV .*; expected label names"),
    ],
)
def test_what_is_no_list_of_names_is_refused(name, text, said, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=said):
        output_names(tmp_path / name)


def test_names_that_begin_with_numbers_are_names(tmp_path):
    (tmp_path / "tags.txt").write_text("1 girl\n2 girls\nsolo\n")
    assert output_names(tmp_path / "tags.txt").names == ("1 girl", "2 girls", "solo")


@pytest.mark.parametrize("names", [("grade 0", "grade 1"), ("grade:0", "grade:1", "size:2"), ("1 star", "2 star")])
def test_numbers_without_which_two_names_are_the_same_are_part_of_them(names, tmp_path):
    (tmp_path / "tags.txt").write_text("\n".join(names))
    assert output_names(tmp_path / "tags.txt").names == names


def test_other_names_with_their_numbers_are_read_from_a_list(tmp_path):
    (tmp_path / "tags.txt").write_text("grade:0\nsize:1\n")
    with pytest.raises(InputError, match=r"end with numbers .*\. Names that have such numbers are read from a \.json"):
        output_names(tmp_path / "tags.txt")
    (tmp_path / "tags.json").write_text('["grade:0", "size:1"]')
    assert output_names(tmp_path / "tags.json").names == ("grade:0", "size:1")
