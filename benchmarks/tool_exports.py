"""Data sets that labelling tools write themselves: what edgepress reads in them against the tools' own readers.

The tools need an environment of their own, because they pin other versions; edgepress reads in its own.

    python3 -m venv build/tools
    build/tools/bin/pip install datumaro pycocotools datasets pyarrow opencv-python-headless fiftyone
    build/tools/bin/python benchmarks/tool_exports.py write build/exports
    .venv/bin/python benchmarks/tool_exports.py compare build/exports

FiftyOne's exporters and importers need no database; its data sets, which do, are not used.

`write` makes the trees and counts.json: for each tree and split the number of pictures, and of each label the pictures
that have it, as the tool reads them back. `compare` prints a line a split and exits with 1 where a count differs.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

NAMES = ("boat", "crane", "dock", "gull")
SPLITS = {"train": 40, "val": 12, "test": 9}

Counts = dict[str, tuple[int, dict[str, int]]]


def counted(pictures: dict[str, list[set[str]]]) -> Counts:
    return {
        split: (len(sets), dict(sorted(Counter(one for labels in sets for one in labels).items())))
        for split, sets in pictures.items()
    }


def by_datumaro(out: Path, rng: Any) -> dict[str, Counts]:
    """Labels of pictures and boxes, exported as Datumaro's JSON, VOC and COCO."""
    from datumaro.components.annotation import Bbox, Label
    from datumaro.components.dataset import Dataset
    from datumaro.components.dataset_base import DatasetItem
    from datumaro.components.media import Image
    from pycocotools.coco import COCO

    items = []
    for split, number in SPLITS.items():
        for i in range(number):
            whole = [Label(column) for column in range(4) if rng.random() < 0.4]
            parts = [Bbox(1, 1, 3, 3, label=column) for column in range(4) if rng.random() < 0.2]
            picture = Image.from_numpy(rng.integers(0, 255, (12, 16, 3), dtype="uint8"))
            items.append(DatasetItem(id=f"{split}_{i:03d}", subset=split, media=picture, annotations=whole + parts))
    made = Dataset.from_iterable(items, categories=list(NAMES))
    found = {}
    for format in ("datumaro", "voc", "coco"):
        made.export(str(out / format), format, save_media=True)
        if format == "coco":
            continue
        back = Dataset.import_from(str(out / format), format)
        names = [category.name for category in next(iter(back.categories().values())).items]
        sets: dict[str, list[set[str]]] = {}
        for item in back:
            labels = {names[one.label] for one in item.annotations if getattr(one, "label", None) is not None}
            sets.setdefault(item.subset, []).append(labels)
        found[f"{format}: datumaro {version('datumaro')}"] = counted(sets)
    sets = {}
    for split in SPLITS:
        both: dict[int, set[str]] = {}
        for kind in ("instances", "labels"):  # boxes, and labels of whole pictures
            read = COCO(str(out / "coco" / "annotations" / f"{kind}_{split}.json"))
            called = {one["id"]: one["name"] for one in read.loadCats(read.getCatIds())}
            for one in read.getImgIds():
                annotations = read.loadAnns(read.getAnnIds(imgIds=[one]))
                both.setdefault(one, set()).update(called[each["category_id"]] for each in annotations)
        sets[split] = list(both.values())
    return {**found, f"coco: pycocotools {version('pycocotools')}": counted(sets)}


