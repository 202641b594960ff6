#!/usr/bin/env bash
# pycocotools answers several categories where one is asked for by its name as a plain string.
#
# Versions: pycocotools 2.0.11, numpy 2.4.6.
# Expected: getCatIds(catNms="hot dog") gives the category "hot dog" alone. A lone value is accepted by design: the
#   method puts everything that is not array-like into a list, and getAnnIds(catIds=3) works that way.
# Seen: a str has a length and an iterator and passes for array-like, so `name in catNms` looks for substrings: "hot
#   dog" finds "dog" as well, and supNms="person and animal" finds "person" and "animal". With COCO's own 80 names "hot
#   dog" gives dog, "teddy bear" gives bear and "keyboard" stays alone, so a tagger's labels that are read one name at a
#   time get another label's pictures as positives. A list of one name is right.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  pycocotools==2.0.11 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import contextlib
import io
import json

from pycocotools.coco import COCO

names = {17: "cat", 18: "dog", 23: "bear", 58: "hot dog", 88: "teddy bear", 76: "keyboard"}
document = {
    "images": [{"id": n, "file_name": f"{n}.jpg", "width": 8, "height": 8} for n in names],
    "categories": [{"id": n, "name": name, "supercategory": "thing"} for n, name in names.items()],
    "annotations": [
        {"id": n, "image_id": n, "category_id": n, "bbox": [0, 0, 4, 4], "area": 16, "iscrowd": 0} for n in names
    ],
}
with open("instances.json", "w") as file:
    json.dump(document, file)
with contextlib.redirect_stdout(io.StringIO()):
    coco = COCO("instances.json")

for asked in ("hot dog", "teddy bear", "keyboard", "cat"):
    one, listed = coco.getCatIds(catNms=asked), coco.getCatIds(catNms=[asked])
    print(f"{asked!r}: {[names[n] for n in one]}, as a list of one: {[names[n] for n in listed]}")
assert [names[n] for n in coco.getCatIds(catNms="hot dog")] == ["dog", "hot dog"]
assert [names[n] for n in coco.getCatIds(catNms="teddy bear")] == ["bear", "teddy bear"]
assert [names[n] for n in coco.getCatIds(catNms=["hot dog"])] == ["hot dog"]
pictures = {coco.anns[n]["image_id"] for n in coco.getAnnIds(catIds=coco.getCatIds(catNms="hot dog"))}
print("pictures with a 'hot dog':", sorted(pictures))
assert pictures == {18, 58}
PY
