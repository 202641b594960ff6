#!/usr/bin/env bash
# sahi merges two COCO data sets and leaves out every label that only the second one has.
#
# Versions: sahi 0.12.8, numpy 2.4.6.
# Expected: merge() and merge_from_file() "combine 2 coco formatted annotations", so what either of them says is in the
#   result.
# Seen: the second data set's categories are replaced by the first one's. The annotations of a label that the first one
#   lacks are left out, while their pictures stay, as pictures without that label: negatives that are none. The order of
#   the two decides what is lost. merge_from_list() keeps all. No message.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
pip=(python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check)
"${pip[@]}" numpy==2.4.6 shapely==2.2.0 tqdm==4.70.1
# Without its dependencies for pictures: here it only reads and writes JSON.
"${pip[@]}" --no-deps sahi==0.12.8
cd "$work"
venv/bin/python - 2>/dev/null <<'PY'
import json
from collections import Counter
from pathlib import Path

from sahi.utils.coco import merge, merge_from_file, merge_from_list


def data_set(names, labels):
    """One picture and one box for each of the labels."""
    return {
        "images": [{"id": n, "file_name": f"{label}.jpg", "width": 9, "height": 9} for n, label in enumerate(labels)],
        "categories": [{"id": n, "name": name, "supercategory": "animal"} for n, name in enumerate(names)],
        "annotations": [
            {"id": n, "image_id": n, "category_id": names.index(label), "bbox": [1, 1, 5, 5], "area": 25, "iscrowd": 0}
            for n, label in enumerate(labels)
        ],
    }


def counts(coco):
    names = {category["id"]: category["name"] for category in coco["categories"]}
    return dict(Counter(names[annotation["category_id"]] for annotation in coco["annotations"]))


def through_files(first, second):
    for number, coco in enumerate((first, second)):
        Path(f"{number}.json").write_text(json.dumps(coco))
    merge_from_file("0.json", "1.json", "merged.json")
    return json.loads(Path("merged.json").read_text())


pets = data_set(["cat", "dog"], ["cat", "dog", "dog"])
farm = data_set(["dog", "horse"], ["dog", "horse", "horse", "horse"])
print(f"first {counts(pets)}, second {counts(farm)}")
for title, combine, both, reverse in (
    ("merge", merge, {"cat": 1, "dog": 3}, {"dog": 3, "horse": 3}),
    ("merge_from_file", through_files, {"cat": 1, "dog": 3}, {"dog": 3, "horse": 3}),
    ("merge_from_list", lambda *two: merge_from_list(list(two), verbose=0), *[{"cat": 1, "dog": 3, "horse": 3}] * 2),
):
    for order, expected in (([pets, farm], both), ([farm, pets], reverse)):
        merged = combine(*order)
        print(f"{title}: {counts(merged)} in {len(merged['images'])} pictures")
        assert counts(merged) == expected and len(merged["images"]) == 7
PY
