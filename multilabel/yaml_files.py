"""YAML that people write: settings as YAML 1.2 reads them, or texts exactly as they are written.

PyYAML reads YAML 1.1. There `0160` is 112, `2:40` is 160, `no` is False and `2026-12-01` is a date. Of two equal keys
the last one counts without a word.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from edgepress.multilabel.errors import InputError
from edgepress.multilabel.yaml_lines import not_yaml

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_SCALARS: tuple[tuple[str, str, str], ...] = (
    ("null", r"null|Null|NULL|~|", "nN~\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", _INT.pattern, "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
)
"""Types of YAML 1.2's core schema, how they are written, and the characters that they begin with; of several types the
first one counts. All else is text. (`<<` is older; recipes may use it.)"""


class GivenTwiceError(yaml.MarkedYAMLError):
    """A mapping has a key twice."""


class _Unique(yaml.composer.Composer):
    """Refuses a mapping in which a key is given twice, as it is written: before `<<` adds the keys of another one."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    problem = f"the key {key.value!r} is given twice; expected it once"
                    raise GivenTwiceError(None, None, problem, key.start_mark)
                seen.add(key.value)
        return node


class _Settings(_Unique, yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 # PyYAML's own name for it

    def _whole(self, node: yaml.ScalarNode) -> int:
        return int(node.value, {"0o": 8, "0x": 16}.get(node.value[:2], 10))


for _name, _pattern, _first in _SCALARS:
    _Settings.add_implicit_resolver(
        f"tag:yaml.org,2002:{_name}",
        re.compile(f"(?:{_pattern})$"),
        [*_first.replace("\0", ""), *([""] * ("\0" in _first))],
    )
_Settings.add_constructor("tag:yaml.org,2002:int", _Settings._whole)


class _Texts(_Unique, yaml.BaseLoader):
    pass


def settings_of(path: Path, what: str) -> Any:
    """What a file of settings holds, as YAML 1.2 reads it: `no` and dates are texts, and `0160` is 160.

    Args:
        what: what the file is expected to be, such as `a recipe (YAML)`.

    Raises:
        InputError: it cannot be read, or is no YAML, or has a key twice; names the line.
    """
    return _loaded(path, what, _Settings)


def texts_of(path: Path, what: str) -> Any:
    """What a file of names holds: mappings, lists, and texts as they are written, whatever they look like.

    Raises:
        InputError: as `settings_of`.
    """
    return _loaded(path, what, _Texts)


def texts_in(text: str) -> Any:
    """The same of a text.

    Raises:
        yaml.YAMLError: it is no YAML, or has a key twice.
    """
    return yaml.load(text, _Texts)  # noqa: S506 # it makes texts, lists and mappings alone


def _loaded(path: Path, what: str, loader: Any) -> Any:
    try:
        return yaml.load(path.read_text(encoding="utf-8-sig"), loader)  # noqa: S506 # both are safe loaders
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected {what}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise not_yaml(path, error) from None
