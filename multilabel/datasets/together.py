"""What the splits of a data set say together, and what keeps `run` from using them together."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Mapping

from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.datasets.options import in_quotes
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.plural import plural

_USUAL = {
    "train": ("training",),
    "val": ("valid", "validation", "dev"),
    "test": ("testing", "evaluation", "eval", "holdout"),
}
"""The splits that `run` reads, and what else they are called."""
_BEGINS = {"train": "train", "val": "valid", "test": "test"}
"""How a split's name begins in other languages and with more words: Validierung, Trainingsdaten."""
FEWEST_TO_PROVE = 100
"""Test pictures. With fewer a drop in mAP says little. More are better: the sample's 240 do not prove its INT8 engines
at the default allowances."""
_SHARES = {("val",): (85,), ("test",): (85,), ("val", "test"): (70, 85)}


def notes_of(splits: Iterable[MultiLabelDataset]) -> list[str]:
    """What was read otherwise than it is written, a line per sentence: one that several splits share names them all.

    What is said of the data set's own files, such as its labels, would be in the log once per split otherwise.
    """
    said: dict[str, list[str]] = {}
    for one in splits:
        for note in one.notes:
            said.setdefault(note, []).append(one.split)
    return [f"{', '.join(dict.fromkeys(names))}: {note}" for note, names in said.items()]


def unlike_labels(splits: Mapping[str, MultiLabelDataset]) -> list[str]:
    """Say which splits have other labels than the first, or than train; empty where all can be used together."""
    if not splits:
        return []
    first = splits.get("train", next(iter(splits.values())))
    said = []
    for one in splits.values():
        try:
            one.in_order_of(first.labels, f"the split {first.split!r}", f"the split {one.split!r}")
        except InputError as error:
            folded = {name.casefold(): name for name in first.labels}
            pairs = [(folded[name.casefold()], name) for name in one.labels if name.casefold() in folded]
            alike = [f"{mine!r} and {other!r}" for mine, other in pairs if mine != other]
            case = f"; {', '.join(alike[:3])} differ in case alone" if alike else ""
            said.append(f"{error}{case}: run refuses them together")
    return said


def missing_splits(names: Collection[str], pictures: Mapping[str, int]) -> str | None:
    """Say which splits `run` would not find, and the options that name or make them; None where it finds all.

    Args:
        names: the splits that there are.
        pictures: how many pictures each has.
    """
    missing = [name for name in _USUAL if not any(re.fullmatch(rf"{name}\d*", one) for one in names)]
    if not missing or not names:
        return None
    called = {name: _called(name, names) for name in _USUAL}
    left = [name for name in missing if called[name] is None]
    flags = [f"--{name} {_quoted(called[name] or '')}" for name in missing if called[name] is not None]
    if left:
        free = [name for name in names if name not in (called["val"], called["test"])]
        if "train" in left and not free and len(names) > 1:
            return (
                f"run reads train, val and test; here is no {' and no '.join(missing)}: give train pictures of its "
                "own, with labels as the other splits have them"
            )
        if not free:  # one split, which is called val or test
            free, left, flags = list(names), list(_USUAL), []
        whole = called["train"] or max(free, key=lambda name: pictures.get(name, 0))
        flags = [flag for flag in flags if not flag.startswith("--train ")] + _parts(whole, left)
    return f"run reads train, val and test; here is no {' and no '.join(missing)}: {' '.join(flags)}"


def few_to_prove(pictures: Mapping[str, int]) -> str | None:
    """Say that the test split is too small for most engines to be proven on it; None where it is not, or is missing.

    Args:
        pictures: how many pictures each split has.

    Example:
        >>> few_to_prove({"train": 900, "test": 40})
        'test has 40 pictures, on which few engines can be proven: give it at least 100, better 500'
    """
    name = _called("test", pictures.keys())
    if name is None or pictures[name] >= FEWEST_TO_PROVE:
        return None
    return (
        f"{name} has {plural(pictures[name], 'picture')}, on which few engines can be proven: give it at least "
        f"{FEWEST_TO_PROVE}, better 500"
    )


def _called(split: str, names: Collection[str]) -> str | None:
    """What a split is called among the names; None where nothing is surely it."""
    usual = next((one for one in names if one.lower() in (split, *_USUAL[split])), None)
    alike = [one for one in names if one.lower().startswith(_BEGINS[split])]
    return usual or (alike[0] if len(alike) == 1 else None)


def _parts(whole: str, missing: list[str]) -> list[str]:
    """The options that make the missing splits out of one."""
    made = [name for name in missing if name != "train"]
    if not made:
        return [f"--train {_quoted(whole)}"]
    ends = (*_SHARES[tuple(made)], 100)
    bounds = [f"{whole}[{low}%:{'' if high == 100 else f'{high}%'}]" for low, high in itertools.pairwise(ends)]
    parts = zip(("train", *made), (f"{whole}[:{ends[0]}%]", *bounds), strict=True)
    return [f"--{name} {_quoted(part)}" for name, part in parts]


def _quoted(text: str) -> str:
    return text if re.fullmatch(r"[\w.-]+", text) else in_quotes(text)
