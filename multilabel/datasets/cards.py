"""The card of a data set (README.md on Hugging Face), which may say what numbered labels are called."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.columns import LIST_COLUMNS
from edgepress.multilabel.errors import InputError, shown


def class_names(root: Path) -> list[str]:
    """Names of numbered labels at the head of README.md (`dataset_info`, `class_label`); empty if there are none.

    Raises:
        InputError: they are not numbered from 0 on, or a key is given twice.
    """
    readme = root / "README.md"
    if not files.is_file(readme):
        return []
    head = re.match(r"---\n(.*?)\n---", files.read_text(readme, "the data set's card").replace("\r\n", "\n"), re.DOTALL)
    if head is None:
        return []
    import yaml  # few data sets have a card, and it takes megabytes

    from edgepress.multilabel.yaml_files import GivenTwiceError, texts_in
    from edgepress.multilabel.yaml_lines import not_yaml

    try:
        card = texts_in(f"\n{head[1]}")  # a label may be called no, null or 1e5; the first line is that of the dashes
    except GivenTwiceError as error:
        raise not_yaml(readme, error) from None
    except yaml.YAMLError:
        return []
    found = [names for key, names in _named(card) if key.lower() in LIST_COLUMNS]
    return _in_order(found[0], readme) if len(found) == 1 else []


def _in_order(names: dict[Any, Any] | list[Any], readme: Path) -> list[str]:
    """
    Raises:
        InputError: the numbers of the names have a gap.
    """
    if isinstance(names, list):
        return [str(name) for name in names]
    wanted = [str(number) for number in range(len(names))]
    if set(names) != set(wanted):
        has = f"names of class_label have the numbers {shown(names)}"
        raise InputError(f"{readme}: {has}; expected each of 0 to {len(names) - 1} once")
    return [str(names[number]) for number in wanted]


def _named(card: Any) -> Iterable[tuple[str, dict[Any, Any] | list[Any]]]:
    """The name of every feature with numbered classes, and the names of its classes, as the card has them."""
    if isinstance(card, list):
        for item in card:
            yield from _named(item)
    elif isinstance(card, dict):
        if isinstance(card.get("name"), str):
            names = _find_names(card)
            if names:
                yield card["name"], names
                return
        for item in card.values():
            yield from _named(item)


def _find_names(item: Any) -> dict[Any, Any] | list[Any]:
    if not isinstance(item, dict):
        return []
    names = item["class_label"].get("names") if isinstance(item.get("class_label"), dict) else None
    if isinstance(names, dict | list):
        return names
    return next((found for value in item.values() if (found := _find_names(value))), [])
