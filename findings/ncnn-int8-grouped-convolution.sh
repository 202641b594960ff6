#!/usr/bin/env bash
# ncnn answers an INT8 convolution in groups with memory that was never written.
#
# Versions: ncnn 1.0.20261020 on an x86-64 processor with AVX, numpy 2.4.6. Elsewhere it may be right.
# Expected: the sum of products of INT8 values, as the same layer gives in float, within a few percent.
# Seen: right in float, and in INT8 with 4 channels per group. With 8 or 16 channels per group ncnn returns 0 and whatever was
#   in memory, which differs from call to call and may be NaN. Each group is a Convolution, which packs as many channels as AVX
#   holds (8 or 16) and gives a tensor of its own; ConvolutionDepthWise expects it in the one that it made for packs of 4
#   (src/layer/x86/convolutiondepthwise_x86.cpp, the end of forward_int8_x86). ncnn2int8 writes such layers.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
grep -qw avx /proc/cpuinfo || { echo "this processor has no AVX"; exit 2; }
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  ncnn==1.0.20261020 numpy==2.4.6
cd "$work"
cat > run.py <<'PY'
import ncnn
import numpy as np

GROUPS = 4
rng = np.random.default_rng(0)


def largest_error(channels: int, int8: bool) -> float:
    """Of a 1x1 convolution in groups of `channels` channels each, as a share of the largest value."""
    total = GROUPS * channels
    weights = rng.normal(size=(total, channels)).astype(np.float32)
    x = rng.normal(size=(total, 6, 6)).astype(np.float32)
    stored, term = bytes(4) + weights.tobytes(), 0  # four zeros: float32
    if int8:
        scales = 127 / np.abs(weights.reshape(GROUPS, -1)).max(axis=1)  # one a group
        steps = np.round(weights.reshape(GROUPS, -1) * scales[:, None]).astype(np.int8)
        scale = 127 / np.abs(x).max()
        parts = [(0x000D4B38).to_bytes(4, "little"), steps, scales.astype(np.float32), np.float32(scale)]
        stored, term = b"".join(bytes(part) for part in parts), 1
    line = f"ConvolutionDepthWise c 1 1 in0 out0 0={total} 1=1 6={weights.size} 7={GROUPS} 8={term}"
    net = ncnn.Net()
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    assert net.load_param_mem(f"7767517\n2 2\nInput i 0 1 in0\n{line}\n") == 0
    with open("weights.bin", "wb") as file:
        file.write(stored)
    assert net.load_model("weights.bin") == 0
    extractor = net.create_extractor()
    extractor.input("in0", ncnn.Mat(x).clone())
    code, y = extractor.extract("out0")
    assert code == 0
    split = zip(np.split(weights, GROUPS), np.split(x, GROUPS), strict=True)
    expected = np.concatenate([np.einsum("oc,chw->ohw", *pair) for pair in split])
    return float(np.abs(np.array(y) - expected).max() / np.abs(expected).max())


for channels, int8, right in [(16, False, True), (4, True, True), (8, True, False), (16, True, False)]:
    error = largest_error(channels, int8)
    print(f"{channels} channels per group in {'INT8' if int8 else 'float'}: off by {error:.3g} of the largest value")
    assert (error < 0.05) == right
PY
venv/bin/python run.py
