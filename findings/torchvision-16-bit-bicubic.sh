#!/usr/bin/env bash
# torchvision's bicubic resize of a 16-bit picture makes black pixels beside white ones.
#
# Versions: torchvision 0.29.1, torch 2.14.1 (its build for CUDA, run on a CPU), numpy 2.4.6.
# Expected: what a bicubic resize of uint8 does: values beyond the range are set to its ends. The transforms of v2 take
#   uint16 (to_dtype, invert, equalize and posterize give the same picture as in uint8).
# Seen: bicubic interpolation overshoots at an edge, and only uint8 is clamped. In uint16 a value just above 65535 comes
#   back as one near 0, and one below 0 as one near 65535; in int16 the upper end becomes the lower. Growing and shrinking
#   are affected, with and without antialias. Bilinear is right. No message.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  torchvision==0.29.1 torch==2.14.1 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

dark = torch.zeros(1, 32, 16, dtype=torch.uint8)
picture = torch.cat([dark, torch.full_like(dark, 255)], 2)  # black on the left, white on the right


def share(values):
    return values.to(torch.float64) / torch.iinfo(values.dtype).max


for name in ("BICUBIC", "BILINEAR"):
    for size in (48, 20):
        for antialias in (True, False):
            how = {"size": [size, size], "interpolation": InterpolationMode[name], "antialias": antialias}
            right = share(transforms.resize(picture, **how))
            exact = transforms.resize(picture.double() / 255, **how)  # in floating point, where nothing is out of range
            assert (exact.clamp(0, 1) - right).abs().max() < 0.01
            for dtype in (torch.uint16, torch.int16):
                given = transforms.to_dtype(picture, dtype, scale=True)
                found = share(transforms.resize(given, **how))
                wrong = (found - right).abs().amax(dim=(0, 1)) > 0.5
                print(f"{name} to {size}, antialias {antialias}, {dtype}: {int(wrong.sum())} of {size} columns wrong, "
                      f"largest difference {float((found - right).abs().max()):.2f} of the range")
                assert (exact.max() > 1.001) == (name == "BICUBIC") == bool(wrong.any())
PY
