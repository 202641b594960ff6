"""Pictures and lists of data sets, as tests write them, and what is read of them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.errors import InputError


def picture(path: Path, shade: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((6, 8, 3), shade, np.uint8))
    return path


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def imagefolder(root: Path, rows: dict[str, dict], split: str = "train") -> Path:
    for name in rows:
        picture(root / split / name)
    write(root / split / "metadata.jsonl", *(json.dumps({"file_name": name, **row}) for name, row in rows.items()))
    return root


def refusal(root: Path, split: str = "test", **options) -> str:
    with pytest.raises(InputError) as caught:
        load_dataset(root, split, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def check(dataset, labels, names, targets, ignore=None) -> None:
    assert dataset.labels.names == tuple(labels)
    assert [path.name for path in dataset.paths] == names
    assert all(path.is_file() for path in dataset.paths)
    assert (dataset.targets.dtype, dataset.ignore.dtype) == (np.uint8, bool)
    np.testing.assert_array_equal(dataset.targets, targets)
    np.testing.assert_array_equal(dataset.ignore, np.zeros_like(targets) if ignore is None else ignore)


def annotation(*objects: tuple[str, int], part: str = "") -> str:
    inner = "".join(
        f"<object><name>{name}</name><difficult>{hard}</difficult>{part}</object>" for name, hard in objects
    )
    return f"<annotation><filename>x.jpg</filename>{inner}</annotation>"


VOC = {
    "000005": annotation(("person", 0), ("dog", 1), ("person", 1), part="<part><name>head</name></part>"),
    "000007": annotation(("dog", 1), ("dog", 0)),
    "000009": annotation(),
    "000012": annotation(("cat", 0)),
}
VOC_SPLITS = {"train": ["000012"], "test": ["000009", "000005", "000007"]}
VOC_TARGETS = [[0, 0, 0], [0, 0, 1], [0, 1, 0]]


def write_voc(year: Path, *, graded: bool) -> Path:
    for shade, (name, text) in enumerate(VOC.items()):
        picture(year / "JPEGImages" / f"{name}.jpg", shade)
        write(year / "Annotations" / f"{name}.xml", text)
    main = year / "ImageSets" / "Main"
    for split, names in VOC_SPLITS.items():
        write(main / f"{split}.txt", *names)
    if graded:
        values = {"cat": {"000012": 1}, "dog": {"000005": 0, "000007": 1}, "person": {"000005": 1}}
        for label, known in values.items():
            for split, names in VOC_SPLITS.items():
                write(main / f"{label}_{split}.txt", *(f"{name} {known.get(name, -1):2d}" for name in names))
    return year


CATEGORIES = [{"id": 17, "name": "cat"}, {"id": 1, "name": "person"}, {"id": 90, "name": "toothbrush"}]
IMAGES = [{"id": 9, "file_name": "b.jpg"}, {"id": 2, "file_name": "a.jpg"}, {"id": 5, "file_name": "c.jpg"}]
ANNOTATIONS = [
    {"image_id": 2, "category_id": 17, "iscrowd": 0, "segmentation": [[1.0, 2.0]]},
    {"image_id": 5, "category_id": 1, "iscrowd": 1, "segmentation": {"counts": [3]}},
    {"image_id": 2, "category_id": 17},
    {"image_id": 2, "category_id": 1},
]


def write_coco(root: Path, split: str = "val2017", folder: str = "val2017", **changed) -> Path:
    content = {"images": IMAGES, "annotations": ANNOTATIONS, "categories": CATEGORIES} | changed
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    for shade, name in enumerate("abc"):
        picture(root / folder / f"{name}.jpg", shade)
    return root


NUS = {
    "Train": {"pictures": ["actor\\0001_1.jpg", "dog\\0002_2.jpg"], "sky": "01", "animal": "01"},
    "Test": {"pictures": ["sky\\b.jpg", "actor\\a.jpg", "sky\\c.jpg"], "sky": "101", "animal": "001"},
}


def write_nus(root: Path, folder: str = "Flickr", labels: str = "TrainTestLabels") -> Path:
    write(root / "ConceptsList" / "Concepts81.txt", "sky", "animal")
    for split, rows in NUS.items():
        write(root / "ImageList" / f"{split}Imagelist.txt", *rows["pictures"])
        for concept in ("sky", "animal"):
            write(root / labels / f"Labels_{concept}_{split}.txt", *rows[concept])
        for name in rows["pictures"]:
            picture(root / folder / name.replace("\\", "/"))
    return root


def write_csv(root: Path, *lines: str, split: str = "test", folder: str = "") -> Path:
    write(root / f"{split}.csv", *lines)
    for shade, name in enumerate("abc"):
        picture(root / folder / f"{name}.jpg", shade)
    return root
