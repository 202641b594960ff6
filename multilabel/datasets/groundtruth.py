"""The manifests of AWS SageMaker Ground Truth: root/<split>.manifest, or root/output.manifest for the split `train`.

{"source-ref": "s3://bucket/a.jpg", "tags": [0, 2],
 "tags-metadata": {"class-map": {"0": "boat", "2": "dock"}, "type": "groundtruth/image-classification-multilabel"}}

Jobs with one label a picture (a number, with `class-name`) and with boxes are read as well. A line with a
`failure-reason` has no labels, and is left out. Labels are in alphabetical order over all manifests.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.contents import Contents
from edgepress.multilabel.datasets.named_labels import Item, contents_of, pictures_below
from edgepress.multilabel.datasets.options import DataOptions
from edgepress.multilabel.errors import InputError, shown
from edgepress.multilabel.plural import plural

LOOKS_FOR = "<split>.manifest with source-ref (SageMaker Ground Truth)"
OPTIONS = frozenset(("label_columns",))

_SUFFIXES = (".manifest", ".jsonl")
_KEY, _METADATA = "source-ref", "-metadata"
_ONE, _NO_SPLIT = "train", ("output", "manifest", "augmented")
_EXPECTED = "Ground Truth's manifest"


def recognise(root: Path, options: DataOptions) -> bool:
    """Return whether the folder looks like this layout."""
    return bool(_files(root))


def splits(root: Path, options: DataOptions) -> list[str]:
    """The names of the manifests; `train` for output.manifest."""
    return sorted(_files(root))


def read(root: Path, split: str, options: DataOptions) -> Contents:
    """Read one split, in the manifest's order.

    Raises:
        InputError: as for `load_dataset`; also a line with several jobs' labels where none was chosen by
            `--label-columns`, or a label without a name.
    """
    files.plain(split, f"split {split!r}")
    found = _files(root)
    if split not in found:
        raise files.unknown_split(root, split, f"{split}.manifest", sorted(found))
    chosen = options.label_columns[0] if len(options.label_columns) == 1 else None
    items: dict[str, list[Item]] = {name: [] for name in found}
    failed = 0
    guessed: dict[str, int] = dict.fromkeys(found, 0)
    for name, path in found.items():
        for item, by_machine in _items(path, chosen):
            guessed[name] += by_machine
            if item is None:
                failed += name == split
            else:
                items[name].append(item)
    if not items[split]:
        raise files.empty_split(found[split], split)
    labels = sorted({label for each in items.values() for item in each for label in item.labels})
    said = plural(failed, "picture whose labelling failed is", "pictures whose labelling failed are")
    notes = [f"{found[split].name}: {said} left out"] if failed else []
    if guessed[split]:
        notes.append(f"{found[split].name}: a machine labelled {guessed[split]} of the pictures (human-annotated: no)")
    return contents_of(items[split], labels, pictures_below(root, split), found[split], notes)


def _files(root: Path) -> dict[str, Path]:
    names = [name for name in files.named_as(root, _SUFFIXES) if files.mentions(root / name, f'"{_KEY}"')]
    found: dict[str, Path] = {}
    for name in names:
        stem = name.rpartition(".")[0]
        found[_ONE if len(names) == 1 and stem.lower() in _NO_SPLIT else stem] = root / name
    return found


def _items(path: Path, chosen: str | None) -> Iterator[tuple[Item | None, bool]]:
    """The picture of every line, or None where its labelling failed; and whether a machine labelled it."""
    for where, row in files.json_lines(path, _EXPECTED):
        if not isinstance(row.get(_KEY), str):
            raise InputError(f"{where}: no {_KEY}; expected {_EXPECTED}")
        key = chosen or _only_job(row, where)
        about = row.get(f"{key}{_METADATA}")
        if not isinstance(about, dict) or (key not in row and "failure-reason" not in about):
            raise InputError(f"{where}: no labels {key!r} with {key + _METADATA!r}; expected {_EXPECTED}")
        failed = "failure-reason" in about
        item = None if failed else Item(row[_KEY], tuple(_names(row[key], about, where)), where)
        yield item, not failed and str(about.get("human-annotated")).lower() == "no"


def _only_job(row: dict[str, Any], where: str) -> str:
    jobs = [key.removesuffix(_METADATA) for key in row if key.endswith(_METADATA)]
    if len(jobs) != 1:
        raise InputError(
            f"{where}: {len(jobs)} jobs' labels ({shown(jobs)}); expected one; --label-columns says which is read"
        )
    return jobs[0]


def _names(value: Any, about: dict[str, Any], where: str) -> Iterator[str]:
    """The names of a line's labels: of numbers in a list, of one number, or of boxes."""
    classes = about.get("class-map")
    classes = classes if isinstance(classes, dict) else {}
    if isinstance(value, dict) and isinstance(value.get("annotations"), list):
        numbers = [one.get("class_id") if isinstance(one, dict) else None for one in value["annotations"]]
    else:
        numbers = value if isinstance(value, list) else [value]
    for number in numbers:
        name = classes.get(str(number), about.get("class-name") if len(numbers) == 1 else None)
        if not isinstance(number, int | str) or not isinstance(name, str):
            raise InputError(f"{where}: label {str(number)[:40]!r} has no name in class-map; expected {_EXPECTED}")
        yield name
