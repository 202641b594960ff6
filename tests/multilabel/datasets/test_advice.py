"""A table that cannot be read as it is: the first message names every option that it needs."""

from __future__ import annotations

import shlex
import subprocess

import numpy as np
import pytest

from edgepress.multilabel.datasets import list_splits, load_dataset
from tests.multilabel.layouts import check, picture, refusal, write_csv

TARGETS = [[1, 1], [1, 0], [0, 1]]
SPLITS = ["Training", "Training", "Training", "Training", "Validierung", "Validierung"]


def options_in(message: str, after: str) -> dict[str, str]:
    """The options that a message gives after some of its words, as a shell reads them."""
    words = shlex.split(message.partition(after)[2].partition(";")[0])
    return {flag[2:].replace("-", "_"): value for flag, value in zip(words[::2], words[1::2], strict=True)}


@pytest.mark.parametrize(
    ("lines", "after"),
    [
        (
            ["Dateiname;Schlagwörter;Breite;Anteil", "a.jpg;Hund, Kätzchen;640;0,5", "b.jpg;Hund;640;1,0",
             "c.jpg;Kätzchen;320;0"],
            "if 'Schlagwörter' lists labels: ",
        ),
        (
            ["Nr;Datei;Etiketten;Menge", "1;a.jpg;Hund Kätzchen;1,0", "2;b.jpg;Hund;0,0", "3;c.jpg;Kätzchen;1,0"],
            "if 'Etiketten' lists labels: ",
        ),
        (
            ["Dateiname;Hund;Kätzchen;Größe", "a.jpg;1,0;1,0;3,5", "b.jpg;1,0;0,0;2,5", "c.jpg;0,0;1,0;1,5"],
            "if the labels are 'Hund' and 'Kätzchen' alone: ",
        ),
        (
            ["Bild;Hund;Kätzchen", "a.jpg;ja;ja", "b.jpg;ja;nein", "c.jpg;nein;ja"],
            "if 'Hund' and 'Kätzchen' are labels: ",
        ),
        (["Bild;Hund;Kätzchen", "a.jpg;x;x", "b.jpg;x;", "c.jpg;;x"], "if 'Hund' and 'Kätzchen' are labels: "),
        (
            ["Bild;Hund;Breite;Kätzchen", "a.jpg;WAHR;640;WAHR", "b.jpg;WAHR;640;FALSCH", "c.jpg;FALSCH;32;WAHR"],
            "if 'Hund' and 'Kätzchen' are labels: ",
        ),
    ],
)  # fmt: skip
def test_a_table_as_german_excel_saves_it_needs_one_message(tmp_path, lines, after):
    root = write_csv(tmp_path)
    (root / "test.csv").write_bytes("".join(f"{line}\r\n" for line in lines).encode("cp1252"))
    data = load_dataset(root, **options_in(refusal(root), after))
    assert data.labels.names == ("Hund", "Kätzchen")
    np.testing.assert_array_equal(data.targets, TARGETS)
    assert not data.ignore.any()


def test_words_of_which_nobody_knows_the_meaning(tmp_path):
    root = write_csv(tmp_path, "path,cat,dog", "a.jpg,A,B", "b.jpg,B,A")
    message = refusal(root)
    assert "if 'cat' and 'dog' are labels: --values 'yes=...,no=...' with A, B in these places" in message
    assert "if 'cat' lists labels: --label-columns 'cat'; if 'dog' lists labels: --label-columns 'dog'" in message


def test_numbers_that_are_no_answers(tmp_path):
    root = write_csv(tmp_path, "path,cat", "a.jpg,0.7", "b.jpg,0.2")
    assert "--label-columns says which columns are labels, --values what their values mean" in refusal(root)


def test_a_column_whose_few_words_repeat_may_say_the_split(tmp_path):
    rows = [
        f"{name}.jpg;{split};1;{number % 2}" for number, (name, split) in enumerate(zip("abcdef", SPLITS, strict=True))
    ]
    root = write_csv(tmp_path, "Datei;Teilmenge;Hund;Katze", *rows)
    for shade, name in enumerate("def", start=3):
        picture(root / f"{name}.jpg", shade)
    message = refusal(root)
    assert "if 'Teilmenge' says which split a picture is in: --split-column 'Teilmenge'" in message
    assert load_dataset(root, "Training", split_column="Teilmenge").labels.names == ("Hund", "Katze")


