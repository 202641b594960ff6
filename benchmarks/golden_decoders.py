"""By how much the decoders of this environment differ from a bundle's golden pictures.

    python benchmarks/golden_decoders.py BUNDLE

prints a row for docs/callers.md for OpenCV, and one for Pillow, where they are installed. It needs numpy and one of
them, and no edgepress: run it in one virtual environment for each version.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np


def opencv(file: Path) -> np.ndarray:
    import cv2

    return cv2.imread(str(file), cv2.IMREAD_COLOR)[:, :, ::-1]


def pillow(file: Path) -> np.ndarray:
    from PIL import Image, ImageOps

    return np.asarray(ImageOps.exif_transpose(Image.open(file)).convert("RGB"))


def row(name: str, decode: Callable[[Path], np.ndarray], bundle: Path) -> str:
    """How many files have the stored pixels, and the largest difference of a value (0 to 255)."""
    told = json.loads((bundle / "golden" / "answers.json").read_text(encoding="utf-8"))["pictures"]
    same, largest = 0, 0
    with np.load(bundle / "golden" / "decoded.npz") as stored:
        for one in told:
            pixels = np.ascontiguousarray(decode(bundle / one["file"]))
            same += hashlib.sha256(pixels.tobytes()).hexdigest() == one["decoded_sha256"]
            apart = np.abs(pixels.astype(int) - stored[Path(one["file"]).stem])
            largest = max(largest, int(apart.max()))
    return f"| {name} | {same} of {len(told)} | {largest} |"


def main() -> None:
    bundle = Path(sys.argv[1])
    if importlib.util.find_spec("cv2") is not None:
        import cv2

        print(row(f"OpenCV {cv2.__version__}", opencv, bundle))
    if importlib.util.find_spec("PIL") is not None:
        import PIL

        print(row(f"Pillow {PIL.__version__}", pillow, bundle))


if __name__ == "__main__":
    main()
