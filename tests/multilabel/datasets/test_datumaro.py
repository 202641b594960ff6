"""Datumaro's JSON: annotations/<split>.json beside images/<split>/, with labels of pictures and of parts."""

from __future__ import annotations

import json

import pytest

from edgepress.multilabel.datasets import detect_format, list_splits, load_dataset
from tests.multilabel.layouts import check, picture, refusal

NAMES = ["boat", "dock", "crane"]


def annotation(kind: str, label: int | None, **more) -> dict:
    own = {} if label is None else {"label_id": label}
    return {"id": 0, "type": kind, "attributes": {}, "group": 0, **own, **more}


def item(name: str, *annotations: dict) -> dict:
    image = {"path": f"{name}.jpg", "size": [6, 8]}
    return {"id": name, "annotations": list(annotations), "attr": {"frame": 0}, "image": image}


TRAIN = [
    item("b", annotation("label", 0), annotation("bbox", 2, bbox=[1.0, 1.0, 2.0, 2.0], z_order=0)),
    item("more/a", annotation("caption", None, caption="a quay at night")),
    item("c", annotation("label", 1), annotation("label", 1)),
]


def export(root, split: str, items: list[dict]) -> None:
    labels = [{"name": name, "parent": "", "attributes": []} for name in NAMES]
    content = {
        "dm_format_version": "1.0",
        "media_type": 2,
        "infos": {},
        "categories": {"label": {"label_groups": [], "labels": labels, "attributes": []}, "points": {"items": []}},
        "items": items,
    }
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / f"{split}.json").write_text(json.dumps(content))


@pytest.fixture
def root(tmp_path):
    export(tmp_path, "train", TRAIN)
    export(tmp_path, "val", [item("d", annotation("label", 2))])
    for shade, name in enumerate(("train/b", "train/more/a", "train/c", "val/d")):
        picture(tmp_path / "images" / f"{name}.jpg", shade)
    return tmp_path


def test_labels_of_pictures_and_of_parts(root):
    assert (detect_format(root), list_splits(root)) == ("datumaro", ["train", "val"])
    check(load_dataset(root, "train"), NAMES, ["b.jpg", "a.jpg", "c.jpg"], [[1, 0, 1], [0, 0, 0], [0, 1, 0]])
    check(load_dataset(root, "val"), NAMES, ["d.jpg"], [[0, 0, 1]])


def test_a_score_of_nought_is_a_verified_no_and_one_between_is_no_label(root):
    yes, no = {"attributes": {"score": 1.0}}, {"attributes": {"score": 0.0}}
    items = [item("b", annotation("label", 0, **yes), annotation("label", 2, **no)), item("c", annotation("label", 1))]
    export(root, "train", items)
    data = load_dataset(root, "train")
    check(data, NAMES, ["b.jpg", "c.jpg"], [[1, 0, 0], [0, 1, 0]], [[0, 1, 0], [1, 0, 1]])
    assert data.notes[0].startswith("train.json: 1 labels have a score of 0, a verified no; 3 cells without")
    export(root, "train", [item("b", annotation("label", 0), annotation("label", 0, **no))])
    assert "items[0]: label 'boat' has a score of 0, and is annotated as well" in refusal(root, "train")
    export(root, "train", [item("b", annotation("label", 0, attributes={"score": 0.7}))])
    assert "items[0]: score is '0.7'; expected 1 (yes), 0 (verified no)" in refusal(root, "train")


def test_an_item_without_an_image_is_found_by_its_id(root):
    export(root, "train", [{key: value for key, value in one.items() if key != "image"} for one in TRAIN])
    assert [path.name for path in load_dataset(root, "train").paths] == ["b.jpg", "a.jpg", "c.jpg"]


@pytest.mark.parametrize(
    ("items", "said"),
    [
        ([item("b", annotation("label", 3))], "items[0]: label_id 3; expected a number from 0 to 2"),
        ([item("b"), item("b")], "items[1]: leads to the same picture as items[0]"),
        ([item("gone")], "gone.jpg: no such file"),
        ([{"annotations": []}], "items[0]: has neither an image's path nor an id"),
        ([], "the split 'train' is empty"),
    ],
)
def test_what_is_refused(root, items, said):
    export(root, "train", items)
    assert said in refusal(root, "train")


def test_attributes_and_parents_are_told(tmp_path):
    for shade, name in enumerate("ab"):
        picture(tmp_path / "images" / "train" / f"{name}.jpg", shade)
    about = {"attributes": {"ignore": True, "occluded": False, "score": 1, "present": False, "excluded": 0}}
    export(tmp_path, "train", [item("a", annotation("label", 0, **about)), item("b", annotation("label", 1))])
    path = tmp_path / "annotations" / "train.json"
    assert load_dataset(tmp_path, "train").notes == (
        "train.json: attributes of annotations are no labels, and are left out: ignore, present",
    )
    path.write_text(path.read_text().replace('"boat", "parent": ""', '"boat", "parent": "crane"'))
    assert "labels have parents, which are not read: boat (crane);" in load_dataset(tmp_path, "train").notes[1]
