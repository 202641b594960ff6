"""The label groups of a data set: labels.yaml in its folder, or the file that the options name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.options import DataOptions
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.grouped import Violation
from edgepress.multilabel.label_groups import FILE, KEYS, NO_GROUPS, LabelGroups, is_groups_file
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.plural import plural

BROKEN = "labels break label groups"
"""How a sentence about broken rules begins."""
_NAMED = 3
"""Most rules that a line names."""


def find_groups(root: Path, labels: LabelSpace, options: DataOptions) -> tuple[LabelGroups, tuple[str, ...]]:
    """The groups of a data set's labels, none where no file gives any, and sentences about what was not read.

    A labels.yaml with other keys alone belongs to another program, and is passed over with a sentence.

    Raises:
        InputError: see `LabelGroups.read`.
    """
    beside = root / FILE
    told: tuple[str, ...] = ()
    if options.label_groups is not None:
        path = Path(options.label_groups)
        if files.is_file(beside):
            told = (f"label groups are read from {path}, not from {beside}",)
    elif not files.is_file(beside):
        other = beside.with_suffix(".yml")
        if not files.is_file(other):
            return NO_GROUPS, ()
        return NO_GROUPS, (f"{other}: passed over, since label groups are read from {FILE}: rename it if it has them",)
    elif not is_groups_file(beside):
        return NO_GROUPS, (f"{beside}: passed over, since it has none of the keys {', '.join(KEYS)}",)
    else:
        path = beside
    groups = LabelGroups.read(path, labels, no_label=options.no_label)
    if not groups:
        raise InputError(f"{path}: holds no group and no implication; expected one of {', '.join(KEYS)}")
    return groups, told


def tell_violations(found: Sequence[Violation]) -> str | None:
    """Say in a sentence which rules a split's labels break, and how often; None where they break none."""
    if not found:
        return None
    most = sorted(found, key=lambda one: -len(one.rows))
    named = "; ".join(f"{one.rule} ({plural(len(one.rows), 'picture')})" for one in most[:_NAMED])
    more = f"; and {len(most) - _NAMED} more" if len(most) > _NAMED else ""
    return f"{BROKEN} (edgepress data lists the pictures): {named}{more}"
