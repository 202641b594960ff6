"""Label groups of a data set: found beside it or named, told where labels break them, part of its fingerprint."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.label_groups import NO_GROUPS, LabelGroups
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.shards import write_shards


@pytest.fixture
def data(tiny_data, tmp_path):
    return shutil.copytree(tiny_data, tmp_path / "data")


def test_labels_yaml_beside_the_pictures_is_read(data, tiny_data):
    (data / "labels.yaml").write_text("at_most_one_of: [circle, bars]\n")
    found = load_dataset(data, "train")
    assert found.groups.at_most_one_of == (("circle", "bars"),)
    assert any("labels break label groups" in note and "circle, bars" in note for note in found.notes)
    assert found.fingerprint() != load_dataset(tiny_data, "train").fingerprint()
    assert found.with_labels(LabelSpace(("bars", "red"))).groups.exclusive == ()


def test_a_named_file_wins_and_says_so(data, tmp_path):
    (data / "labels.yaml").write_text("at_most_one_of: [circle, bars]\n")
    other = tmp_path / "other.yaml"
    other.write_text("implies: {circle: red}\n")
    found = load_dataset(data, "train", label_groups=str(other))
    assert found.groups.implies == {"circle": ("red",)}
    assert any(str(other) in note for note in found.notes)


def test_another_programs_labels_yaml_is_passed_over_with_a_word(data):
    (data / "labels.yaml").write_text("names: [a]\n")
    found = load_dataset(data, "train")
    assert not found.groups
    assert any("passed over" in note for note in found.notes)


def test_a_file_with_the_other_suffix_is_passed_over_with_a_word(data):
    (data / "labels.yml").write_text("one_of: [red, green]\n")
    found = load_dataset(data, "train")
    assert not found.groups
    assert any("labels.yml: passed over, since label groups are read from labels.yaml" in note for note in found.notes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "one_of: [red, blu]",
            "'blu' is no label of the data set (red, green, blue, circle, bars); did you mean 'blue'?",
        ),
        ("one_of: []", "expected at least two"),
    ],
)
def test_bad_groups_are_refused_before_anything_else(data, text, said):
    (data / "labels.yaml").write_text(text)
    with pytest.raises(InputError) as refused:
        load_dataset(data, "train")
    assert said in str(refused.value)


def test_data_lists_every_broken_rule_and_exits_2_for_bad_groups(edgepress, data):
    (data / "labels.yaml").write_text("one_of: [circle, bars]\n")
    found = edgepress("data", data, "--split", "train", "--json").json["splits"]["train"]["broken_rules"]
    assert {one["rule"] for one in found} == {
        "several true: one of circle, bars",
        "none true: one of circle, bars",
    }
    rows = [json.loads(line) for line in (data / "train" / "metadata.jsonl").read_text().splitlines()]
    both = sum({"circle", "bars"} <= set(row["labels"]) for row in rows)
    assert len(found[0]["pictures"]) == both > 0
    assert "labels break a rule: several true: one of circle, bars" in edgepress("data", data, "--split", "train").out
    (data / "labels.yaml").write_text("implies: {circle: bars, bars: circle}\n")
    refused = edgepress("data", data)
    assert refused.code == 2
    assert "circle -> bars -> circle" in refused.err


def test_shards_take_the_groups_along(data, tmp_path):
    (data / "labels.yaml").write_text("at_most_one_of: [circle, bars]\n")
    whole = load_dataset(data, "val")
    write_shards([whole], tmp_path / "shards", shard_bytes=10**6)
    read = load_dataset(tmp_path / "shards", "val")
    assert read.groups == whole.groups
    assert read.fingerprint() == whole.fingerprint()
    write_shards([whole], tmp_path / "shards", shard_bytes=10**6)  # what is finished is kept
    with pytest.raises(InputError, match="holds other label groups"):
        write_shards(
            [replace(whole, groups=LabelGroups(implies={"red": ("bars",)}))], tmp_path / "shards", shard_bytes=10**6
        )
    write_shards([replace(whole, groups=NO_GROUPS)], tmp_path / "plain", shard_bytes=10**6)
    assert not (tmp_path / "plain" / "labels.yaml").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("one_of: [circle, bars]", "; take it out here, and move the others of its group to at_most_one_of, since a "),
        ("at_most_one_of: [circle, bars]", "; take it out here"),
        ("implies: {bars: red}", "; take it out here"),
    ],
)
def test_a_name_that_is_told_to_be_no_label_is_in_no_group(data, text, said):
    (data / "labels.yaml").write_text(text)
    with pytest.raises(InputError) as refused:
        load_dataset(data, "train", no_label="bars")
    assert f"labels.yaml: 'bars' is no label, because --no-label names it{said}" in str(refused.value)
    assert "did you mean" not in str(refused.value)
    assert load_dataset(data, "train").groups
