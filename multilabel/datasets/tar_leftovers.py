"""What the tars of other programs hold beside pictures, labels and labels to ignore: told, or refused."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

from edgepress.multilabel.datasets.denials import meant_ignore, refuse_denied_in_json
from edgepress.multilabel.errors import InputError, shown

LABELS = "labels"
"""The key in a json member that lists the labels of a picture."""


class Leftovers:
    """What tars hold beside pictures, labels and labels to ignore: nothing of it may go unnoticed.

    Args:
        labels: those of the data set.
        told: whether a person said that `labels` says it all.
    """

    def __init__(self, labels: Container[str], *, told: bool) -> None:
        self._labels = labels
        self._told = told
        self._keys: dict[str, None] = {}
        self._members: dict[str, None] = {}

    def key(self, others: Mapping[str, object], where: str) -> None:
        """Take notice of the further keys of a json member.

        Raises:
            InputError: one is nearly `ignore` and may list labels, or may deny them, and nobody said that `labels` says
                it all.
        """
        for name, value in others.items() if not self._told else ():
            if meant_ignore(name, value):
                raise InputError(
                    f"{where}: unknown key {name!r}; did you mean 'ignore'? (--label-columns {LABELS} leaves it out)"
                )
        if not self._told:
            refuse_denied_in_json(others, LABELS, where, self._labels)
        self._keys.update(dict.fromkeys(others))

    def members(self, suffixes: Iterable[str]) -> None:
        """Take notice of the further members of a key."""
        self._members.update(dict.fromkeys(suffixes))

    def notes(self) -> tuple[str, ...]:
        keys = [f"keys in the shards' JSON that are no labels left out: {shown(self._keys)}"] if self._keys else []
        left = [f"members of the shards that are not read: {shown(f'.{name}' for name in self._members)}"]
        return (*keys, *(left if self._members else ()))
