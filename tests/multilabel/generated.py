"""What edgepress reads of a tree that a test generated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import event

from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.errors import InputError

Answers = dict[str, dict[str, int | None]]
"""From a picture's file or id to its labels: 1, 0, or None where nobody knows."""


def found_in(root: Path, split: str, name_of: Callable[[Path], str], **options: Any) -> Answers | None:
    """What edgepress reads; None where it refuses, in one line that names a file of the tree."""
    try:
        data = load_dataset(root, split, **options)
    except InputError as error:
        said = str(error)
    else:
        said = ""
    if said:
        assert "\n" not in said
        assert str(root) in said, said
        event("refused")
        return None
    event("read")
    return {
        name_of(path): {
            label: None if data.ignore[row, column] else int(data.targets[row, column])
            for column, label in enumerate(data.labels)
        }
        for row, path in enumerate(data.paths)
    }
