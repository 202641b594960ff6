#!/usr/bin/env bash
# hotcoco stands in for pycocotools, but gives the pictures of any of several categories instead of those that have all,
# and takes annotations on the bounds of an area as well.
#
# Versions: hotcoco 1.3.0, pycocotools 2.0.11, numpy 2.4.6.
# Expected: the same answers, because hotcoco is "a drop-in replacement for pycocotools" (its README) with the same
#   names of methods. getImgIds(catIds=[1, 2]) of pycocotools is the pictures that have both, which surprises users too
#   (cocodataset/cocoapi#114).
# Seen: of four pictures one has a cat and a dog; pycocotools gives that one, hotcoco all that have a cat or a dog. So a
#   set of pictures in which two labels meet becomes most of the data set. areaRng=[4, 25] means 4 < area < 25 for
#   pycocotools and 4 <= area <= 25 for hotcoco. It is so as well after init_as_pycocotools(). No message.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  hotcoco==1.3.0 pycocotools==2.0.11 numpy==2.4.6
cd "$work"
cat > asked.py <<'PY'
import contextlib
import io
import json
import sys

if sys.argv[1] == "init":
    import hotcoco

    hotcoco.init_as_pycocotools()
if sys.argv[1] == "hotcoco":
    from hotcoco import COCO
else:
    from pycocotools.coco import COCO

with contextlib.redirect_stdout(io.StringIO()):
    coco = COCO("labels.json")
found = {
    "cat": sorted(coco.getImgIds(catIds=[1])),
    "cat and dog": sorted(coco.getImgIds(catIds=[1, 2])),
    "area 4 to 25": sorted(coco.getAnnIds(areaRng=[4, 25])),
    "all areas": sorted(coco.getAnnIds()),
}
print(json.dumps(found))
PY
cat > labels.json <<'JSON'
{"images": [{"id": 1, "width": 30, "height": 20}, {"id": 2, "width": 30, "height": 20},
            {"id": 3, "width": 30, "height": 20}, {"id": 4, "width": 30, "height": 20}],
 "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
 "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "area": 25, "iscrowd": 0},
                 {"id": 2, "image_id": 2, "category_id": 2, "bbox": [1, 1, 3, 3], "area": 9, "iscrowd": 0},
                 {"id": 3, "image_id": 3, "category_id": 1, "bbox": [1, 1, 2, 2], "area": 4, "iscrowd": 0},
                 {"id": 4, "image_id": 3, "category_id": 2, "bbox": [1, 1, 6, 5], "area": 30, "iscrowd": 0}]}
JSON
for which in pycocotools hotcoco init; do
  venv/bin/python asked.py "$which" > "$which.json"
  echo "$which: $(cat "$which.json")"
done
venv/bin/python - <<'PY'
import json

right, *others = (json.load(open(f"{which}.json")) for which in ("pycocotools", "hotcoco", "init"))
assert (right["cat and dog"], right["area 4 to 25"]) == ([3], [2])
for found in others:
    assert (found["cat"], found["all areas"]) == (right["cat"], right["all areas"])
    assert (found["cat and dog"], found["area 4 to 25"]) == ([1, 2, 3], [1, 2, 3])
PY
