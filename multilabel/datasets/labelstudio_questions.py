"""The questions of a Label Studio project: which of their answers are labels of a picture, and which can be united.

A result names its question in `from_name`. A region and what was said of it share an `id`, and the latter repeats the
region's outline; it is no label of the picture:

{"id": "r1", "type": "rectanglelabels", "from_name": "label", "value": {"x": 1, ..., "rectanglelabels": ["car"]}}
{"id": "r1", "type": "choices", "from_name": "state", "value": {"x": 1, ..., "choices": ["truncated"]}}
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edgepress.multilabel.datasets.denials import ANSWERS
from edgepress.multilabel.datasets.label_lists import CHOICES
from edgepress.multilabel.datasets.options import names_in_quotes
from edgepress.multilabel.datasets.values import Values
from edgepress.multilabel.errors import InputError, did_you_mean, shown

ASKED = ("choices", "taxonomy")
"""The kinds of results that may be of a picture or of a region; other labels are always of regions."""
_OUTLINE = frozenset(("x", "y", "points", "vertices", "rle", "radiusX", "imageDataURL"))
"""Keys of values that say where a region is."""
_UNSURE = frozenset((
    "unsure", "not sure", "maybe", "unknown", "unclear", "uncertain", "n/a", "na", "don't know", "skip",
))  # fmt: skip
"""Answers beside yes and no."""
_VALUES = Values.parse(None)


def has_outline(value: Any) -> bool:
    """Whether the value of a result says where a region is."""
    return isinstance(value, dict) and not _OUTLINE.isdisjoint(value)


class Regions:
    """The regions of one annotation: those with a label of their own, and bare ones, whose choices are their labels."""

    def __init__(self, results: Iterable[Any]) -> None:
        shapes = [
            (one.get("id"), one.get("type"))
            for one in results
            if isinstance(one, dict) and isinstance(one.get("id"), str | int) and one.get("type") not in ASKED
        ]
        self._labelled = {identity for identity, kind in shapes if kind in CHOICES}
        self._bare = {identity for identity, _ in shapes} - self._labelled

    def has(self, result: dict[str, Any]) -> bool:
        """Whether a result of one of the kinds `ASKED` says something of a region beside the region's label."""
        identity = result.get("id")
        if not isinstance(identity, str | int):
            return has_outline(result.get("value"))
        return identity in self._labelled or (has_outline(result.get("value")) and identity not in self._bare)


class Questions:
    """The questions of one file, and the choices that were made.

    Args:
        named: the questions that `--label-columns` names; all, if there are none.
    """

    def __init__(self, named: tuple[str, ...]) -> None:
        self.named = named
        self.seen: dict[str, None] = {}
        """Every question with a result, whether it is read or not."""
        self.of_regions: dict[str, None] = {}
        """The questions about regions."""
        self._choices: dict[str, dict[str, None]] = {}
        self._asked: set[str] = set()

    def add(self, question: str, names: Iterable[str], *, asked: bool) -> None:
        """Remember what was chosen.

        Args:
            asked: whether it was chosen from a list of choices, and not as the label of a region.
        """
        self._choices.setdefault(question, {}).update(dict.fromkeys(names))
        self._asked |= {question} if asked else set()

    def check(self, path: Path) -> None:
        """Stop where the choices of several questions, or of one, cannot be labels.

        Raises:
            InputError: all choices of a question are answers such as yes and no; or two questions share a choice, and
                nobody said that they are to be read together.
        """
        asked = {name: self._choices[name] for name in self._choices if name in self._asked and self._choices[name]}
        self._refuse_answers(asked, path)
        for number, first in enumerate(asked):
            for second in list(asked)[number + 1 :]:
                shared = [choice for choice in asked[first] if choice in asked[second]]
                if shared and not {first, second} <= set(self.named):
                    one, both = names_in_quotes([first]), names_in_quotes([first, second])
                    raise InputError(
                        f"{path}: the questions {first!r} and {second!r} share choices ({shown(shared, 4)}), and a "
                        f"label would not say which question it answers; --label-columns {one} reads one of them, and "
                        f"--label-columns {both} reads them together"
                    )

    def _refuse_answers(self, asked: dict[str, dict[str, None]], path: Path) -> None:
        answers = [name for name, choices in asked.items() if _are_answers(choices)]
        if not answers or self.named == (answers[0],):
            return
        given = sorted({choice for name in answers for choice in asked[name]})
        others = [name for name in self._choices if name not in answers] or answers[:1]
        raise InputError(
            f"{path}: the choices of {shown(map(repr, answers), 4)} are answers ({shown(given, 4)}), which say nothing "
            "without their question; export CSV from Label Studio, where --label-columns "
            f"{names_in_quotes(answers)} makes a label of each question; here --label-columns "
            f"{names_in_quotes(others)} reads the choices of {shown(map(repr, others), 4)} as labels"
        )

    def notes(self, file: str) -> list[str]:
        """Say which questions are united, and which of regions are not read."""
        notes = []
        given = {name: choices for name, choices in self._choices.items() if choices}
        if len(given) > 1:
            notes.append(
                f"{file}: the choices of several questions are labels together: {shown(given, 5)}; --label-columns "
                "names those that are read"
            )
        for name, choices in given.items():
            if name in self._asked and _are_answers(choices):
                notes.append(f"{file}: the choices of {name} are answers ({shown(sorted(choices), 4)}), read as labels")
        left = [name for name in self.of_regions if name not in self.named]
        if left:
            notes.append(
                f"{file}: choices that are attributes of regions are no labels, and are left out: {shown(left, 5)}"
            )
        if read := [name for name in self.of_regions if name in self.named]:
            notes.append(f"{file}: choices that are attributes of regions are read as labels: {shown(read, 5)}")
        return notes


def refuse_unknown(root: Path, named: tuple[str, ...], seen: Iterable[str]) -> None:
    """Stop where `--label-columns` names a question that no file has.

    Raises:
        InputError: there is such a name; the message lists the questions.
    """
    known = list(seen)
    missing = [name for name in named if name not in known]
    if missing and known:
        raise InputError(
            f"{root}: --label-columns names {missing[0]!r}, of which there is no result; expected one of "
            f"{shown(known)}{did_you_mean(missing[0], known)}"
        )


def refuse_regions_alone(root: Path, of_regions: Iterable[str]) -> None:
    """Stop where all labels that there are were chosen for regions.

    Raises:
        InputError: there are questions about regions.
    """
    found = list(of_regions)
    if found:
        raise InputError(
            f"{root}: no labels but choices that are attributes of regions ({shown(found, 4)}); --label-columns "
            f"{names_in_quotes(found)} reads them as labels of the pictures"
        )


def _are_answers(choices: Iterable[str]) -> bool:
    """Whether names of choices say yes or no, or that nobody knows."""
    words = [choice.strip().lower() for choice in choices]
    sure = [word in ANSWERS or _VALUES.of(word) in ("yes", "no") for word in words]
    return any(sure) and all(known or word in _UNSURE for known, word in zip(sure, words, strict=True))
