#!/usr/bin/env bash
# albumentations rounds numbers of boxes above 16,777,216, so an annotation gets the id of another or of none.
#
# Versions: albumentations 2.0.8, albucore 0.0.24, opencv-python-headless 5.0.0.93, numpy 2.4.6.
# Expected: what is named in "label_fields" comes back beside the boxes as it was; text does. The ids of COCO's
#   annotations are such numbers, and those of its crowds have twelve digits.
# Seen: numbers are put into one float32 array with the boxes' corners and come back from there as floats: above 2 ** 24
#   they are rounded to a neighbour, also where nothing is augmented. Of 1000 ids that follow one another half are left,
#   so what is looked up by id (tags, "difficult", a verdict) is another box's. It is the same for keypoints. Ids that
#   are text are right. No message.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  albumentations==2.0.8 albucore==0.0.24 opencv-python-headless==5.0.0.93 numpy==2.4.6
cd "$work"
NO_ALBUMENTATIONS_UPDATE=1 venv/bin/python - <<'PY'
import albumentations
import numpy as np

picture = np.zeros((100, 1100, 3), dtype=np.uint8)
flip = albumentations.HorizontalFlip(p=1)
nothing = albumentations.NoOp(p=1)


def back(ids, transform=flip):
    """The ids that come back with as many boxes."""
    boxes = [[float(place), 10, 20, 30] for place in range(len(ids))]
    parameters = albumentations.BboxParams(format="coco", label_fields=["ids"])
    found = albumentations.Compose([transform], bbox_params=parameters)(image=picture, bboxes=boxes, ids=ids)
    assert len(found["bboxes"]) == len(ids)
    return list(found["ids"])


small, crowds = [1, 2, 16777216], [900100581904, 16777217]
print("small ids:", small, "->", back(small))
print("large ids:", crowds, "->", back(crowds), "and as text", back([str(one) for one in crowds]))
assert back(small) == small and back([str(one) for one in crowds]) == [str(one) for one in crowds]
for transform in (flip, nothing):
    assert back(crowds, transform) == [float(np.float32(one)) for one in crowds] != crowds

ids = list(range(20_000_000, 20_001_000))
found = back(ids)
moved = sum(one != given for one, given in zip(found, ids))
print(f"{len(ids)} ids that follow one another: {len(set(found))} left, {moved} boxes with another one's id")
assert len(set(found)) <= 501 and moved == 500 and set(found) <= set(map(float, range(ids[0], ids[-1] + 2)))

parameters = albumentations.KeypointParams(format="xy", label_fields=["ids"])
compose = albumentations.Compose([flip], keypoint_params=parameters)
found = compose(image=picture, keypoints=[(1, 2), (3, 4)], ids=[16777217, 5])["ids"]
print("keypoints:", [16777217, 5], "->", list(found))
assert list(found) == [16777216, 5]
PY
