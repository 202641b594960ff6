#!/usr/bin/env bash
# pylabel writes a YOLO data set whose class names have moved, where a class has no box.
#
# Versions: pylabel 0.1.55, pandas 2.2.3, numpy 2.4.6.
# Expected: the number at the start of a YOLO line is the place of its class in the "names" of the YAML file
#   (ImportYoloV5: cat_names are "class ids that correspond to the int used to represent that class"). What is read with
#   the names cat, dog, horse, cow and written again with ExportToYoloV5 has the same names for the same boxes.
# Seen: "names" lists only the classes that some box has, while the boxes keep their numbers. Without a dog the names
#   are cat, horse, cow: the horse's 2 now means cow, and the cow's 3 means nothing. A part of a data set, in which some
#   class is rare, runs into this. cat_id_index=0 numbers the boxes anew and is right; by default it is None.
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
from pathlib import Path

import yaml
from PIL import Image
from pylabel import importer

NAMES = ["cat", "dog", "horse", "cow"]
Path("labels").mkdir()
for picture, number in (("a", 0), ("b", 2), ("c", 3)):
    Image.new("RGB", (64, 48)).save(f"labels/{picture}.jpg")
    Path("labels", f"{picture}.txt").write_text(f"{number} 0.5 0.5 0.2 0.2\n")

for index in (None, 0):
    dataset = importer.ImportYoloV5("labels", cat_names=NAMES)
    dataset.export.ExportToYoloV5(f"{index}/labels", yaml_file="dataset.yaml", cat_id_index=index)
    names = yaml.safe_load(Path(f"{index}/dataset.yaml").read_text())["names"]
    numbers = {picture: int(Path(f"{index}/labels/{picture}.txt").read_text().split()[0]) for picture in "abc"}
    written = {picture: names[number] if number < len(names) else None for picture, number in numbers.items()}
    print(f"cat_id_index={index}: names {names}, numbers {numbers}, so they are {written}")
    if index is None:
        assert written == {"a": "cat", "b": "cow", "c": None}
    else:
        assert written == {"a": "cat", "b": "horse", "c": "cow"}
PY
