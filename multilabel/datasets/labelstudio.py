"""Label Studio's exports as JSON and JSON-MIN: root/<name>.json, a list of tasks. (Its CSV, COCO and VOC are read too.)

[{"data": {"image": "/data/upload/1/a.jpg"}, "annotations": [{"result": [
    {"type": "choices", "from_name": "choice", "value": {"choices": ["boat", "dock"]}}]}]}]
[{"image": "/data/upload/1/a.jpg", "choice": {"choices": ["boat", "dock"]}, "annotation_id": 1, ...}]     JSON-MIN

A picture has the labels that were chosen for it and those of its regions. A task that nobody annotated is left out, and
counted; predictions are no labels. A file that is named as a split is this split, any other is `train`. Labels are in
alphabetical order over all files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.contents import Contents
from edgepress.multilabel.datasets.elsewhere import split_of
from edgepress.multilabel.datasets.label_lists import CHOICES, chosen
from edgepress.multilabel.datasets.named_labels import Item, contents_of, pictures_below
from edgepress.multilabel.datasets.options import DataOptions
from edgepress.multilabel.errors import InputError, shown
from edgepress.multilabel.json_text import unique_json
from edgepress.multilabel.plural import plural

LOOKS_FOR = "a list of tasks in JSON (Label Studio)"
OPTIONS = frozenset(("label_columns",))

_ONE = "train"
_EXPECTED = "Label Studio's list of tasks"
_TASK, _MIN = ('"annotations"', '"result"', '"data"'), ('"annotation_id"', '"annotator"')
_OF_TASKS = frozenset((
    "id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement", "comment", "sentiment",
))  # fmt: skip


def recognise(root: Path, options: DataOptions) -> bool:
    """Return whether the folder looks like this layout."""
    return bool(_files(root))


def splits(root: Path, options: DataOptions) -> list[str]:
    """The names of the files; `train` for one that is named otherwise than a split."""
    return sorted(_files(root))


def read(root: Path, split: str, options: DataOptions) -> Contents:
    """Read one split, in the file's order.

    Raises:
        InputError: as for `load_dataset`; also a task whose annotators disagree, or one without a picture, or a file in
            which several keys may hold labels and none was chosen by `--label-columns`.
    """
    files.plain(split, f"split {split!r}")
    found = _files(root)
    if split not in found:
        raise files.unknown_split(root, split, f"{split}.json", sorted(found))
    read = {name: _read(path, options) for name, path in found.items()}
    items, told = read[split]
    if not items:
        raise files.empty_split(found[split], split)
    labels = sorted({label for each, _ in read.values() for item in each for label in item.labels})
    return contents_of(items, labels, pictures_below(root, split), found[split], told.notes(found[split].name))


@dataclass
class _Told:
    """What of a file is no label, or was not given by a person."""

    tasks: int = 0
    """Tasks that nobody annotated."""
    kinds: dict[str, None] = field(default_factory=dict)
    """Kinds of results that are no labels, such as a rating."""
    predicted: int = 0
    """Results that a model suggested and an annotator kept."""

    def notes(self, name: str) -> list[str]:
        notes = [f"{name}: {self.tasks} tasks that nobody annotated are left out"] if self.tasks else []
        if self.kinds:
            notes.append(f"{name}: results that are no labels are left out: {shown(self.kinds, 5)}")
        if self.predicted:
            one, many = "result is a model's that was kept", "results are a model's that were kept"
            notes.append(f"{name}: {plural(self.predicted, one, many)} as it was (origin: prediction)")
        return notes


def _files(root: Path) -> dict[str, Path]:
    names = [name for name in files.named_as(root, (".json",)) if _fits(root / name)]
    stems = {name: name.rpartition(".")[0] for name in names}
    return {_ONE if len(names) == 1 and split_of(stem) is None else stem: root / name for name, stem in stems.items()}


def _fits(path: Path) -> bool:
    return files.begins_with(path, b"[") and (files.mentions(path, *_TASK) or files.mentions(path, *_MIN))


def _read(path: Path, options: DataOptions) -> tuple[list[Item], _Told]:
    """The pictures of a file, and what is to be told of it."""
    try:
        tasks = unique_json(files.read_text(path, _EXPECTED))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error}); expected {_EXPECTED}") from None
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise InputError(f"{path}: holds no list of objects; expected {_EXPECTED}")
    told = _Told()
    if any("annotations" in task for task in tasks):
        found = [
            _task(task, f"{path}, task {task.get('id', number)}", options, told) for number, task in enumerate(tasks)
        ]
    else:
        key = _key_of(tasks, path, options)
        found = [_short(task, key, f"{path}, task {task.get('id', number)}") for number, task in enumerate(tasks)]
    items = [item for item in found if item is not None]
    told.tasks = len(found) - len(items)
    return items, told


def _task(task: dict[str, Any], where: str, options: DataOptions, told: _Told) -> Item | None:
    """The picture of a task in full; None if nobody annotated it."""
    given = [one for one in task.get("annotations") or () if isinstance(one, dict) and not one.get("was_cancelled")]
    given = [one for one in given if one.get("ground_truth")] or given
    if not given:
        return None
    answers = {tuple(sorted(set(_results(one, where, options, told)))) for one in given}
    if len(answers) > 1:
        first, second, *_ = sorted(answers)
        raise InputError(
            f"{where}: its {len(given)} annotations disagree ({shown(first)} against {shown(second)}); mark one as "
            "ground truth, or delete the others"
        )
    return Item(_picture(task.get("data"), where), answers.pop(), where)


def _results(annotation: dict[str, Any], where: str, options: DataOptions, told: _Told) -> Iterator[str]:
    for result in annotation.get("result") or ():
        kind, value = (result.get("type"), result.get("value")) if isinstance(result, dict) else (None, None)
        if options.label_columns and isinstance(result, dict) and result.get("from_name") not in options.label_columns:
            continue
        if kind == "taxonomy":
            raise InputError(f"{where}: a choice in a taxonomy; expected choices, labels or regions with labels")
        if kind not in CHOICES or not isinstance(value, dict):
            told.kinds[str(kind)] = None  # a rating, a text or a shape without a label
            continue
        names = chosen([value])
        if names is None:
            raise InputError(f"{where}: {kind} is {str(value)[:80]!r}; expected a list of names")
        told.predicted += result.get("origin") == "prediction"
        yield from names


def _picture(data: Any, where: str) -> str:
    """The picture that a task shows: the one value that looks like a file's name."""
    values = data.items() if isinstance(data, dict) else ()
    named = {key: value for key, value in values if isinstance(value, str) and _looks_like_picture(value)}
    if len(set(named.values())) != 1:
        raise InputError(f"{where}: {len(named)} pictures among {shown(map(str, dict(values)))}; expected one a task")
    return next(iter(named.values()))


