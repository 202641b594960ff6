#!/usr/bin/env bash
# pylabel's split by groups ignores the groups: boxes of one picture are in train and in test.
#
# Versions: pylabel 0.1.55, pandas 2.2.3, scikit-learn 1.9.1, numpy 2.4.6.
# Expected: splitter.GroupShuffleSplit(group_col="img_filename"), which is the default, is scikit-learn's
#   GroupShuffleSplit, as its docstring says: all rows of one picture are on one side.
# Seen: the number of the row is given to scikit-learn as the group, and group_col as the target, which is not used. Of
#   20 pictures with 4 boxes each, 18 are in train and in test at once; no value of group_col helps. What is trained and
#   tested on the table dataset.df has seen its test pictures. StratifiedGroupShuffleSplit keeps pictures whole.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
pip=(python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check)
"${pip[@]}" \
  pandas==2.2.3 numpy==2.4.6 scikit-learn==1.9.1 scipy==1.17.1 matplotlib==3.11.2 pyyaml==6.0.4 tqdm==4.70.1 \
  pillow==13.0.0 opencv-python-headless==5.0.0.93 ipywidgets==8.1.9 anywidget==0.11.0
# Its metadata asks for opencv-python, which needs a graphics library; the headless package has the same module.
"${pip[@]}" --no-deps pylabel==0.1.55 bbox-visualizer==1.0.1 jupyter-bbox-widget==0.7.0
cd "$work"
PYTHONWARNINGS=ignore TQDM_DISABLE=1 venv/bin/python - <<'PY'
import json
from pathlib import Path

from pylabel import importer

PICTURES, BOXES = 20, 4
box = {"bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0, "category_id": 1}
coco = {
    "images": [{"id": one, "file_name": f"{one}.jpg", "width": 64, "height": 48} for one in range(PICTURES)],
    "annotations": [{**box, "id": one, "image_id": one // BOXES} for one in range(PICTURES * BOXES)],
    "categories": [{"id": 1, "name": "cat", "supercategory": ""}],
}
Path("coco.json").write_text(json.dumps(coco))


def sides(split, **how):
    dataset = importer.ImportCoco("coco.json")
    getattr(dataset.splitter, split)(train_pct=0.6, test_pct=0.4, **how)
    assert len(dataset.df) == PICTURES * BOXES
    return dataset.df.groupby("img_filename")["split"].nunique()


for column in ("img_filename", "img_id"):
    found = sides("GroupShuffleSplit", val_pct=0, group_col=column, random_state=0)
    print(f"GroupShuffleSplit, group_col={column}: {(found > 1).sum()} of {len(found)} pictures are on both sides")
    assert (found > 1).sum() == 18
kept = sides("StratifiedGroupShuffleSplit")
print(f"StratifiedGroupShuffleSplit: {(kept > 1).sum()} of {len(kept)} pictures are on both sides")
assert (kept == 1).all()
PY
