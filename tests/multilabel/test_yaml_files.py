"""YAML that people write: what a value is, and that nothing which is given twice is lost."""

from __future__ import annotations

import math

import pytest
import yaml

from edgepress.multilabel.errors import InputError
from edgepress.multilabel.yaml_files import settings_of, texts_in, texts_of


@pytest.fixture
def file(tmp_path):
    def written(text: str):
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return written


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("0160", 160),  # 112 in YAML 1.1
        ("-7", -7),
        ("0o17", 15),
        ("0x1F", 31),
        ("2:40", "2:40"),  # 160 in YAML 1.1
        ("1e-3", 0.001),  # a text in YAML 1.1
        ("1.5", 1.5),
        (".5", 0.5),
        ("-.inf", -math.inf),
        ("true", True),
        ("False", False),
        ("no", "no"),  # False in YAML 1.1
        ("on", "on"),
        ("2026-12-01", "2026-12-01"),  # a date in YAML 1.1
        ("=", "="),
        ("null", None),
        ("~", None),
        ("", None),
        ("'160'", "160"),
        ("[yes, 1]", ["yes", 1]),
    ],
)
def test_a_setting_is_what_yaml_1_2_says(file, written, meant):
    found = settings_of(file(f"\ufeffkey: {written}\n"), "a recipe")
    assert found == {"key": meant}
    assert type(found["key"]) is type(meant)


def test_settings_may_be_merged(file):
    text = "teach: &both {size: 64, epochs: 3}\ndistill:\n  <<: *both\n  epochs: 4\n"
    assert settings_of(file(text), "a recipe")["distill"] == {"size": 64, "epochs": 4}


def test_what_was_merged_may_be_merged_again(file):
    text = "a: &a {x: 1}\nb:\n  inner: &b {<<: *a, x: 2}\nc: {<<: *b, y: 3}\n"
    assert settings_of(file(text), "a recipe")["c"] == {"x": 2, "y": 3}


@pytest.mark.parametrize("read", [settings_of, texts_of])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("teach: {epochs: 5}\nseed: 1\nteach: {lr: 1}\n", "line 3 (teach: {lr: 1}): the key 'teach' is given twice"),
        ("teach:\n  lr: 1\n  lr: 2\n", "line 3 (lr: 2): the key 'lr' is given twice; expected it once"),
        ("- {a: 1, 'a': 2}\n", "line 1 (- {a: 1, 'a': 2}): the key 'a' is given twice"),
        ("a: [", "not YAML (line 1"),
        ("a: \x07", "not YAML"),
    ],
)
def test_what_would_be_lost_is_refused(file, read, text, said):
    with pytest.raises(InputError) as caught:
        read(file(text), "a recipe")
    assert said in str(caught.value)


def test_a_tag_makes_nothing(file):
    path = file("a: !!python/object:os.system x")
    assert texts_of(path, "names") == {"a": "x"}
    with pytest.raises(InputError, match=r"not YAML \(line 1"):
        settings_of(path, "a recipe")


def test_a_file_that_cannot_be_read_is_told_with_what_was_expected(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.*: cannot be read .*; expected a recipe"):
        settings_of(tmp_path / "nowhere", "a recipe")


def test_texts_are_as_they_are_written(file):
    text = "no: [1e5, null, 0160, '']\n1: {}\n"
    assert texts_of(file(text), "names") == texts_in(text) == {"no": ["1e5", "null", "0160", ""], "1": {}}
    with pytest.raises(yaml.YAMLError, match="given twice"):
        texts_in("a: 1\na: 2\n")
