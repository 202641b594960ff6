"""By how much Skia's scaling, which is Android's, differs from that of `verify --as android`.

    pip install skia-python        # into an environment that has edgepress
    python -m benchmarks.skia_scaling

`Bitmap.createScaledBitmap(bitmap, width, height, true)` draws the bitmap with a matrix onto a software canvas, with
bilinear filtering and without mipmaps (frameworks/base/graphics/java/android/graphics/Bitmap.java). Prints a line of
JSON for each picture of noise: the largest and the mean difference of 255, and for comparison those of the other
interpolations.
"""

from __future__ import annotations

import json
from typing import get_args

import numpy as np
import skia

from edgepress.multilabel.resampling import Interpolation, resample

SHAPES = ((30, 50, 64), (90, 130, 40), (480, 640, 224), (640, 480, 224), (960, 1280, 64), (3000, 4000, 224))


def by_skia(picture: np.ndarray, size: int) -> np.ndarray:
    """uint8 RGB `[H, W, 3]` to uint8 RGB `[size, size, 3]`."""
    height, width = picture.shape[:2]
    opaque = np.dstack([picture, np.full((height, width, 1), 255, np.uint8)])
    image = skia.Image.fromarray(opaque, colorType=skia.kRGBA_8888_ColorType)
    form = skia.ImageInfo.Make(size, size, skia.kRGBA_8888_ColorType, skia.kOpaque_AlphaType)
    surface = skia.Surface.MakeRaster(form)
    canvas = surface.getCanvas()
    canvas.scale(size / width, size / height)
    canvas.drawImage(image, 0, 0, skia.SamplingOptions(skia.FilterMode.kLinear, skia.MipmapMode.kNone))
    return surface.makeImageSnapshot().toarray(colorType=skia.kRGBA_8888_ColorType)[..., :3]


def main() -> None:
    for height, width, size in SHAPES:
        picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        theirs, found = by_skia(picture, size).astype(int), {}
        for interpolation in get_args(Interpolation):
            apart = np.abs(theirs - resample(picture, size, size, interpolation))
            found[interpolation] = {"largest": int(apart.max()), "mean": round(float(apart.mean()), 3)}
        row = {"skia": skia.__version__, "height": height, "width": width, "size": size}
        print(json.dumps({**row, **found}), flush=True)


if __name__ == "__main__":
    main()
