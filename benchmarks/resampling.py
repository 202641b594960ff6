"""How long it takes to scale a picture in each way, as a multiple of `area-cubic`, and beside Pillow.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 .venv/bin/python -m benchmarks.resampling

One picture of 1280x960 pixels, shrunk to 224 and to 96, in turns with one thread, in processor time. Prints a line of
JSON for each size and way: the median of the ratios of neighbouring turns, and the 2.5 and 97.5 % quantiles of the
median over resampled turns.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections.abc import Callable
from typing import get_args

import cv2
import numpy as np
from PIL import Image

from edgepress.multilabel.resampling import Interpolation, resample

_DRAWS = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=200)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    picture = cv2.resize(noise, (1280, 960), interpolation=cv2.INTER_CUBIC)
    for size in (224, 96):
        for way in get_args(Interpolation)[1:]:
            ours = functools.partial(resample, picture, size, size, way)
            _print(way, size, _ratios(ours, picture, size, options.turns))
        pillow = functools.partial(_by_pillow, picture, size)
        _print("bilinear-aa by Pillow", size, _ratios(pillow, picture, size, options.turns))


def _by_pillow(picture: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR))


def _ratios(scale: Callable[[], np.ndarray], picture: np.ndarray, size: int, turns: int) -> np.ndarray:
    """Its times as multiples of those of `area-cubic`, which is timed before and after it in turn."""
    found = np.empty(turns)
    for turn in range(turns):
        ways = [lambda: resample(picture, size, size), scale]
        times = [_time(way) for way in (ways if turn % 2 else ways[::-1])]
        found[turn] = times[1] / times[0] if turn % 2 else times[0] / times[1]
    return found


def _time(scale: Callable[[], np.ndarray]) -> float:
    started = time.process_time()
    scale()
    return time.process_time() - started


def _print(way: str, size: int, ratios: np.ndarray) -> None:
    draws = np.random.default_rng(0).integers(0, len(ratios), (_DRAWS, len(ratios)))
    low, high = np.quantile(np.median(ratios[draws], axis=1), (0.025, 0.975))
    row = {"way": way, "size": size, "ratio": round(float(np.median(ratios)), 2)}
    print(json.dumps({**row, "low": round(float(low), 2), "high": round(float(high), 2)}), flush=True)


if __name__ == "__main__":
    main()