def by_datasets(out: Path, rng: Any) -> dict[str, Counts]:
    """An imagefolder with metadata.parquet, and one with metadata.jsonl."""
    import cv2
    import pyarrow
    from datasets import load_dataset
    from pyarrow import parquet

    found = {}
    for format in ("parquet", "jsonl"):
        root = out / f"imagefolder-{format}"
        for split, number in SPLITS.items():
            folder = root / split
            (folder / "more").mkdir(parents=True)
            rows = []
            for i in range(number):
                name = f"{i:03d}.png" if i % 3 else f"more/{i:03d}.png"
                cv2.imwrite(str(folder / name), rng.integers(0, 255, (12, 16, 3), dtype="uint8"))
                rows.append({"file_name": name, "labels": [one for one in NAMES if rng.random() < 0.4]})
            if format == "parquet":
                parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "metadata.parquet")
            else:
                (folder / "metadata.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        read = load_dataset("imagefolder", data_dir=str(root), cache_dir=str(out / ".cache"))
        told = {"validation": "val"}  # datasets calls every val by its full name
        sets = {told.get(split, split): [set(labels) for labels in read[split]["labels"]] for split in read}
        found[f"imagefolder-{format}: datasets {version('datasets')}"] = counted(sets)
    return found


def by_fiftyone(out: Path, rng: Any) -> dict[str, Counts]:
    """One label a picture, several, and boxes in COCO's JSON; of some pictures nobody gave the labels."""
    import cv2
    from fiftyone.core.labels import Classification, Classifications, Detection, Detections
    from fiftyone.utils.coco import COCODetectionDatasetExporter, COCODetectionDatasetImporter
    from fiftyone.utils.data.exporters import FiftyOneImageClassificationDatasetExporter
    from fiftyone.utils.data.importers import FiftyOneImageClassificationDatasetImporter

    def labels(form: str) -> Any:
        chosen = [name for name in NAMES if rng.random() < 0.4]
        if rng.random() < 0.1:
            return None
        if form == "one":
            return Classification(label=NAMES[rng.integers(4)])
        if form == "several":
            return Classifications(classifications=[Classification(label=name) for name in chosen])
        return Detections(detections=[Detection(label=name, bounding_box=[0.1, 0.1, 0.5, 0.5]) for name in chosen])

    def names(label: Any) -> set[str]:
        items = getattr(label, "classifications", None) or getattr(label, "detections", None) or []
        return {one.label for one in items} | ({label.label} if isinstance(label, Classification) else set())

    found = {}
    for form in ("one", "several", "coco"):
        sets: dict[str, list[set[str]]] = {}
        for split, number in SPLITS.items() if form != "coco" else (("train", 40),):
            root = out / f"fiftyone-{form}" / ("" if form == "coco" else split)
            exporter = COCODetectionDatasetExporter if form == "coco" else FiftyOneImageClassificationDatasetExporter
            with exporter(export_dir=str(root), classes=list(NAMES)) as made:
                for i in range(number):
                    source = out / ".pictures" / f"{split}-{i:03d}.png"
                    source.parent.mkdir(exist_ok=True)
                    cv2.imwrite(str(source), rng.integers(0, 255, (12, 16, 3), dtype="uint8"))
                    made.export_sample(str(source), labels(form))
            importer = COCODetectionDatasetImporter if form == "coco" else FiftyOneImageClassificationDatasetImporter
            with importer(dataset_dir=str(root)) as read:
                sets[split] = [names(label["detections"] if form == "coco" and label else label) for *_, label in read]
        found[f"fiftyone-{form}: fiftyone {version('fiftyone')}"] = counted(sets)
    return found


def write(out: Path) -> None:
    import numpy as np

    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    rng = np.random.default_rng(7)
    found = {**by_datumaro(out, rng), **by_datasets(out, rng), **by_fiftyone(out, rng)}
    (out / "counts.json").write_text(json.dumps(found, indent=1))


def compare(out: Path) -> int:
    from edgepress.multilabel.datasets import load_dataset

    different = 0
    for name, splits in json.loads((out / "counts.json").read_text()).items():
        for split, (pictures, labels) in splits.items():
            data = load_dataset(out / name.split(":")[0], split)
            sums = (data.targets * ~data.ignore).sum(axis=0)
            ours = {label: int(number) for label, number in zip(data.labels, sums, strict=True) if number}
            same = (len(data), ours) == (pictures, labels)
            different += not same
            print(f"{name}, {split}: {'same' if same else 'DIFFERENT'}, {len(data)} pictures, {ours}", *data.notes)
    return min(different, 1)


if __name__ == "__main__":
    verb, folder = sys.argv[1], Path(sys.argv[2])
    if verb == "write":
        write(folder)
    else:
        sys.exit(compare(folder))
