#!/usr/bin/env bash
# OpenCV gives a 16-bit TIFF whose zero is white as its negative, and mixes the channels of one that stores them apart.
#
# Versions: opencv-python-headless 5.0.0.93 (and 4.11.0), numpy 2.4.6, tifffile 2026.3.3.
# Expected: a picture has the same pixels in each form that the TIFF standard has for it: PhotometricInterpretation
#   WhiteIsZero (scanners, X-rays) and BlackIsZero, PlanarConfiguration 1 (interleaved) and 2 (a plane for each channel,
#   which microscopes write). imread does give the same pixels where they have 8 bits, because libtiff converts these.
# Seen: pixels of 16 bits are read without libtiff's conversion. WhiteIsZero comes back as a negative, and the three
#   planes are taken for interleaved pixels, so that three pixels that lie side by side in the red plane become one. No
#   error and no warning in either case: a tagger answers for a picture that nobody has taken.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  opencv-python-headless==5.0.0.93 numpy==2.4.6 tifffile==2026.3.3
cd "$work"
venv/bin/python - <<'PY'
import cv2
import numpy as np
import tifffile

rows, columns = np.mgrid[0:24, 0:40]
rgb = np.stack([rows * 10, columns * 6, 255 - rows * 5 - columns * 3], axis=2)
grey = rgb[..., 0]


def read(name):
    return cv2.imread(name, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)


for bits, kind, scale in ((8, np.uint8, 1), (16, np.uint16, 257)):
    top, bgr = 255 * scale, (rgb[..., ::-1] * scale).astype(kind)
    white_is_zero = (top - grey * scale).astype(kind)
    tifffile.imwrite("white.tif", white_is_zero, photometric="miniswhite")
    planes = np.ascontiguousarray(rgb.transpose(2, 0, 1) * scale).astype(kind)
    tifffile.imwrite("planes.tif", planes, photometric="rgb", planarconfig="separate")
    tifffile.imwrite("pixels.tif", (rgb * scale).astype(kind), photometric="rgb")
    assert np.array_equal(tifffile.imread("planes.tif"), planes)
    assert np.array_equal(read("pixels.tif"), bgr)
    white, apart = read("white.tif")[..., 0], read("planes.tif")
    print(f"{bits} bits, white is zero: right {np.array_equal(white, grey * scale)}, "
          f"the negative {np.array_equal(white, white_is_zero)}")
    print(f"{bits} bits, planes: right {np.array_equal(apart, bgr)}, pixel [3, 4] is {apart[3, 4]}, not {bgr[3, 4]}")
    assert np.array_equal(white, white_is_zero if bits == 16 else grey * scale)
    assert np.array_equal(apart, bgr) == (bits == 8)
    if bits == 16:  # the red plane alone, three pixels for each
        assert np.array_equal(apart[0, :13, ::-1].reshape(-1), planes[0, 0, :39])
PY
