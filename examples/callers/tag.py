"""Tag pictures with an ONNX bundle of edgepress and without edgepress: onnxruntime, Pillow and numpy.

    pip install onnxruntime pillow numpy
    python tag.py BUNDLE PICTURE...

prints a line of JSON per picture: its logits and the labels that are answered yes. Copy it and cut away what you do not
need; docs/bundle.md describes every step. It refuses what it does not know: label groups, isotonic calibration, and an
interpolation that Pillow and the code below lack.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

PILLOWS = {"bilinear-aa": Image.Resampling.BILINEAR, "bicubic-aa": Image.Resampling.BICUBIC}


def area(source, target):
    """The share of each source pixel in each target pixel, `[target, source]`."""
    edges = np.minimum(np.arange(target + 1) * (source / target), source)
    pixels = np.arange(source)
    covered = np.minimum(pixels + 1, edges[1:, None]) - np.maximum(pixels, edges[:-1, None])
    covered[covered < 1e-3] = 0
    return covered / covered.sum(axis=1, keepdims=True)


def cubic(source, target):
    """The weight of each source pixel in each target pixel in 1/2048, `[target, source]`; Keys' kernel, A = -0.75."""
    a, weights = -0.75, np.zeros((target, source), np.int64)
    for row in range(target):
        x = np.float32((row + 0.5) * source / target - 0.5)
        left = math.floor(x)
        f = np.float32(x - left)
        taps = [((a * (f + 1) - 5 * a) * (f + 1) + 8 * a) * (f + 1) - 4 * a]
        taps += [((a + 2) * g - (a + 3)) * g * g + 1 for g in (f, 1 - f)]
        for number, weight in enumerate([*taps, 1 - sum(taps)]):
            weights[row, min(max(left - 1 + number, 0), source - 1)] += round(float(weight) * 2048)
    return weights


def stretch(pixels, height, width, interpolation):
    """uint8 `[H, W, 3]` to uint8 `[height, width, 3]`."""
    if interpolation in PILLOWS:
        return np.asarray(Image.fromarray(pixels).resize((width, height), PILLOWS[interpolation]))
    if interpolation != "area-cubic":
        sys.exit(f"interpolation {interpolation!r}: this program has area-cubic, {', '.join(PILLOWS)}")
    shape = pixels.shape[:2]
    shrunk = min(shape[0], height), min(shape[1], width)
    if shrunk != shape:
        mean = np.einsum("th,hwc->twc", area(shape[0], shrunk[0]), pixels.astype(np.float64))
        mean = np.einsum("sw,twc->tsc", area(shape[1], shrunk[1]), mean)
        halved = shape == (2 * shrunk[0], 2 * shrunk[1])
        pixels = (np.floor(mean + 0.5) if halved else np.rint(mean.round(4))).astype(np.uint8)
    if shrunk != (height, width):
        total = np.einsum("th,hwc->twc", cubic(shrunk[0], height), pixels.astype(np.int64))
        total = np.einsum("sw,twc->tsc", cubic(shrunk[1], width), total)
        pixels = np.clip((total + (1 << 21)) >> 22, 0, 255).astype(np.uint8)
    return pixels


def prepare(file, how):
    """A picture's file to uint8 RGB `[size, size, 3]`, by the manifest's `preprocess`."""
    image = ImageOps.exif_transpose(Image.open(file)).convert("RGB")
    size, interpolation, pixels = how["size"], how.get("interpolation", "area-cubic"), np.asarray(image)
    height, width = pixels.shape[:2]
    if how["resize"] == "crop":
        side = max(1, round(min(height, width) * how["crop_fraction"]))
        top, left = (height - side) // 2, (width - side) // 2
        pixels = pixels[top : top + side, left : left + side]
    if how["resize"] != "letterbox":
        return stretch(pixels, size, size, interpolation)
    height, width = (max(1, round(side * (size / max(height, width)))) for side in (height, width))
    square = np.zeros((size, size, 3), np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = stretch(pixels, height, width, interpolation)
    return square


def main(bundle, files):
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    labels, decisions = manifest["labels"], manifest["decisions"]
    slopes, offsets, bars = 1.0, 0.0, 0.5  # the sigmoid and 0.5, where nothing was fitted
    if decisions is not None:
        if decisions.get("groups") or decisions["calibrator"]["method"] == "isotonic":
            sys.exit("label groups and isotonic calibration are not in this program; see docs/bundle.md")
        slopes, offsets = (np.array(decisions["calibrator"][key]) for key in ("slopes", "offsets"))
        bars = np.array(decisions["thresholds"])
    session = onnxruntime.InferenceSession(str(bundle / manifest["model"]), providers=["CPUExecutionProvider"])
    for file in files:
        (logits,) = session.run(["logits"], {"images": prepare(file, manifest["preprocess"])[None]})[0]
        yes = 1 / (1 + np.exp(-(logits.astype(np.float64) * slopes + offsets))) >= bars
        tags = [label for label, said in zip(labels, yes, strict=True) if said]
        print(json.dumps({"file": file, "logits": logits.tolist(), "tags": tags}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
