#!/usr/bin/env bash
# Hugging Face datasets reads a folder per class and leaves classes out where a name contains "train", "test" or "val".
#
# Versions: datasets 5.2.0, Pillow 12.3.0.
# Expected: load_dataset("imagefolder", data_dir=...) on folder/class/picture without split folders gives every picture,
#   in one split "train" (documentation, "Create an image dataset", ImageFolder; "Structure your repository": without
#   any split structure all files are the train split). COCO and Pascal VOC have a class "train".
# Seen: a split is looked for in each path by its words. With the classes cat, dog and train, the pictures of "train"
#   alone are loaded, as a split without labels, and cat and dog are gone. One file called driving_test-1.jpg is enough
#   as well: it becomes the split "test", and the other pictures are in no split. No error and no warning in both cases.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  datasets==5.2.0 pillow==12.3.0
cd "$work"
export HF_HUB_OFFLINE=1 HF_HOME="$work/home"
venv/bin/python - 2>stderr.txt <<'PY'
from pathlib import Path

import datasets
from PIL import Image

datasets.disable_progress_bars()


def folder(root, *places):
    for place in places:
        Path(root, place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(Path(root, place))
    read = datasets.load_dataset("imagefolder", data_dir=root)
    rows = {name: split.num_rows for name, split in read.items()}
    columns = {name: list(split.features) for name, split in read.items()}
    print(f"{root}: {len(places)} pictures, rows {rows}, columns {columns}")
    return rows, columns


plain = folder("plain", "cat/1.jpg", "cat/2.jpg", "dog/1.jpg")
assert plain == ({"train": 3}, {"train": ["image", "label"]})
vehicle = folder("vehicle", "cat/1.jpg", "cat/2.jpg", "dog/1.jpg", "train/1.jpg")
assert vehicle == ({"train": 1}, {"train": ["image"]})
one_file = folder("one_file", "cat/1.jpg", "cat/driving_test-1.jpg", "dog/1.jpg", "dog/2.jpg")
assert one_file[0] == {"test": 1}
PY
cat stderr.txt
if grep -qi "warn\|split" stderr.txt; then echo "something is said now"; exit 1; fi
