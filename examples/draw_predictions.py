"""Draw what an engine says of some test pictures: the picture in the README.

    .venv/bin/python examples/draw_predictions.py runs/quickstart/onnx-int8-onnxruntime examples/clipart-sample \
        docs/predictions.jpg

A tag in green is one that the picture has, in red one that it lacks; in grey a tag that the engine missed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from edgepress import open_tagger
from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.pictures import read_picture

CELL, LINE, COLUMNS, ROWS = 240, 20, 4, 2
GREEN, RED, GREY = (30, 120, 40), (190, 40, 30), (140, 140, 140)


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--split", default="test")
    arguments = parser.parse_args()
    data = load_dataset(arguments.data, arguments.split)
    # Evenly through the split, not chosen by how well they came out.
    chosen = np.linspace(0, len(data) - 1, COLUMNS * ROWS).round().astype(int)
    with open_tagger(arguments.bundle) as tagger:
        cells = [_cell(tagger, data, index) for index in chosen]
    rows = [np.hstack(cells[start : start + COLUMNS]) for start in range(0, len(cells), COLUMNS)]
    cv2.imwrite(str(arguments.out), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))


def _cell(tagger, data, index: int) -> np.ndarray:
    picture = read_picture(data.paths[index])
    probabilities = tagger.predict(picture)
    tags = tagger.tags(probabilities)
    true = {name for name, value in zip(data.labels.names, data.targets[index], strict=True) if value}
    lines = [(f"{name} {probabilities[name]:.2f}", GREEN if name in true else RED) for name in tags]
    lines += [(f"({name} {probabilities[name]:.2f})", GREY) for name in data.labels.names if name in true - set(tags)]
    cell = np.full((CELL + 7 * LINE, CELL, 3), 255, dtype=np.uint8)
    cell[4 : CELL - 4, 4 : CELL - 4] = cv2.resize(picture, (CELL - 8, CELL - 8), interpolation=cv2.INTER_CUBIC)
    for number, (text, color) in enumerate(lines[:7]):
        place = (8, CELL + 14 + number * LINE)
        cv2.putText(cell, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, color, 1, cv2.LINE_AA)
    return cell


if __name__ == "__main__":
    main()
