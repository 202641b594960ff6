#!/usr/bin/env bash
# datumaro turns Open Images' verified negatives into positives when the data set is written in another format.
#
# Versions: datumaro 1.13.12, Pillow 12.3.0.
# Expected: a label that a person checked and denied is never written as a label that the picture has. Open Images'
#   description of image-level labels: "Confidence: Labels that are human-verified to be present in an image have
#   confidence = 1 (positive labels). Labels that are human-verified to be absent from an image have confidence = 0
#   (negative labels)."
# Seen: the reader makes a Label of each row, and keeps the confidence in an attribute "score" alone. The writer of
#   imagenet_txt lists every Label: a picture that was verified to show a cat and no dog comes out as a cat and a dog.
#   Nothing is logged.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  datumaro==1.13.12 pillow==12.3.0
cd "$work"
venv/bin/python - <<'PY'
from pathlib import Path

import datumaro
from PIL import Image

pictures, tables = Path("openimages/images/train"), Path("openimages/annotations")
pictures.mkdir(parents=True)
tables.mkdir()
names = ["a" * 16, "b" * 16]
for name in names:
    Image.new("RGB", (8, 8)).save(pictures / f"{name}.jpg")
(tables / "oidv6-class-descriptions.csv").write_text("LabelName,DisplayName\n/m/01yrx,Cat\n/m/0bt9lr,Dog\n")
columns = "ImageID,Subset,OriginalURL,OriginalLandingURL,License,AuthorProfileURL,Author,Title,"
columns += "OriginalSize,OriginalMD5,Thumbnail300KURL,Rotation\n"
rows = "".join(f"{name},train,,,,,,,,,,0.0\n" for name in names)
(tables / "train-images-with-rotation.csv").write_text(columns + rows)
(tables / "train-annotations-human-imagelabels.csv").write_text(
    "ImageID,Source,LabelName,Confidence\n"
    f"{names[0]},verification,/m/01yrx,1\n"
    f"{names[0]},verification,/m/0bt9lr,0\n"  # verified: there is no dog
    f"{names[1]},verification,/m/0bt9lr,0\n"
)
dataset = datumaro.Dataset.import_from("openimages", "open_images")
for item in sorted(dataset, key=lambda item: item.id):
    print(item.id, [(label.label, label.attributes) for label in item.annotations])
dataset.export("written", "imagenet_txt")
written = dict(line.split(maxsplit=1) for line in Path("written/train.txt").read_text().splitlines())
print(Path("written/synsets.txt").read_text().split(), written)
assert written == {f"{names[0]}.jpg": "0 1", f"{names[1]}.jpg": "1"}
PY
