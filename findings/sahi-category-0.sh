#!/usr/bin/env bash
# sahi takes category 0 for no category where it thins out the pictures of one category.
#
# Versions: sahi 0.12.8, numpy 2.4.6.
# Expected: get_subsampled_coco(n, category_id) "subsamples only images containing given category_id", to balance labels.
#   Ids often begin at 0 (Label Studio's, Detectron2's, and those that sahi's own merge gives).
# Seen: with category 0 every nth picture of the whole data set is left, also of those without that category: the rare
#   label that should have been kept is thinned out like the frequent one, and they are as unequal as before. Category 1
#   is right, and so is get_upsampled_coco with category 0. No message.
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
from sahi.utils.coco import Coco


def data_set(labels):
    return {
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": 9, "height": 9} for n in range(len(labels))],
        "categories": [{"id": n, "name": f"label {n}", "supercategory": "label"} for n in range(2)],
        "annotations": [
            {"id": n, "image_id": n, "category_id": labels[n], "bbox": [1, 1, 5, 5], "area": 25, "iscrowd": 0}
            for n in range(len(labels))
        ],
    }


def counts(coco):
    found = [image.annotations[0].category_id for image in coco.images]
    return {label: found.count(label) for label in (0, 1)}


for labels, category, fewer, more in (
    ([1] * 90 + [0] * 10, 1, {0: 10, 1: 30}, {0: 10, 1: 270}),
    ([0] * 90 + [1] * 10, 0, {0: 30, 1: 4}, {0: 270, 1: 10}),
):
    coco = Coco.from_coco_dict_or_path(data_set(labels))
    third, thrice = coco.get_subsampled_coco(3, category_id=category), coco.get_upsampled_coco(3, category_id=category)
    print(f"{counts(coco)}, a third of category {category}: {counts(third)}; it thrice: {counts(thrice)}")
    assert (counts(third), counts(thrice)) == (fewer, more)
PY
