"""Label Studio's JSON and JSON-MIN: tasks with choices and regions, as version 1.13 exports them."""

from __future__ import annotations

import json

import pytest

from edgepress.multilabel.datasets import detect_format, list_splits, load_dataset
from tests.multilabel.layouts import check, picture, refusal


def chosen(*names: str, kind: str = "choices", source: str = "choice") -> dict:
    value = {kind: list(names)}
    return {"id": f"id-{source}", "type": kind, "from_name": source, "to_name": "image", "value": value}


def annotation(*results: dict, **more) -> dict:
    return {"id": 1, "completed_by": 1, "result": list(results), "was_cancelled": False, "ground_truth": False, **more}


def task(number: int, name: str, *annotations: dict) -> dict:
    data = {"image": f"/data/upload/1/{name}", "city": "Hamburg"}
    return {"id": number, "annotations": list(annotations), "data": data, "predictions": [{"result": [chosen("gull")]}]}


TASKS = [
    task(7, "1f-a.png", annotation(chosen("dock", "boat"))),
    task(8, "2e-b.png", annotation()),
    task(9, "3d-c.png", annotation(chosen("crane", kind="rectanglelabels", source="box"), chosen("dock"))),
]
LABELS, NAMES = ["boat", "crane", "dock"], ["1f-a.png", "2e-b.png", "3d-c.png"]


def export(root, tasks: list[dict], name: str = "project-1-at-2026-01-01.json"):
    (root / name).write_text(json.dumps(tasks))
    return root


@pytest.fixture
def root(tmp_path):
    for shade, name in enumerate(NAMES):
        picture(tmp_path / "images" / name, shade)
    return export(tmp_path, TASKS)


def test_choices_and_regions_are_labels_and_predictions_are_not(root):
    assert (detect_format(root), list_splits(root)) == ("labelstudio", ["train"])
    check(load_dataset(root, "train"), LABELS, NAMES, [[1, 0, 1], [0, 0, 0], [0, 1, 1]])
    chosen_alone = load_dataset(root, "train", label_columns="choice")
    check(chosen_alone, ["boat", "dock"], NAMES, [[1, 1], [0, 0], [0, 1]])


def test_a_task_that_nobody_annotated_is_left_out_and_a_file_may_be_a_split(root):
    export(root, [*TASKS[:2], task(9, "3d-c.png", annotation(chosen("crane"), was_cancelled=True))])
    data = load_dataset(root, "train")
    check(data, ["boat", "dock"], NAMES[:2], [[1, 1], [0, 0]])
    assert "project-1-at-2026-01-01.json: 1 tasks that nobody annotated are left out" in data.notes
    export(root, TASKS[:1], "train.json")
    export(root, TASKS[1:], "val.json")
    (root / "project-1-at-2026-01-01.json").unlink()
    assert list_splits(root) == ["train", "val"]
    check(load_dataset(root, "val"), LABELS, NAMES[1:], [[0, 0, 0], [0, 1, 1]])


def test_annotators_who_disagree_are_refused_unless_one_is_the_truth(root):
    first, second = annotation(chosen("boat")), annotation(chosen("dock"))
    export(root, [task(7, "1f-a.png", first, second)])
    assert "task 7: its 2 annotations disagree (boat against dock); mark one as ground truth" in refusal(root, "train")
    export(root, [task(7, "1f-a.png", first, {**second, "ground_truth": True}), task(8, "2e-b.png", annotation())])
    check(load_dataset(root, "train"), ["dock"], NAMES[:2], [[1], [0]])


def test_the_short_form(root):
    own = {"annotator": 1, "annotation_id": 3, "created_at": "2026", "updated_at": "2026", "lead_time": 2.5}
    rows = [
        {"image": f"/data/upload/1/{NAMES[0]}", "id": 7, "choice": {"choices": ["dock", "boat"]}, **own},
        {"image": f"/data/upload/1/{NAMES[1]}", "id": 8, **own},
        {"image": f"/data/upload/1/{NAMES[2]}", "id": 9, "choice": "dock", **own},
    ]
    export(root, rows)
    check(load_dataset(root, "train"), ["boat", "dock"], NAMES, [[1, 1], [0, 0], [0, 1]])
    boxes = [{"x": 1, "rectanglelabels": ["crane"]}, {"x": 2, "rectanglelabels": ["crane"]}]
    export(root, [{**row, "box": boxes} for row in rows])
    assert "may each hold labels; --label-columns says which" in refusal(root, "train")
    export(root, [{**rows[0], "box": boxes}, *rows[1:]])
    check(load_dataset(root, "train", label_columns="box"), ["crane"], NAMES, [[1], [0], [0]])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (task(7, "gone.png", annotation(chosen("boat"))), "gone.png: no such file"),
        ({**TASKS[0], "data": {"text": "no picture"}}, "task 7: 0 pictures among text; expected one a task"),
        (task(7, "1f-a.png", annotation(chosen("a", kind="taxonomy"))), "task 7: a choice in a taxonomy"),
        (3, "holds no list of objects"),
    ],
)
def test_what_is_wrong_is_named(root, changed, said):
    export(root, [changed, *TASKS[1:]])
    assert said in refusal(root, "train")


def test_results_that_are_no_labels_and_kept_guesses_are_told(root):
    rating = {"type": "rating", "from_name": "stars", "to_name": "image", "value": {"rating": 3}}
    kept = {**chosen("dock"), "origin": "prediction", "score": 0.4}
    export(root, [task(7, "1f-a.png", annotation(rating)), task(9, "3d-c.png", annotation(kept, chosen("boat")))])
    data = load_dataset(root, "train")
    check(data, ["boat", "dock"], ["1f-a.png", "3d-c.png"], [[0, 0], [1, 1]])
    file = "project-1-at-2026-01-01.json"
    assert data.notes[1:] == (
        f"{file}: results that are no labels are left out: rating",
        f"{file}: 1 result is a model's that was kept as it was (origin: prediction)",
    )
