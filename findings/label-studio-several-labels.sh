#!/usr/bin/env bash
# Label Studio writes only the first label of a region that has several, in COCO and in Pascal VOC.
#
# Versions: label-studio-sdk 2.1.2, pillow 13.0.0.
# Expected: RectangleLabels with choice="multiple" lets people give a region several labels, and an export has them all:
#   in COCO and VOC as one annotation for each, as the export for YOLO has them.
# Seen: COCO and VOC have one annotation with the label that was chosen first, so the same two labels, chosen in another
#   order, are another class. The other labels are listed as categories and never occur. No message.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
pip=(python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check)
"${pip[@]}" pillow==13.0.0 numpy==2.4.6 appdirs==1.4.4 ijson==3.6.0 lxml==6.1.3 nltk==3.10.4 pyjwt==2.13.0 \
  requests==2.34.2 ujson==6.1.0
# Without what it does not need to convert.
"${pip[@]}" --no-deps label-studio-sdk==2.1.2
cd "$work"
venv/bin/python - 2>/dev/null <<'PY'
import json
import re
from pathlib import Path

from label_studio_sdk.converter.converter import Converter, Format
from PIL import Image

CONFIG = """<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image" choice="multiple">
<Label value="person"/><Label value="rider"/><Label value="child"/></RectangleLabels></View>"""
Image.new("RGB", (400, 100)).save("a.png")


def exported(labels):
    """The labels in each format of a picture with one region."""
    value = {"x": 50, "y": 20, "width": 10, "height": 10, "rotation": 0, "rectanglelabels": labels}
    region = {"id": "r", "type": "rectanglelabels", "from_name": "label", "to_name": "image", "value": value}
    region |= {"original_width": 400, "original_height": 100, "image_rotation": 0}
    task = {"id": 1, "data": {"image": str(Path("a.png").resolve())}, "annotations": [{"id": 1, "result": [region]}]}
    Path("tasks.json").write_text(json.dumps([task]))
    for form in (Format.COCO, Format.YOLO, Format.VOC):
        Converter(CONFIG, None, download_resources=False).convert("tasks.json", form.name, form, is_dir=False)
    coco = json.loads(Path("COCO/result.json").read_text())
    names = {category["id"]: category["name"] for category in coco["categories"]}
    classes = Path("YOLO/classes.txt").read_text().split()
    return {
        "COCO": [names[annotation["category_id"]] for annotation in coco["annotations"]],
        "VOC": re.findall("<name>(.*)</name>", Path("VOC/Annotations/a.xml").read_text())[1:],
        "YOLO": [classes[int(line.split()[0])] for line in Path("YOLO/labels/a.txt").read_text().splitlines()],
    }


for labels in (["person"], ["person", "rider", "child"], ["rider", "person"]):
    found = exported(labels)
    print(f"{labels}: {found}")
    assert found == {"COCO": labels[:1], "VOC": labels[:1], "YOLO": labels}
PY
