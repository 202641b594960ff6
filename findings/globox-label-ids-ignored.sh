#!/usr/bin/env bash
# globox ignores the label ids that it is asked to write, unless image ids are given too.
#
# Versions: globox 2.9.0, Pillow 12.3.0.
# Expected: AnnotationSet.to_coco(label_to_id={"cat": 17, "dog": 18}) writes categories 17 and 18. Its own error message
#   says that both mappings "can be provided either by argument or automatically".
# Seen: label_to_id is used only where imageid_to_id is given as well. With auto_ids=True, and for a set that was read
#   from COCO, it is replaced without a word: by positions in the sorted list of the labels that have a box (cat 0, dog
#   1), or by the file's old ids. Two splits in which different labels occur thus get different ids for the same label,
#   and a model's columns are scored against the wrong labels.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  globox==2.9.0 pillow==12.3.0
cd "$work"
venv/bin/python - <<'PY'
import json
from pathlib import Path

from globox import Annotation, AnnotationSet, BoundingBox


def split(*labels):
    pictures = AnnotationSet()
    for label in labels:
        box = BoundingBox(label=label, xmin=1, ymin=1, xmax=5, ymax=5)
        pictures.add(Annotation(image_id=f"{label}.jpg", image_size=(8, 8), boxes=[box]))
    return pictures


def ids(document):
    return {category["name"]: category["id"] for category in document["categories"]}


asked = {"cat": 17, "dog": 18}
train = ids(split("cat", "dog").to_coco(label_to_id=asked, auto_ids=True))
val = ids(split("dog").to_coco(label_to_id=asked, auto_ids=True))
print("asked:", asked, "train:", train, "val:", val)
assert train == {"cat": 0, "dog": 1} and val == {"dog": 0}

Path("old.json").write_text(json.dumps(split("cat", "dog").to_coco(auto_ids=True)))
read = AnnotationSet.from_coco(Path("old.json"))
again = ids(read.to_coco(label_to_id=asked))
print("read from COCO and written with", asked, "gives", again)
assert again == {"cat": 0, "dog": 1}

images = {"cat.jpg": 1, "dog.jpg": 2}
assert ids(read.to_coco(label_to_id=asked, imageid_to_id=images)) == asked
PY
