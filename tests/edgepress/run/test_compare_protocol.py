"""The recipes of examples/protocol read the folders as they are published, and compare methods on them.

The trees have the files, the lists, the fields and the names of the published archives, with few small pictures.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from edgepress.multilabel.datasets import detect_format, list_splits
from edgepress.run.recipe import CompareRecipe, load_recipe
from edgepress.run.splits import Splits, splits_of
from tests.multilabel.layouts import write

RECIPES = Path(__file__).parents[3] / "examples" / "protocol"
VOC = [
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
]


def picture(path: Path, rng: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), rng.integers(0, 255, (24, 32, 3)).astype(np.uint8))


def voc_object(name: str, difficult: int) -> str:
    return (
        f"\t<object>\n\t\t<name>{name}</name>\n\t\t<pose>Left</pose>\n\t\t<truncated>1</truncated>\n"
        f"\t\t<difficult>{difficult}</difficult>\n\t\t<bndbox>\n\t\t\t<xmin>1</xmin>\n\t\t\t<ymin>2</ymin>\n"
        "\t\t\t<xmax>20</xmax>\n\t\t\t<ymax>21</ymax>\n\t\t</bndbox>\n\t</object>\n"
    )


def write_voc2007(root: Path) -> Path:
    """VOCdevkit/VOC2007 of both archives: 60 pictures of trainval and 30 of test, every fifth with a difficult dog."""
    rng = np.random.default_rng(0)
    year, main = root / "VOCdevkit" / "VOC2007", root / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main"
    splits = {"trainval": [], "train": [], "val": [], "test": []}
    objects: dict[str, dict[str, int]] = {}
    for number in range(1, 91):
        name = f"{number:06d}"
        shown = {label: 0 for label in rng.choice([one for one in VOC if one != "dog"], 4, replace=False)}
        objects[name] = shown | ({"dog": 1} if number % 5 == 0 else {"dog": 0} if number % 3 == 0 else {})
        for split in ("test",) if number % 3 == 1 else ("trainval", "train" if number % 2 else "val"):
            splits[split].append(name)
        picture(year / "JPEGImages" / f"{name}.jpg", rng)
        inner = "".join(voc_object(label, hard) for label, hard in objects[name].items())
        write(
            year / "Annotations" / f"{name}.xml",
            f"<annotation>\n\t<folder>VOC2007</folder>\n\t<filename>{name}.jpg</filename>\n\t<source>\n"
            "\t\t<database>The VOC2007 Database</database>\n\t\t<flickrid>1</flickrid>\n\t</source>\n\t<size>\n"
            "\t\t<width>32</width>\n\t\t<height>24</height>\n\t\t<depth>3</depth>\n\t</size>\n"
            f"\t<segmented>0</segmented>\n{inner}</annotation>",
        )
    for split, names in splits.items():
        write(main / f"{split}.txt", *names)
        for other in ("Layout", "Segmentation"):  # parts of them, for other tasks
            write(main.parent / other / f"{split}.txt", *names[::4])
        for label in VOC:
            values = [{0: 1, 1: 0}.get(objects[name].get(label), -1) for name in names]
            write(
                main / f"{label}_{split}.txt",
                *(f"{name} {value:2d}" for name, value in zip(names, values, strict=True)),
            )
    return year


def write_coco2014(root: Path) -> Path:
    """train2014/, val2014/ and the six files of annotations_trainval2014.zip; ids of categories have gaps."""
    rng = np.random.default_rng(1)
    ids = [number for number in range(1, 91) if number not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]
    categories = [{"supercategory": "thing", "id": number, "name": f"thing {number}"} for number in ids]
    for split, count in {"train2014": 90, "val2014": 30}.items():
        images, boxes = [], []
        for number in range(count):
            name = f"COCO_{split}_{number:012d}.jpg"
            picture(root / split / name, rng)
            url = f"http://mscoco.org/images/{number}"
            images.append({"license": 5, "file_name": name, "coco_url": url, "height": 24, "width": 32, "id": number})
            for category in rng.choice(ids, 6, replace=False) if number % 10 else ():  # some have none
                boxes.append({"segmentation": [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]], "area": 9.0, "iscrowd": 0,
                              "image_id": number, "bbox": [1, 2, 3, 3], "category_id": int(category),
                              "id": len(boxes)})  # fmt: skip
        content = {"info": {"year": 2014}, "images": images, "licenses": [], "annotations": boxes}
        person = [{**one, "keypoints": [], "num_keypoints": 0} for one in boxes if one["category_id"] == 1]
        captions = [{"image_id": 0, "id": 1, "caption": "a thing"}]
        for kind, changed in {
            "instances": {"categories": categories},
            "person_keypoints": {"categories": categories[:1], "annotations": person},
            "captions": {"annotations": captions},
        }.items():
            write(root / "annotations" / f"{kind}_{split}.json", json.dumps(content | changed))
    return root


def write_nuswide(root: Path) -> Path:
    """Flickr/ with a folder for each search, lists with backslashes, and a file of 0 and 1 for every concept."""
    rng = np.random.default_rng(2)
    concepts = [f"concept{number:02d}" for number in range(81)]
    write(root / "Concepts81.txt", *concepts)
    for split, count in {"Train": 90, "Test": 30}.items():
        names = [f"actor\\{number:04d}_{split}{number}.jpg" for number in range(count)]
        for name in names:
            picture(root / "Flickr" / name.replace("\\", "/"), rng)
        write(root / "ImageList" / f"{split}Imagelist.txt", *names)
        for concept in concepts:
            values = rng.random(count) < 0.1
            write(root / "TrainTestLabels" / f"Labels_{concept}_{split}.txt", *(str(int(value)) for value in values))
    return root


WRITERS: dict[str, Callable[[Path], Path]] = {
    "voc2007": write_voc2007,
    "coco2014": write_coco2014,
    "nuswide": write_nuswide,
}


def read(name: str, root: Path, **changed: str) -> Splits:
    return splits_of(load_recipe(RECIPES / f"{name}.yaml", {"data": str(root), **changed}, CompareRecipe))


@pytest.mark.parametrize(
    ("name", "format", "labels", "test", "known"),
    [
        ("voc2007", "voc", 20, 30, ["test", "train", "trainval", "val"]),
        ("coco2014", "coco", 80, 30, ["train2014", "val2014"]),
        ("nuswide", "nuswide", 81, 30, ["test", "train"]),
    ],
)
def test_a_recipe_reads_the_folder_as_it_is_published(tmp_path, name, format, labels, test, known):
    root = WRITERS[name](tmp_path)
    assert (detect_format(root), list_splits(root)) == (format, known)
    splits = read(name, root)
    assert len(splits.train.labels) == labels
    assert len(splits.test) == test
    whole = {"voc2007": 60}.get(name, 90)
    assert len(splits.train) + len(splits.val) == whole  # nothing is lost, and val is a part held out
    assert 0 < len(splits.val) < whole / 4
    assert not splits.train.ignore.any()
    assert not splits.test.ignore.any()  # VOC's difficult objects are positive
    if name == "voc2007":
        dog = splits.test.labels.index("dog")
        shown = {path.stem for path, target in zip(splits.test.paths, splits.test.targets, strict=True) if target[dog]}
        assert shown == {f"{number:06d}" for number in range(1, 91) if number % 3 == 1 and number % 5 == 0}


def test_a_published_picture_that_is_in_both_splits_leaves_the_training(tmp_path):
    root = write_nuswide(tmp_path)
    copied = (root / "Flickr" / "actor" / "0003_Test3.jpg").read_bytes()
    (root / "Flickr" / "actor" / "0005_Train5.jpg").write_bytes(copied)
    splits = read("nuswide", root)
    assert (len(splits.train) + len(splits.val), len(splits.test)) == (89, 30)


def test_asl_s_list_of_nus_wide_is_read_with_its_val_as_test(tmp_path):
    rng, rows = np.random.default_rng(3), ["filepath,label,split_name"]
    for number in range(80):
        name = f"images/{number:04d}_{number}.jpg"
        picture(tmp_path / name, rng)
        shown = [one for one in ("clouds", "person", "sky", "water") if rng.random() < 0.5] or ["sky"]
        rows.append(f'{name},"{shown}",{"val" if number % 4 == 0 else "train"}')
    write(tmp_path / "nus_wid_data.csv", *rows)
    splits = read("nuswide", tmp_path, test="val")
    assert splits.test.labels.names == ("clouds", "person", "sky", "water")
    assert (len(splits.train) + len(splits.val), len(splits.test)) == (60, 20)


def test_the_recipes_train_alike():
    values = [yaml.safe_load((RECIPES / f"{name}.yaml").read_text()) for name in WRITERS]
    assert all((one["teach"], one["distill"]) == (values[0]["teach"], values[0]["distill"]) for one in values)


def test_a_recipe_compares_methods_end_to_end(tmp_path, edgepress):
    root = write_voc2007(tmp_path)
    small = []
    for section, backbone in (("teach", "test_efficientnet"), ("distill", "test_resnet")):
        values = {"backbone": backbone, "width": 32, "size": 32, "epochs": 1, "batch-size": 16, "weights": "none"}
        small += [f"--{section}-{key}={value}" for key, value in values.items()]
    answer = edgepress("compare", "--recipe", RECIPES / "voc2007.yaml", "--data", root, "--out", tmp_path / "run",
                       "--methods", "alone,l2d", "--teach-stop-epoch", 1, *small)  # fmt: skip
    assert answer.code == 0, answer.err
    record = json.loads((tmp_path / "run" / "compare.json").read_text())
    assert [row["method"] for row in record["students"]] == ["alone", "l2d"]
    taught = record["students"][1]["training"]
    assert (taught["reduction"], taught["mld"], taught["cd"], taught["id"]) == ("published", 10, 100, 1000)
    assert (record["train_pictures"], record["test_pictures"]) == (len(read("voc2007", root).train), 30)


@pytest.mark.parametrize("verb", ["run", "compare", "tune --time-budget 1h"])
def test_a_key_for_data_of_another_format_is_named_with_its_recipe(bad, tiny_data, tmp_path, verb):
    recipe = RECIPES / "voc2007.yaml"
    own = ("--train", "train", "--val", "val", "--test", "test", "--out", tmp_path / "run")
    line = bad(*verb.split(), "--recipe", recipe, "--data", tiny_data, *own)
    assert "difficult='positive' is for Pascal VOC" in line
    assert f"leave out --difficult, or remove the key difficult from {recipe}" in line
