#!/usr/bin/env bash
# coremltools changes the sign of a constant that is subtracted from two convolutions, for the second of them.
#
# Versions: coremltools 9.0, numpy 2.4.6.
# Expected: relu(f(x) - c) and tanh(g(x) - c) subtract the same c, whose sign no other operator sees changed.
# Seen: the pass fuse_conv_bias folds the first subtraction into the convolution's bias by negating c where it lies, so
#   the second gets a bias of +c instead of -c, a third one -c again, and c * x answers with -c * x. A copy of c for each
#   is right. No message. A module of PyTorch with a buffer c of shape (C, 1, 1) comes out like this (torch 2.14.1).
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
KERNELS = random.uniform(1, 2, (3, 3, 3, 1, 1)).astype(np.float32)  # three 1x1 kernels: products over channels
picture = random.uniform(1, 2, (1, 3, 6, 6)).astype(np.float32)
C = np.float32([[[10.0]], [[20.0]], [[30.0]]])
BIAS = np.zeros(3, np.float32)


def convolve(x, weight, bias=0, **geometry):
    return np.einsum("ncyx,oc->noyx", x, weight[:, :, 0, 0]) + np.reshape(bias, (1, -1, 1, 1))


MEANING = {  # of the operators that are left, by Apple's description of MIL
    "conv": convolve,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "relu": lambda x: np.maximum(x, 0),
    "tanh": lambda x: np.tanh(x),
    "identity": lambda x: x,
}


def converted(constants):
    """What the four outputs of the converted program answer."""

    @mb.program(input_specs=[mb.TensorSpec(shape=picture.shape)], opset_version=ct.target.iOS16)
    def given(x):
        *less, last = constants()
        convolutions = (mb.conv(x=x, weight=kernel, bias=BIAS) for kernel in KERNELS)
        differences = [mb.sub(x=y, y=c) for y, c in zip(convolutions, less)]
        return *(then(x=y) for then, y in zip((mb.relu, mb.tanh, mb.identity), differences)), mb.mul(x=x, y=last)

    main = ct.convert(given, convert_to="milinternal", compute_precision=ct.precision.FLOAT32).functions["main"]
    values = {"x": picture}
    for op in main.operations:
        if op.op_type != "const":
            inputs = {name: values[var.name] if var.val is None else var.val for name, var in op.inputs.items()}
            values[op.outputs[0].name] = MEANING[op.op_type](**inputs)
    return [values[output.name] for output in main.outputs]


first, second, third = (convolve(picture, kernel) - C for kernel in KERNELS)
right = np.maximum(first, 0), np.tanh(second), third, C * picture
copies, shared = (lambda: [C.copy() for _ in right]), (lambda: [mb.const(val=C.copy())] * 4)
for title, constants, wrong in (("copies of c", copies, []), ("one c", shared, [1, 3])):
    found = converted(constants)
    same = [np.allclose(one, other, atol=1e-3) for one, other in zip(found, right)]
    print(f"{title}: right {same}; a value of the last channel: {[round(float(one[0, 2, 0, 0]), 2) for one in found]}")
    assert same == [number not in wrong for number in range(4)]
PY
PYTHONWARNINGS=ignore TQDM_DISABLE=1 venv/bin/python run.py
