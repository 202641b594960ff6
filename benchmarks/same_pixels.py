"""Whether this OpenCV gives the pixels that every other gives: decoded, shrunk and grown, with Intel IPP and without.

    python benchmarks/same_pixels.py examples/clipart-sample/test

prints a row for docs/devices.md. Run it in one virtual environment for each OpenCV; equal hashes are equal bytes.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from edgepress.multilabel.pictures import read_picture
from edgepress.multilabel.resampling import resample

SHRUNK, SMALL, GROWN = (96, 60), 64, (96, 224)
"""Sides that the sample's pictures (160 x 160) are shrunk to, and those that copies of 64 x 64 are grown to."""


def hashed(pictures: Iterable[np.ndarray]) -> str:
    together = hashlib.sha256()
    for picture in pictures:
        together.update(picture.tobytes())
    return together.hexdigest()[:8]


def differing(pictures: list[np.ndarray], sides: tuple[int, ...], interpolation: int) -> str:
    """Share of values that OpenCV left to itself computes otherwise."""
    pairs = [
        (resample(picture, side, side), cv2.resize(picture, (side, side), interpolation=interpolation))
        for picture in pictures
        for side in sides
    ]
    return f"{100 * np.mean([(ours != theirs).mean() for ours, theirs in pairs]):.1f} %"


def main() -> None:
    paths = sorted(Path(sys.argv[1]).rglob("*.jpg"))
    pictures = [read_picture(path) for path in paths]
    if not pictures:
        sys.exit(f"{sys.argv[1]}: no *.jpg in it; expected the sample's test pictures")
    small = [resample(one, SMALL, SMALL) for one in pictures]
    shrunk = hashed(resample(one, side, side) for one in pictures for side in SHRUNK)
    grown = hashed(resample(one, side, side) for one in small for side in GROWN)
    row = (
        cv2.__version__,
        hashed(pictures),
        shrunk,
        grown,
        differing(pictures, SHRUNK, cv2.INTER_AREA),
        differing(small, GROWN, cv2.INTER_CUBIC),
    )
    print("|", " | ".join(row), "|")


if __name__ == "__main__":
    main()
