"""Generated tables against an independent parse of the same text: equal or refused, never different."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.errors import InputError
from tests.multilabel.layouts import picture

NAMES = st.sampled_from(
    [
        "cat",
        "dog",
        "sea",
        "hot dog",
        "big cat",
        "no finding",
        "a/b",
        "c++",
        "train",
        "fold",
        "id",
        "x-y",
        "Ä",
        "nan?",
        "ok",
    ]
)
VALUES = {
    "digits": ("1", "0"), "floats": ("1.0", "0.0"), "words": ("True", "False"), "yes": ("yes", "no"),
    "signs": ("1", "-1"),
}  # fmt: skip
EMPTY = ("", "nan", "NaN")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("tables")
    for number in range(8):
        picture(root / "images" / f"{number}.jpg", number)
    return root


def loaded(root: Path, text: str, **options) -> dict[str, dict[str, int | None]] | None:
    """Picture to label to 1, 0 or None; None where the table is refused, in one line that says what to do."""
    (root / "train.csv").write_text(text, encoding="utf-8")
    try:
        data = load_dataset(root, "train", format="csv", **options)
    except InputError as error:
        said = str(error)
    else:
        said = ""
    if said:
        assert re.fullmatch(".*(--|expected|which|occurs twice).*", said), said
        event("refused")
        return None
    event("read")
    return {
        path.stem: {
            label: None if data.ignore[row, column] else int(data.targets[row, column])
            for column, label in enumerate(data.labels)
        }
        for row, path in enumerate(data.paths)
    }


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_table_of_columns_is_read_as_it_is_meant_or_refused(root, data):
    draw = data.draw
    labels = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    column = draw(st.sampled_from(["path", "Image", "file_name", "image_id", "photo", "filename"]))
    mark = draw(st.sampled_from([",", ";", "\t", "|"]))
    yes, no = VALUES[draw(st.sampled_from(sorted(VALUES)))]
    suffix = draw(st.sampled_from([".jpg", ""]))
    before = draw(st.sampled_from(["", "images/", "images\\"]))
    order = draw(st.permutations([column, *labels]))
    index, trailing = draw(st.booleans()), draw(st.booleans())
    pictures = draw(st.lists(st.integers(0, 7), min_size=1, max_size=8))
    meant: list[dict[str, int | None]] = [
        {label: draw(st.sampled_from([1, 0, None])) for label in labels} for _ in pictures
    ]
    empties = [{label: draw(st.sampled_from(EMPTY)) for label in labels} for _ in pictures]
    out = io.StringIO()
    writer = csv.writer(out, delimiter=mark, lineterminator="\n")
    writer.writerow([*([""] if index else []), *order, *([""] if trailing else [])])
    for number, (name, values, empty) in enumerate(zip(pictures, meant, empties, strict=True)):
        cells = {label: {1: yes, 0: no, None: empty[label]}[values[label]] for label in labels}
        cells[column] = f"{before}{name}{suffix}"
        row = [cells[name] for name in order]
        writer.writerow([*([str(number)] if index else []), *row, *([""] if trailing else [])])
    told = {"values": f"yes={yes},no={no}"} if draw(st.booleans()) else {}
    found = loaded(root, out.getvalue(), **told)
    if found is None:
        return
    expected: dict[str, dict[str, int | None]] = {}
    for name, values in zip(pictures, meant, strict=True):
        known = expected.setdefault(str(name), dict.fromkeys(labels))
        for label, value in values.items():
            assert value is None or known[label] in (None, value), "rows that contradict each other were read"
            known[label] = value if value is not None else known[label]
    if no == "-1" and not told:  # by itself -1 is unknown, and only beside a 0, which is not here
        expected = {
            name: {label: value or None for label, value in values.items()} for name, values in expected.items()
        }
        assert "-1" not in out.getvalue()
    assert found == expected


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_table_of_lists_is_read_as_it_is_meant_or_refused(root, data):
    draw = data.draw
    labels = draw(st.lists(NAMES, min_size=2, max_size=4, unique=True))
    mark = draw(st.sampled_from([";", "|", ",", " ", "/", "+", "#", "json", "python"]))
    pictures = draw(st.lists(st.integers(0, 7), min_size=1, max_size=8, unique=True))
    meant = [draw(st.lists(st.sampled_from(labels), max_size=len(labels), unique=True)) for _ in pictures]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["image", draw(st.sampled_from(["labels", "Tags", "label"]))])
    for name, names in zip(pictures, meant, strict=True):
        cell = str(names).replace("'", '"') if mark == "json" else str(names) if mark == "python" else mark.join(names)
        writer.writerow([f"{name}.jpg", cell])
    told = {"separator": mark} if len(mark) == 1 and draw(st.booleans()) else {}
    if told and any(mark in label for label in labels):
        return  # what was said is wrong of these names
    found = loaded(root, out.getvalue(), **told)
    if found is None:
        return
    used = {name for names in meant for name in names}
    expected = {
        str(name): {label: int(label in names) for label in used} for name, names in zip(pictures, meant, strict=True)
    }
    if found != expected and not told and mark not in (";", "|", "json", "python"):
        # Without a separator a cell is one label, unless it cannot be told from a list.
        joined = {str(name): mark.join(names) for name, names in zip(pictures, meant, strict=True)}
        whole = {cell for cell in joined.values() if cell}
        for cell in whole:
            pieces = [part.strip() for part in cell.split(mark) if part.strip()]
            assert len(pieces) < 2 or not all(piece in whole for piece in pieces), f"{cell!r} was read as one label"
        assert mark != "," or not any("," in cell for cell in whole)
        assert found == {name: {label: int(label == cell) for label in whole} for name, cell in joined.items()}
        return
    assert found == expected
