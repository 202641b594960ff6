#!/usr/bin/env bash
# coremltools turns "constant - product" and "constant / convolution" round: the constant comes out on the right.
#
# Versions: coremltools 9.0, numpy 2.4.6.
# Expected: a converted program computes what was written. Subtraction and division have an order.
# Seen: two passes of the default pipeline take the constant from either side and forget which it was.
#   c - x W becomes linear(x, W, bias=-c), which is x W - c: every sign is wrong (fuse_matmul_weight_bias). Distances to
#   centres, |c|^2 - 2 x c, are written like this. c / conv(x) becomes a convolution with weights W / c, which is
#   conv(x) / c (fuse_conv_scale). "x W - c" and "conv(x) / c" are right. No message. A module of PyTorch whose c is a
#   buffer is converted in the same way (tried with torch 2.14.1).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  coremltools==9.0 numpy==2.4.6
cd "$work"
cat > run.py <<'PY'
import coremltools as ct
import numpy as np
from coremltools.converters.mil import Builder as mb

random = np.random.default_rng(0)
matrix, row = random.uniform(1, 2, (5, 7)).astype(np.float32), random.uniform(1, 2, 7).astype(np.float32)
kernel = random.uniform(1, 2, (4, 3, 1, 1)).astype(np.float32)  # 1x1, so that the convolution is a product over channels
channel = random.uniform(1, 2, (4, 1, 1)).astype(np.float32)
vectors, picture = random.uniform(1, 2, (2, 5)).astype(np.float32), random.uniform(1, 2, (1, 3, 6, 6)).astype(np.float32)


def convolve(x, weight):
    return np.einsum("ncyx,oc->noyx", x, weight[:, :, 0, 0])


MEANING = {  # of the operators that are left, by Apple's description of MIL
    "linear": lambda x, weight, bias: x @ weight.T + bias,
    "conv": lambda x, weight, bias=0, **geometry: convolve(x, weight) + np.reshape(bias, (1, -1, 1, 1)),
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "real_div": lambda x, y: x / y,
    "identity": lambda x: x,
}


def converted(write, x):
    """What the converted program answers, and the names of its operators."""
    given = mb.program(input_specs=[mb.TensorSpec(shape=x.shape)], opset_version=ct.target.iOS16)(
        lambda x: mb.identity(x=write(x))
    )
    main = ct.convert(given, convert_to="milinternal", compute_precision=ct.precision.FLOAT32).functions["main"]
    values, left = {"x": x}, [op for op in main.operations if op.op_type != "const"]
    for op in left:
        inputs = {name: values[var.name] if var.val is None else var.val for name, var in op.inputs.items()}
        values[op.outputs[0].name] = MEANING[op.op_type](**inputs)
    return values[main.outputs[0].name], [op.op_type for op in left]


product, quotient = vectors @ matrix, convolve(picture, kernel) / channel
for title, write, x, right, turned in [
    ("x W - c", lambda x: mb.sub(x=mb.matmul(x=x, y=matrix), y=row), vectors, product - row, row - product),
    ("c - x W", lambda x: mb.sub(x=row, y=mb.matmul(x=x, y=matrix)), vectors, row - product, product - row),
    ("conv / c", lambda x: mb.real_div(x=mb.conv(x=x, weight=kernel), y=channel), picture, quotient, 1 / quotient),
    ("c / conv", lambda x: mb.real_div(x=channel, y=mb.conv(x=x, weight=kernel)), picture, 1 / quotient, quotient),
]:
    found, operators = converted(write, x)
    print(f"{title} becomes {operators}: {found.flat[0]:.4f}, right {right.flat[0]:.4f}, turned {turned.flat[0]:.4f}")
    assert np.allclose(found, turned if title.startswith("c ") else right, rtol=1e-4)
    assert not np.allclose(right, turned, rtol=0.1)
PY
PYTHONWARNINGS=ignore TQDM_DISABLE=1 venv/bin/python run.py