@pytest.mark.parametrize("cells", [["16 0", "7 16 0", "5"], ['"16,0,5"', '"7,16"', '"5"']])
def test_a_column_that_lists_labels_by_their_numbers(tmp_path, cells):
    root = write_csv(tmp_path, "Id,Target", *(f"{name},{cell}" for name, cell in zip("abc", cells, strict=True)))
    data = load_dataset(root, **options_in(refusal(root), "if 'Target' lists labels by their numbers: "))
    assert data.labels.names == ("0", "16", "5", "7")
    assert data.targets.sum() == sum(len(cell.replace(",", " ").split()) for cell in cells)


def test_a_column_that_cannot_be_left_out_by_naming_others(tmp_path):
    root = write_csv(tmp_path, "file,race,is_test", "a.jpg,x,True", "b.jpg,y,False", "c.jpg,x,False")
    assert "--label-columns leaves it out" in refusal(root)


def test_scores_of_a_model_are_told_to_be_cut_by_a_threshold(tmp_path):
    said = refusal(write_csv(tmp_path, "path,cat,dog", "a.jpg,0.98,1e-05", "b.jpg,0.2,0.9", "c.jpg,1,0"))
    assert "numbers between 0 and 1 are no answers: write 1 or 0 for them, after a threshold of your own" in said
    assert "lists labels" not in said


def test_runs_of_pixels_are_no_list_of_labels_and_the_number_beside_them_is(tmp_path):
    root = write_csv(tmp_path, "ImageId,ClassId,EncodedPixels", "a.jpg,1,1 2 9 4", "b.jpg,3,5 1", "c.jpg,2,7 1 9 2")
    message = refusal(root)
    assert "if 'ClassId' is the number of a label: --label-columns 'ClassId'" in message
    assert "--label-columns 'EncodedPixels'" not in message
    check(
        load_dataset(root, label_columns="ClassId"),
        "123",
        ["a.jpg", "b.jpg", "c.jpg"],
        [[1, 0, 0], [0, 0, 1], [0, 1, 0]],
    )


@pytest.mark.parametrize(
    "rows",
    [
        ["a.jpg,x,1", "b.jpg,,0", "c.jpg,x,0"],
        ["a.jpg,x,ja", "b.jpg,,nein", "c.jpg,x,nein"],
        ["a.jpg,x,✓", "b.jpg,,", "c.jpg,x,"],
        ["a.jpg,x,true", "b.jpg,,false", 'c.jpg,x,"0,0"'],
    ],
)
def test_columns_with_different_marks_need_one_message(tmp_path, rows):
    root = write_csv(tmp_path, "path,cat,dog", *rows)
    said = refusal(root)
    after = next(one for one in ("if 'cat' and 'dog' are labels: ", "if 'cat' is a label: ") if one in said)
    data = load_dataset(root, **options_in(said, after))
    assert data.labels.names == ("cat", "dog")
    np.testing.assert_array_equal(data.targets, [[1, 1], [0, 0], [1, 0]])
    assert not data.ignore.any()


@pytest.mark.parametrize(("header", "third"), [("confidence", "0.9"), ("negative", "sea"), ("test", "1")])
@pytest.mark.parametrize("listed", ['"cat, dog"', "cat dog"])
def test_a_list_beside_a_doubtful_column_needs_one_message(tmp_path, header, third, listed):
    root = write_csv(tmp_path, f"path,tags,{header}", f"a.jpg,{listed},{third}", f"b.jpg,dog,{third}", "c.jpg,cat,0")
    option = refusal(root).partition("--label-columns ")[2]
    given = shlex.split(option.partition(" leaves")[0].partition(" takes")[0])
    data = load_dataset(root, label_columns=given[0], separator=given[given.index("--separator") + 1])
    assert data.labels.names == ("cat", "dog")
    np.testing.assert_array_equal(data.targets, [[1, 1], [0, 1], [1, 0]])


def test_shares_are_told_also_where_most_columns_are_answers(tmp_path):
    said = refusal(
        write_csv(tmp_path, "path,cat,dog,sky,note", "a.jpg,1,0,1,0.3", "b.jpg,1,0,1,0.7", "c.jpg,1,1,1,x-ray")
    )
    assert "alone: --label-columns 'cat,dog,sky'; numbers between 0 and 1 are no answers: " in said


