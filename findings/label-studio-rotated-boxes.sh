#!/usr/bin/env bash
# Label Studio writes a rotated box to the wrong place in COCO, YOLO and Pascal VOC.
#
# Versions: label-studio-sdk 2.1.2, pillow 13.0.0.
# Expected: the upright box around the rotated one. Positions are per cent of the width and of the height, and a
#   rectangle is turned clockwise round its corner, by its "rotation" in degrees.
# Seen: COCO turns it in per cent, as if the picture were a square, so that in a picture of 4 to 1 a box that was turned
#   by 90 degrees is as wide as before, and beside the place. YOLO and VOC leave the rotation out: the box lies on the
#   other side of the corner. YOLO-OBB is right, and so are all of them without a rotation. No message.
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

WIDTH, HEIGHT = 400, 100
CONFIG = """<View><Image name="image" value="$image"/>
<RectangleLabels name="label" toName="image"><Label value="cat"/></RectangleLabels></View>"""
Image.new("RGB", (WIDTH, HEIGHT)).save("a.png")


def around(xs, ys):
    return [round(float(value)) for value in (min(xs), min(ys), max(xs), max(ys))]


def exported(rotation):
    """Left, top, right and bottom of the box in each format, in pixels: a box of 40 x 10 whose corner is at (200, 20)."""
    value = {"x": 50, "y": 20, "width": 10, "height": 10, "rotation": rotation, "rectanglelabels": ["cat"]}
    region = {"id": "r", "type": "rectanglelabels", "from_name": "label", "to_name": "image", "value": value}
    region |= {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    task = {"id": 1, "data": {"image": str(Path("a.png").resolve())}, "annotations": [{"id": 1, "result": [region]}]}
    Path("tasks.json").write_text(json.dumps([task]))
    for form in (Format.COCO, Format.YOLO, Format.YOLO_OBB, Format.VOC):
        Converter(CONFIG, None, download_resources=False).convert("tasks.json", form.name, form, is_dir=False)
    left, top, width, height = json.loads(Path("COCO/result.json").read_text())["annotations"][0]["bbox"]
    x, y, w, h = map(float, Path("YOLO/labels/a.txt").read_text().split()[1:])
    corners = list(map(float, Path("YOLO_OBB/labels/a.txt").read_text().split()[1:]))
    voc = re.findall("<(xmin|ymin|xmax|ymax)>(.*)</", Path("VOC/Annotations/a.xml").read_text())
    return {
        "COCO": around([left, left + width], [top, top + height]),
        "YOLO": around([(x - w / 2) * WIDTH, (x + w / 2) * WIDTH], [(y - h / 2) * HEIGHT, (y + h / 2) * HEIGHT]),
        "VOC": [int(number) for _, number in voc],
        "OBB": around([x * WIDTH for x in corners[::2]], [y * HEIGHT for y in corners[1::2]]),
    }


straight, turned = exported(0), exported(90)
print(f"without a rotation: {straight}")
print(f"by 90 degrees, right is [190, 20, 200, 60]: {turned}")
assert all(box == [200, 20, 240, 30] for box in straight.values())
assert turned.pop("OBB") == [190, 20, 200, 60]
assert turned == {"COCO": [160, 20, 200, 30], "YOLO": [200, 20, 240, 30], "VOC": [200, 20, 240, 30]}
PY
