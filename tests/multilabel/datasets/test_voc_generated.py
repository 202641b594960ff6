"""Generated Pascal VOC trees against an independent parse of the same files: equal or refused, never different."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from hypothesis import given, settings
from hypothesis import strategies as st

from edgepress.multilabel.datasets import list_splits
from edgepress.multilabel.errors import InputError
from tests.multilabel.generated import Answers, found_in

IDS = ["000005", "2008_000001", "img 1", "img", "IMG 0", "a.b", "photo-1"]
LABELS = ["boat", "tree house", "a_b", "Ä", "1"]
SPLITS = ["train", "val", "trainval", "test", "night", "set_1"]
WRONG = [False] * 15 + [True]
Objects = dict[str, list[tuple[str, int]]]
"""From the id of an annotated picture to the names of its objects, and whether each is difficult."""
Grades = dict[tuple[str, str], dict[str, int]]
"""From label and split to the value of every picture in the label's list."""


def written(root: Path, draw: Any, objects: Objects, lists: dict[str, list[str]], grades: Grades) -> None:
    """Write a tree, in one of the ways in which tools do."""
    pictures = draw(st.sampled_from(["JPEGImages", "images"]))
    ending = draw(st.sampled_from([".jpg", ".png"]))
    (root / pictures).mkdir()
    for name in IDS:  # names alone are looked at
        (root / pictures / f"{name}{ending}").touch()
    (root / "Annotations").mkdir()
    for name, items in objects.items():
        inner = "".join(
            f"<object><name>{escape(label)}</name><difficult>{hard}</difficult>"
            f"<part><name>part of {escape(label)}</name></part></object>"
            for label, hard in items
        )
        text = f"<annotation><filename>elsewhere.jpg</filename>{inner}</annotation>"
        (root / "Annotations" / f"{name}.xml").write_text(text, encoding="utf-8")
    if draw(st.booleans()):
        (root / "Annotations" / "._000005.xml").write_bytes(b"\0\5\x16\7")
    folder = root / "ImageSets" / draw(st.sampled_from(["Main", "Main", "Layout", "."]))
    suffix = draw(st.sampled_from(["", "", ending]))
    apart = draw(st.sampled_from([" ", "  ", "\t"]))
    if lists or grades:
        folder.mkdir(parents=True, exist_ok=True)
    for split, names in lists.items():
        (folder / f"{split}.txt").write_text("".join(f"{name}{suffix}\n" for name in names), encoding="utf-8")
    for (label, split), values in grades.items():
        lines = (f"{name}{suffix}{apart}{value}\n" for name, value in values.items())
        (folder / f"{label}_{split}.txt").write_text("".join(lines), encoding="utf-8")


def parsed(split: str, objects: Objects, lists: dict[str, list[str]], grades: Grades, difficult: str) -> Answers | None:
    """What the files say, in the plainest way; None where they contradict themselves or need a refusal."""

    def graded(name: str, label: str) -> int:
        """1 present, 0 difficult, -1 absent, from the objects of a picture's annotation."""
        return max((0 if hard else 1 for one, hard in objects.get(name, ()) if one == label), default=-1)

    labels = sorted({label for label, _ in grades} or {one for items in objects.values() for one, _ in items})
    if split in lists:
        names = list(dict.fromkeys(lists[split]))
    elif any(of == split for _, of in grades):
        names = list(
            dict.fromkeys(name for (_, of), values in sorted(grades.items()) if of == split for name in values)
        )
    else:
        names = IDS
    own = [grades.get((label, split)) for label in labels]
    whole = bool(grades) and all(values is not None for values in own)
    if not names or not labels:
        return None
    if any(name not in names for values in own if values is not None for name in values):
        return None
    found: Answers = {}
    for name in names:
        values = {}
        if whole:
            lines = [name in known for known in own if known is not None]
            if any(lines) and not all(lines):
                return None
            for label, known in zip(labels, own, strict=True):
                assert known is not None
                values[label] = max(known.get(name, -1), graded(name, label))
        else:
            if name not in objects and (lists or grades):
                return None
            if any(one not in labels for one, _ in objects.get(name, ())):
                return None
            values = {label: graded(name, label) for label in labels}
        hard = {"ignore": None, "positive": 1, "negative": 0}[difficult]
        found[name] = {label: hard if value == 0 else int(value == 1) for label, value in values.items()}
    return found


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_a_tree_is_read_as_it_is_meant_or_refused(data):
    draw = data.draw
    some = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from([0, 0, 1])), max_size=4)
    objects: Objects = {name: draw(some) for name in IDS if draw(st.sampled_from([True] * 5 + [False]))}
    splits = draw(st.lists(st.sampled_from(SPLITS), max_size=2, unique=True))
    lists = {split: draw(st.lists(st.sampled_from(IDS), min_size=1, max_size=6)) for split in splits}
    grades: Grades = {}
    if splits and draw(st.booleans()):
        for label in draw(st.lists(st.sampled_from(LABELS), min_size=1, max_size=3, unique=True)):
            for split in splits:
                if draw(st.sampled_from(WRONG)):
                    continue  # the label has no list for this split
                names = [name for name in dict.fromkeys(lists[split]) if not draw(st.sampled_from(WRONG))]
                grades[label, split] = {name: draw(st.sampled_from([1, -1, 0])) for name in names}
        told = {split for (_, split), values in grades.items() if values}
        if told == {split for _, split in grades} and draw(st.sampled_from([False, False, True])):
            lists = {}  # splits that the lists of labels alone define
            splits = sorted({split for _, split in grades})
    difficult = draw(st.sampled_from(["ignore", "positive", "negative"]))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        written(root, draw, objects, lists, grades)
        unusual = [f"{label}_{split}" for label, split in grades if split in ("night", "set_1")]
        either = [values for values in grades.values() if values == {"img": 1}]
        either += [names for split, names in lists.items() if split == "set_1" and set(names) == {"img 1"}]
        doubtful = bool(either) or (not lists and any(name.count("_") > 1 for name in unusual))
        known = None
        with suppress(InputError):
            known = list_splits(root, format="voc")
        if known is None:
            assert doubtful  # it cannot be told which label or split a list is for
            return
        assert known == sorted({*lists, *splits}) if lists or grades else known == ["all"] * bool(objects)
        for split in known:
            found, expected = (
                found_in(root, split, lambda path: path.stem, format="voc", difficult=difficult),
                parsed(split, objects, lists, grades, difficult),
            )
            if found is None and expected is not None:  # refused without need: only where there is nothing to learn
                cells = [value for answers in expected.values() for value in answers.values()]
                assert len(next(iter(expected.values()))) == 1
                assert set(cells) == {1}
            else:
                assert found == expected, (split, known)