EMPTY_IS_NO = "there empty=no takes every empty cell for a no, and without it nobody knows what these cells mean"
EMPTY_IS_UNKNOWN = "; empty cells then stay unknown, also in 'cat', where no other cell says no: write a no into those"


def test_what_is_advised_for_empty_cells_says_what_it_does(tmp_path):
    """Beside cells of no, an empty one is unknown; `empty=no` would make it a no without a word."""
    said = refusal(write_csv(tmp_path, "path,cat,dog", "a.jpg,x,x", "b.jpg,x,", "c.jpg,,x"))
    assert f"--values 'yes=x,empty=no'; {EMPTY_IS_NO}" in said
    root = write_csv(tmp_path, "path,cat,dog", "a.jpg,x,1", "b.jpg,,0", "c.jpg,x,")
    said = refusal(root)
    assert "empty=no" not in said
    assert EMPTY_IS_UNKNOWN in said
    data = load_dataset(root, **options_in(said, "if 'cat' is a label: "))
    check(data, ["cat", "dog"], ["a.jpg", "b.jpg", "c.jpg"], [[1, 1], [0, 0], [1, 0]], [[0, 0], [1, 0], [0, 1]])


def test_nothing_is_said_of_empty_cells_where_there_are_none(tmp_path):
    said = refusal(write_csv(tmp_path, "path,cat,dog", "a.jpg,ja,?", "b.jpg,?,ja", "c.jpg,ja,ja"))
    assert "--values 'yes=ja,unknown=?'" in said
    assert "empty cell" not in said
    assert "empty=no" not in said


NAMES = ["it's", "big, cat", 'a "cat"', "$HOME", "a\\b", "tab\there", "wide\u3000space"]


def in_csv(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def as_a_shell_reads(option: str) -> list[str]:
    """The words of an option, as the shell that it is pasted into makes them."""
    told = subprocess.run(["bash", "-c", f"printf '%s\\0' {option}"], capture_output=True, check=True, text=True)
    return told.stdout.split("\0")[:-1]


@pytest.mark.parametrize("name", NAMES)
def test_an_option_for_any_name_works_when_it_is_pasted(tmp_path, name):
    root = write_csv(tmp_path, f"path,{in_csv(name)},size", "a.jpg,cat/dog,x1", "b.jpg,dog,x2", "c.jpg,cat,x3")
    option = refusal(root).partition("lists labels: ")[2].partition(";")[0]
    flag, columns, mark, separator = as_a_shell_reads(option)
    assert (flag, mark) == ("--label-columns", "--separator")
    data = load_dataset(root, label_columns=columns, separator=separator)
    check(data, ["cat", "dog"], ["a.jpg", "b.jpg", "c.jpg"], [[1, 1], [0, 1], [1, 0]])


@pytest.mark.parametrize("name", NAMES)
def test_columns_that_are_left_when_one_is_doubtful_are_named_for_a_shell(tmp_path, name):
    root = write_csv(tmp_path, f"path,{in_csv(name)},is_valid", "a.jpg,1,1", "b.jpg,0,1", "c.jpg,1,0")
    option = "--label-columns" + refusal(root).partition("--label-columns")[2].partition(" leaves it out")[0]
    _, columns = as_a_shell_reads(option)
    assert load_dataset(root, label_columns=columns).targets.tolist() == [[1], [0], [1]]


@pytest.mark.parametrize("name", NAMES)
def test_a_column_that_may_say_the_split_is_named_for_a_shell(tmp_path, name):
    root = write_csv(tmp_path, f"path,cat,{in_csv(name)}", "a.jpg,1,west", "b.jpg,0,west", "c.jpg,1,ost", "a.jpg,1,ost")
    option = "--split-column" + refusal(root).partition("--split-column")[2].partition(";")[0]
    _, column = as_a_shell_reads(option)
    assert column == name
    assert list_splits(root, split_column=column) == ["ost", "west"]


def test_columns_that_list_labels_together_have_their_separator(tmp_path):
    root = write_csv(tmp_path, "file,label1,label2", "a.jpg,boat/dock,", "b.jpg,dock,boat", "c.jpg,,dock")
    data = load_dataset(root, **options_in(refusal(root), "if 'label1' and 'label2' do: "))
    check(data, ["boat", "dock"], ["a.jpg", "b.jpg", "c.jpg"], [[1, 1], [1, 1], [0, 1]])
