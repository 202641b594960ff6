#!/usr/bin/env bash
# An INT8 3x3 convolution of ncnn overflows in Winograd's form, also with the 6-bit weights that its own tool writes for it.
#
# Versions: ncnn 1.0.20261020 on x86-64, numpy 2.4.6.
# Expected: a sum of products of INT8 values, which is at most 9 x 256 x 127 x 127 here and fits 32 bits.
# Seen: wrong by more than the largest value with 64 channels of 8-bit weights, and with 256 channels of 6-bit ones, which
#   ncnn2table chooses for this case: the 4x4 tiles of Winograd's form multiply sums of pixels by sums of weights. It is right where
#   the layer's line forbids that form (31=64) and where the net's option does (use_winograd_convolution). The
#   default is to use it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  ncnn==1.0.20261020 numpy==2.4.6
cd "$work"
cat > run.py <<'PY'
import ncnn
import numpy as np

OUT, SIDE = 16, 18


def largest_error(channels: int, steps: int, forbidden: str = "") -> float:
    """Of a 3x3 convolution that sums stripes of 1 and -1, as a share of the largest value; all of it is exact in INT8."""
    stripes = np.resize([1, -1, -1, 1], SIDE + 2)[1:-1]
    x = np.broadcast_to(np.outer(stripes, stripes), (channels, SIDE, SIDE)).astype(np.float32, order="C")
    weights = np.full(OUT * channels * 9, steps, np.int8)  # 1.0, in steps of 1/127 or 1/31
    parts = [(0x000D4B38).to_bytes(4, "little"), weights, np.full(OUT, steps, np.float32), np.float32(127)]
    line = f"Convolution c 1 1 in0 out0 0={OUT} 1=3 4=1 6={weights.size} 8=2{forbidden}"
    net = ncnn.Net()
    assert net.load_param_mem(f"7767517\n2 2\nInput i 0 1 in0\n{line}\n") == 0
    with open("weights.bin", "wb") as file:
        file.write(b"".join(bytes(part) for part in parts))
    assert net.load_model("weights.bin") == 0
    extractor = net.create_extractor()
    extractor.input("in0", ncnn.Mat(x).clone())
    found = np.array(extractor.extract("out0")[1])
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    expected = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2)).sum(axis=(0, 3, 4))
    return float(np.abs(found - expected).max() / np.abs(expected).max())


for channels, steps, forbidden, right in [
    (16, 127, "", True),
    (64, 127, "", False),
    (64, 127, " 31=64", True),
    (64, 31, "", True),
    (256, 31, "", False),
    (256, 127, " 31=64", True),
]:
    error = largest_error(channels, steps, forbidden)
    told = "without Winograd's form" if forbidden else "as ncnn chooses"
    print(f"{channels} channels, weights of {steps} steps, {told}: off by {error:.3g} of the largest value")
    assert (error < 0.01) == right
PY
venv/bin/python run.py
