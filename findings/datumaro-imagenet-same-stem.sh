#!/usr/bin/env bash
# datumaro's ImageNet reader loses a picture where two in a folder differ by their suffix alone.
#
# Versions: datumaro 1.13.12, Pillow 12.3.0.
# Expected: a folder per class is read as one item per picture (datumaro's documentation, "ImageNet": a directory for
#   each label that contains the images). Pictures gathered from several sources often repeat a stem: 001.jpg, 001.png.
# Seen: an item's name is folder and stem, and a second file of the same name adds its label to the first item: three
#   pictures become two items, the one that is met first keeps its pixels, and it carries the same label twice. No
#   error, no warning, and export writes the smaller data set.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  datumaro==1.13.12 pillow==12.3.0
cd "$work"
venv/bin/python - 2>stderr.txt <<'PY'
from pathlib import Path

import datumaro
from PIL import Image

for place, grey in (("cat/001.jpg", 10), ("cat/001.png", 200), ("dog/002.jpg", 90)):
    Path("classes", place).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (grey, grey, grey)).save(Path("classes", place))
files = sorted(str(path) for path in Path("classes").rglob("*.*"))
dataset = datumaro.Dataset.import_from("classes", "imagenet")
items = {item.id: [label.label for label in item.annotations] for item in dataset}
print(f"{len(files)} pictures: {files}")
print(f"{len(items)} items: {items}")
assert len(files) == 3
assert items == {"cat:001": [0, 0], "dog:002": [1]}
dataset.export("written", "imagenet", save_media=True)
kept = sorted(str(path.relative_to("written")) for path in Path("written").rglob("*.*"))
print(f"{len(kept)} pictures written: {kept}")
assert len(kept) == 2
PY
cat stderr.txt
if grep -qi "001" stderr.txt; then echo "a warning names the picture now"; exit 1; fi
