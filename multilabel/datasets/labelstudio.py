"""Label Studio's exports as JSON and JSON-MIN: root/<name>.json, a list of tasks. (Its CSV, COCO and VOC are read too.)

[{"data": {"image": "/data/upload/1/a.jpg"}, "annotations": [{"result": [
    {"type": "choices", "from_name": "choice", "value": {"choices": ["boat", "dock"]}}]}]}]
[{"image": "/data/upload/1/a.jpg", "choice": {"choices": ["boat", "dock"]}, "annotation_id": 1, ...}]     JSON-MIN

A picture has the labels that were chosen for it and those of its regions; what was chosen for a region beside its label
is left out (see `labelstudio_questions`). A task that nobody annotated is left out, and counted; predictions are no
labels. A file that is named as a split is this split, any other is `train`. Labels are in
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
from edgepress.multilabel.datasets.labelstudio_questions import (
    ASKED,
    Questions,
    Regions,
    has_outline,
    refuse_regions_alone,
    refuse_unknown,
)
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
        InputError: as for `load_dataset`; also a task whose annotators disagree, or one without a picture; a file in
            which several keys may hold labels and none was chosen by `--label-columns`; or questions whose choices
            cannot be labels together.
    """
    files.plain(split, f"split {split!r}")
    found = _files(root)
    if split not in found:
        raise files.unknown_split(root, split, f"{split}.json", sorted(found))
    read = {name: _read(path, options) for name, path in found.items()}
    questions = [told.questions for _, told in read.values()]
    refuse_unknown(root, options.label_columns, {name: None for one in questions for name in one.seen})
    items, told = read[split]
    if not items:
        raise files.empty_split(found[split], split)
    labels = sorted({label for each, _ in read.values() for item in each for label in item.labels})
    if not labels:
        refuse_regions_alone(root, {name: None for one in questions for name in one.of_regions})
    return contents_of(items, labels, pictures_below(root, split), found[split], told.notes(found[split].name))


@dataclass
class _Told:
    """What of a file is no label, or was not given by a person."""

    questions: Questions
    tasks: int = 0
    """Tasks that nobody annotated."""
    kinds: dict[str, None] = field(default_factory=dict)
    """Kinds of results that are no labels, such as a rating."""
    predicted: int = 0
    """Results that a model suggested and an annotator kept."""
    beside: dict[str, None] = field(default_factory=dict)
    """Keys of JSON-MIN that are not read."""

    def notes(self, name: str) -> list[str]:
        notes = [f"{name}: {self.tasks} tasks that nobody annotated are left out"] if self.tasks else []
        if self.kinds:
            notes.append(f"{name}: results that are no labels are left out: {shown(self.kinds, 5)}")
        if self.predicted:
            one, many = "result is a model's that was kept", "results are a model's that were kept"
            notes.append(f"{name}: {plural(self.predicted, one, many)} as it was (origin: prediction)")
        if self.beside:
            notes.append(f"{name}: keys that are not read as labels are left out: {shown(self.beside, 5)}")
        return [*notes, *self.questions.notes(name)]


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
    told = _Told(Questions(options.label_columns))
    if any("annotations" in task for task in tasks):
        found = [_task(task, f"{path}, task {task.get('id', number)}", told) for number, task in enumerate(tasks)]
    else:
        keys = _keys_of(tasks, path, told)
        found = [
            _short(task, keys, f"{path}, task {task.get('id', number)}", told) for number, task in enumerate(tasks)
        ]
    told.questions.check(path)
    items = [item for item in found if item is not None]
    told.tasks = len(found) - len(items)
    return items, told


def _task(task: dict[str, Any], where: str, told: _Told) -> Item | None:
    """The picture of a task in full; None if nobody annotated it."""
    given = [one for one in task.get("annotations") or () if isinstance(one, dict) and not one.get("was_cancelled")]
    given = [one for one in given if one.get("ground_truth")] or given
    if not given:
        return None
    answers = {tuple(sorted(set(_results(one, where, told)))) for one in given}
    if len(answers) > 1:
        first, second, *_ = sorted(answers)
        raise InputError(
            f"{where}: its {len(given)} annotations disagree ({shown(first)} against {shown(second)}); mark one as "
            "ground truth, or delete the others"
        )
    return Item(_picture(task.get("data"), where), answers.pop(), where)


def _results(annotation: dict[str, Any], where: str, told: _Told) -> Iterator[str]:
    results = annotation.get("result") or ()
    regions, named = Regions(results), told.questions.named
    for result in results:
        if not isinstance(result, dict):
            told.kinds[str(None)] = None
            continue
        kind, value, question = (
            result.get("type"),
            result.get("value"),
            str(result.get("from_name", "without from_name")),
        )
        told.questions.seen[question] = None
        of_region = kind in ASKED and regions.has(result)
        if of_region and (not named or question in named):
            told.questions.of_regions[question] = None
        if question not in named if named else of_region:
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
        told.questions.add(question, names, asked=kind in ASKED)
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


def _keys_of(tasks: list[dict[str, Any]], path: Path, told: _Told) -> tuple[str, ...]:
    """The keys of JSON-MIN that hold labels; the others are remembered.

    Raises:
        InputError: there are several that may, and `--label-columns` names none.
    """
    others = {
        key: None
        for task in tasks
        for key, value in task.items()
        if key not in _OF_TASKS and not (isinstance(value, str) and _looks_like_picture(value))
    }
    told.questions.seen.update(others)
    found = told.questions.named
    if not found:
        structured = tuple(key for key in others if any(_holds_labels(task.get(key)) for task in tasks))
        found = structured if len(structured) == 1 else tuple(others) if len(others) == 1 else ()
    if not found:
        raise InputError(f"{path}: {shown(others)} may each hold labels; --label-columns says which does")
    told.beside.update((key, None) for key in others if key not in found)
    return found


def _holds_labels(value: Any) -> bool:
    """Whether a value of JSON-MIN holds several choices, or labels of regions; not choices for regions alone."""
    parts = value if isinstance(value, list) else [value]
    of_regions = all(has_outline(one) and not any(key in one for key in CHOICES if key not in ASKED) for one in parts)
    return isinstance(value, dict | list) and not of_regions and bool(_names(value))


def _short(task: dict[str, Any], keys: tuple[str, ...], where: str, told: _Told) -> Item:
    """The picture of a task of JSON-MIN; without the keys it has no label."""
    labels: list[str] = []
    for key in keys:
        value = task.get(key)
        names = [] if value is None else _names(value)
        if names is None:
            raise InputError(f"{where}: {key} is {str(value)[:80]!r}; expected the names that were chosen")
        told.questions.add(key, names, asked=not (isinstance(value, list) and any(map(has_outline, value))))
        labels += names
    return Item(_picture({name: one for name, one in task.items() if name not in keys}, where), tuple(labels), where)


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
