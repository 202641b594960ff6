"""Where a YAML file is wrong: the line that a person has to look at, in their own words."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from edgepress.multilabel.yaml_lines import not_yaml


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("one_of: [flag, sign\n", "line 1 (one_of: [flag, sign): expected ',' or ']', but got the end of the file"),
        ("implies:\n  a: b\none_of: [a, b\nx: y\n", "line 3 (one_of: [a, b): expected ',' or ']', but got ':'"),
        ("a: b\none_of: 'a\nb\n\nc: d\n", "line 2 (one_of: 'a): found unexpected end of stream"),
        ("one_of:\n  - [a, b]\n - [c]\n", "line 3 (- [c]): expected a key, but found a list"),
        ("implies:\n  a: b: c\n", "line 2 (a: b: c): mapping values are not allowed here"),
        ("x: 1\r\n\tone_of: x", "found character"),
        ("a: \x07", "special characters are not allowed"),
    ],
)
def test_the_line_is_the_one_to_look_at(text, said):
    with pytest.raises(yaml.YAMLError) as caught:
        yaml.compose(text, Loader=yaml.SafeLoader)
    told = str(not_yaml(Path("labels.yaml"), caught.value, "an example"))
    assert told.startswith("labels.yaml: not YAML (")
    assert said in told
    assert told.endswith("); expected an example")
    assert "\n" not in told
