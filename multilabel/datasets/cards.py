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
        InputError: they are not numbered from 0 on.
    """
    readme = root / "README.md"
    if not files.is_file(readme):
        return []
    head = re.match(r"---\n(.*?)\n---", files.read_text(readme, "the data set's card").replace("\r\n", "\n"), re.DOTALL)
    if head is None:
        return []
    import yaml  # few data sets have a card, and it takes megabytes

    from edgepress.multilabel.yaml_files import texts_in

    try:
        card = texts_in(head[1])  # a label may be called no, null or 1e5
    except yaml.YAMLError:
        return []
    found = [names for key, names in _named(card) if key.lower() in LIST_COLUMNS]
    return found[0] if len(found) == 1 else []


def _named(card: Any) -> Iterable[tuple[str, list[str]]]:
    """The name of every feature with numbered classes, and the names of its classes in order."""
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


def _find_names(item: Any) -> list[str]:
    if not isinstance(item, dict):
        return []
    names = item["class_label"].get("names") if isinstance(item.get("class_label"), dict) else None
    if isinstance(names, dict):
        wanted = [str(number) for number in range(len(names))]
        if set(names) != set(wanted):
            raise InputError(
                f"README.md: names of class_label have the numbers {shown(names)}; expected each of 0 to "
                f"{len(names) - 1} once"
            )
        return [str(names[number]) for number in wanted]
    if isinstance(names, list):
        return [str(name) for name in names]
    return next((found for value in item.values() if (found := _find_names(value))), [])
