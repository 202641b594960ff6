"""A small data set in the layout of every labelling tool that is read, each in a folder named for its format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import cast

from edgepress.multilabel.datasets import list_splits, load_dataset
from edgepress.multilabel.datasets.options import Format
from tests.multilabel.layouts import picture, write

_NAMES = ("a.jpg", "b.jpg", "c.jpg")


def _json(path: Path, content: object) -> Path:
    return write(path, json.dumps(content))


def _datumaro(root: Path) -> list[Path]:
    label = {"type": "label", "label_id": 1, "attributes": {"score": 0.0}}
    items = [{"id": "a", "annotations": [label]}, {"id": "b", "image": {"path": "b.jpg"}, "annotations": []}]
    labels = [{"name": "boat"}, {"name": "dock"}]
    return [_json(root / "annotations" / "test.json", {"categories": {"label": {"labels": labels}}, "items": items})]


def _cvat(root: Path) -> list[Path]:
    images = [
        '<image id="0" name="a.jpg"><tag label="boat"/><box label="dock"/></image>',
        '<image name="b.jpg"></image>',
    ]
    return [write(root / "test.xml", "<annotations>", *images, "</annotations>")]


def _roboflow(root: Path) -> list[Path]:
    return [write(root / "test" / "_classes.csv", "filename, boat, dock", "a.jpg, 1, 0", "b.jpg, 0, 1")]


def _openimages(root: Path) -> list[Path]:
    rows = ["a,verification,/m/1,1", "a,verification,/m/2,0", "b,verification,/m/2,1"]
    table = write(root / "test-annotations-human-imagelabels.csv", "ImageID,Source,LabelName,Confidence", *rows)
    return [table, write(root / "class-descriptions.csv", "/m/1,Boat", '/m/2,"Dock, quay"')]


def _fiftyone(root: Path) -> list[Path]:
    return [_json(root / "test" / "labels.json", {"classes": ["boat", "dock"], "labels": {"a": ["boat"], "b": 1}})]


def _labelstudio(root: Path) -> list[Path]:
    chosen = {"type": "choices", "from_name": "choice", "value": {"choices": ["boat", "dock"]}}
    tasks = [
        {"id": 1, "data": {"image": "/data/upload/1/a.jpg"}, "annotations": [{"result": [chosen]}]},
        {"id": 2, "data": {"image": "/data/upload/1/b.jpg"}, "annotations": [{"result": []}]},
    ]
    short = [{"image": "/data/upload/1/c.jpg", "choice": {"choices": ["boat"]}, "annotation_id": 1, "annotator": 1}]
    return [_json(root / "test.json", tasks), _json(root / "more.json", short)]


def _labelme(root: Path) -> list[Path]:
    content = {"flags": {"night": True}, "shapes": [{"label": "boat"}], "imagePath": "a.jpg"}
    return [_json(root / "test" / "a.json", content)]


def _celeba(root: Path) -> list[Path]:
    table = write(root / "list_attr_celeba.txt", "2", "Bald Young", "a.jpg -1  1", "b.jpg  1 -1")
    return [table, write(root / "list_eval_partition.txt", "a.jpg 2", "b.jpg 2")]


def _vertex(root: Path) -> list[Path]:
    uses = {"dataItemResourceLabels": {"ml_use": "test"}}
    line = {"imageGcsUri": "gs://bucket/c.jpg", "classificationAnnotations": [{"displayName": "boat"}], **uses}
    return [write(root / "import.csv", "test,gs://bucket/a.jpg,boat", "test,gs://bucket/b.jpg,dock"),
            _json(root / "import.jsonl", line)]  # fmt: skip


def _groundtruth(root: Path) -> list[Path]:
    about = {"class-map": {"0": "boat", "1": "dock"}}
    rows = [{"source-ref": f"s3://bucket/{name}", "tags": [0], "tags-metadata": about} for name in _NAMES[:2]]
    return [write(root / "test.manifest", *map(json.dumps, [*rows, {**rows[0], "tags": [1]}]))]


def _azureml(root: Path) -> list[Path]:
    rows = [{"image_url": "AmlDatastore://s/a.jpg", "label": ["boat"], "label_confidence": [1.0]},
            {"image_url": "AmlDatastore://s/b.jpg", "label": "dock"}]  # fmt: skip
    return [write(root / "test.jsonl", *map(json.dumps, rows))]


def _voc(root: Path) -> list[Path]:
    boat = "<annotation><object><name>boat</name><difficult>0</difficult></object></annotation>"
    return [write(root / "test" / "a.xml", boat), write(root / "test" / "b.xml", "<annotation></annotation>")]


def _csv(root: Path) -> list[Path]:
    table = write(
        root / "labels.csv", "Image Index,Finding Labels,Age", "a.jpg,boat|dock,3", "b.jpg,boat,4", "c.jpg,,5"
    )
    return [table, write(root / "test_list.txt", "a.jpg", "b.jpg")]


_WRITERS: dict[str, Callable[[Path], list[Path]]] = {
    "datumaro": _datumaro, "cvat": _cvat, "roboflow": _roboflow, "openimages": _openimages, "fiftyone": _fiftyone,
    "labelstudio": _labelstudio, "labelme": _labelme, "celeba": _celeba, "vertex": _vertex,
    "groundtruth": _groundtruth, "azureml": _azureml, "voc": _voc, "csv": _csv,
}  # fmt: skip


def write_tools(folder: Path) -> list[Path]:
    """Write every data set; the files that say labels."""
    found = []
    for format, writer in _WRITERS.items():
        for name in _NAMES:
            picture(folder / format / ("photos" if format == "csv" else "test") / name)
        found += writer(folder / format)
    return found


def read_tools(folder: Path, file: Path) -> None:
    """Read the data set of the folder in which a file lies."""
    format = cast("Format", file.relative_to(folder).parts[0])
    for split in list_splits(folder / format, format=format):
        load_dataset(folder / format, split, format=format)