def _looks_like_picture(value: str) -> bool:
    return value.split("?")[0].lower().endswith(files.PICTURE_SUFFIXES) or "/data/local-files/" in value


def _key_of(tasks: list[dict[str, Any]], path: Path, options: DataOptions) -> str:
    """The key of JSON-MIN that holds labels."""
    if len(options.label_columns) == 1:
        return options.label_columns[0]
    others = {
        key: value
        for task in tasks
        for key, value in task.items()
        if key not in _OF_TASKS and not (isinstance(value, str) and _looks_like_picture(value))
    }
    structured = [
        key for key in others if any(isinstance(task.get(key), dict | list) and _names(task[key]) for task in tasks)
    ]
    found = structured if len(structured) == 1 else list(others) if len(others) == 1 else []
    if not found:
        raise InputError(f"{path}: {shown(others)} may each hold labels; --label-columns says which does")
    return found[0]


def _short(task: dict[str, Any], key: str, where: str) -> Item:
    """The picture of a task of JSON-MIN; without the key it has no label."""
    value = task.get(key)
    names = [] if value is None else _names(value)
    if names is None:
        raise InputError(f"{where}: {key} is {str(value)[:80]!r}; expected the names that were chosen")
    return Item(_picture({name: one for name, one in task.items() if name != key}, where), tuple(names), where)


def _names(value: Any) -> list[str] | None:
    """The names in a value of JSON-MIN: one choice, several, or regions."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return chosen([value])
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return value
    if isinstance(value, list) and all(isinstance(one, dict) for one in value):
        return chosen([one for one in value if any(key in one for key in CHOICES)])
    return None
