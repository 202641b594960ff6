#!/usr/bin/env bash
# labelme2coco gives a new label the id of a label that it was told to start from, so that two labels become one.
#
# Versions: labelme2coco 0.2.6, sahi 0.12.8.
# Expected: with coco_category_list the ids in that list are taken, and a label that is not in it gets a free id (the
#   docstring of get_coco_from_labelme_folder: the list is where the conversion starts from).
# Seen: new labels are counted from category_id_start = 0 whatever ids the list holds. With the list [cat: 0] a folder
#   with a cat and a dog gives two categories of id 0, and both annotations carry 0: whoever reads the file by id sees
#   one label. A validation folder that is converted with the training folder's categories runs into this.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  labelme2coco==0.2.6 sahi==0.12.8
cd "$work"
venv/bin/python - <<'PY'
import json
from pathlib import Path

from labelme2coco.labelme2coco import get_coco_from_labelme_folder

Path("val").mkdir()
for name, label in (("1", "cat"), ("2", "dog")):
    shape = {"label": label, "shape_type": "rectangle", "points": [[1, 1], [5, 5]], "group_id": None, "flags": {}}
    document = {"version": "5.5.0", "flags": {}, "shapes": [shape], "imagePath": f"{name}.jpg", "imageData": None}
    Path("val", f"{name}.json").write_text(json.dumps({**document, "imageHeight": 8, "imageWidth": 8}))

train_categories = [{"id": 0, "name": "cat", "supercategory": "cat"}]
coco = get_coco_from_labelme_folder("val", coco_category_list=train_categories).json
categories = [(category["id"], category["name"]) for category in coco["categories"]]
ids = [annotation["category_id"] for annotation in coco["annotations"]]
print("categories:", categories, "the annotations' ids:", ids)
assert categories == [(0, "cat"), (0, "dog")]
assert ids == [0, 0]
PY
