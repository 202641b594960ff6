#!/usr/bin/env bash
# The weights' gradient of a depthwise convolution is slow where the map is smaller than the kernel.
#
# Versions: torch 2.14.1 (its build for CUDA, run on a CPU; oneDNN 3.12.0), numpy 2.4.6. x86 with AVX2.
# Expected: a smaller map costs less. The three parts of a step (outputs, gradient of the input, gradient of the weights)
#   have as many products each.
# Seen: with a 5x5 kernel on maps of 4 x 4 and smaller, the gradient of the weights takes 8 to 50 times as long as the sum
#   of the products of the same slices in torch, and more time than on a map with 2.25 to 9 times the places. oneDNN's
#   kernel for it is chosen only where the map is as large as the kernel; otherwise small matrices are multiplied for each
#   picture and channel (ONEDNN_VERBOSE=1: "x64:gemm:jit" in place of "jit:avx2"). The last blocks of EfficientNet and
#   MobileNetV3 at 64 to 128 px are of this kind, so this one gradient can be a quarter of a training step. No message.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  torch==2.14.1 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'PY'
import statistics
import time

import torch

KERNEL, CHANNELS, PICTURES = 5, 672, 64


def seconds(function):
    function()
    times = []
    for _ in range(7):
        started = time.process_time()
        function()
        times.append(time.process_time() - started)
    return statistics.median(times)


def sums(pixels, gradient):
    """The gradient of the weights, by torch's products and sums."""
    pixels, gradient, side = pixels.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1), pixels.shape[2]
    found = torch.zeros(KERNEL, KERNEL, CHANNELS)
    for row in range(KERNEL):
        for column in range(KERNEL):
            down, right = row - KERNEL // 2, column - KERNEL // 2
            if max(abs(down), abs(right)) < side:
                rows, columns = (slice(max(0, -shift), side - max(0, shift)) for shift in (down, right))
                below, beside = (slice(max(0, shift), side + min(0, shift)) for shift in (down, right))
                found[row, column] = (gradient[:, rows, columns] * pixels[:, below, beside]).sum((0, 1, 2))
    return found.permute(2, 0, 1).unsqueeze(1)


taken = {}
for side in (2, 3, 4, 6):
    pixels = torch.randn(PICTURES, CHANNELS, side, side).to(memory_format=torch.channels_last)
    weight, gradient = torch.randn(CHANNELS, 1, KERNEL, KERNEL), torch.randn_like(pixels)
    how = None, [1, 1], [2, 2], [1, 1], False, [0, 0], CHANNELS, [False, True, False]
    theirs = lambda: torch.ops.aten.convolution_backward(gradient, pixels, weight, *how)[1]  # noqa: E731
    assert torch.allclose(theirs(), sums(pixels, gradient), rtol=1e-3, atol=1e-3)
    taken[side] = seconds(theirs), seconds(lambda: sums(pixels, gradient))
    print(f"map of {side} x {side}: {taken[side][0] * 1e3:.1f} ms, by sums {taken[side][1] * 1e3:.1f} ms, "
          f"{taken[side][0] / taken[side][1]:.1f} times")
assert all(taken[side][0] > 5 * taken[side][1] for side in (2, 3, 4))
assert taken[6][0] < taken[4][0], "a map of 6 x 6 is faster than one of 4 x 4"
PY
