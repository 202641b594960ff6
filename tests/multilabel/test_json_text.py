"""JSON in which a key is given twice is refused wherever people's files are read: one of the two would be lost."""

from __future__ import annotations

import json

import pytest

from edgepress.multilabel.json_text import unique_json
from edgepress.multilabel.output_names import output_names
from tests.multilabel.layouts import picture, refusal, write
from tests.multilabel.tars import write_tar

TWICE = "is given twice in one object; expected it once"


@pytest.mark.parametrize("text", ['{"a": 1, "b": [{"c": null}]}', "[]", "1", '"x"', '[{"a": 1}, {"a": 1}]'])
def test_other_json_is_as_json_reads_it(text):
    assert unique_json(text) == json.loads(text) == unique_json(text.encode())


@pytest.mark.parametrize(
    ("text", "key"), [('{"a": 1, "a": 1}', "a"), ('[{"b": 0, "a": {"x": 1, "y": 2, "x": 3}}]', "x")]
)
def test_a_key_that_is_given_twice_is_named(text, key):
    with pytest.raises(ValueError, match=f"the key '{key}' {TWICE}"):
        unique_json(text)


def test_dropped_keys_are_in_no_object():
    assert unique_json('{"a": {"s": 1, "b": 2}, "s": []}', drop=["s"]) == {"a": {"b": 2}}


ROW = '{"file_name": "a.jpg", "labels": ["cat"], "labels": ["dog"]}'
CATEGORIES = '"categories": [{"id": 1, "name": "cat", "name": "dog"}]'
COCO = f'{{"images": [{{"id": 1, "file_name": "a.jpg"}}], "annotations": [], {CATEGORIES}}}'
FIFTYONE = '{"classes": ["cat", "dog"], "labels": {"a": "cat", "a": "dog"}}'
TASK = '[{"image": "a.jpg", "choice": "cat", "id": 1, "annotator": 1, "annotation_id": 1, "choice": "dog"}]'


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("train/metadata.jsonl", ROW),
        ("annotations/instances_train.json", COCO),
        ("labels.json", FIFTYONE),
        ("tasks.json", TASK),
    ],
    ids=["imagefolder", "coco", "fiftyone", "labelstudio"],
)
def test_every_reader_refuses_it(tmp_path, name, text):
    for folder in ("train", "images", "data", "."):
        picture(tmp_path / folder / "a.jpg")
    write(tmp_path / name, text)
    form = {"labels.json": "fiftyone", "tasks.json": "labelstudio"}.get(name, "auto")
    assert TWICE in refusal(tmp_path, "train", format=form)


def test_shards_and_names_of_outputs_refuse_it(tmp_path):
    image = picture(tmp_path / "a.jpg").read_bytes()
    write_tar(tmp_path / "shards" / "train-000000.tar", [("a.jpg", image), ("a.json", ROW.encode())])
    write(tmp_path / "shards" / "labels.txt", "cat", "dog")
    assert f"'a.json' (the key 'labels' {TWICE})" in refusal(tmp_path / "shards", "train")
    names = write(tmp_path / "names.json", '{"id2label": {"0": "cat", "0": "dog"}}')
    with pytest.raises(ValueError, match="the key '0' is given twice"):
        output_names(names)
