#!/usr/bin/env bash
# coremltools folds a batch norm into a transposed convolution of two or more groups with the channels in another order.
#
# Versions: coremltools 9.0, numpy 2.4.6.
# Expected: a converted ConvTranspose with a batch norm (or a multiplication per channel) behind it answers as the two did.
# Seen: the passes fuse_conv_batchnorm and fuse_conv_scale count the rows of the weights (Cin, Cout / groups, ...) as
#   output channels without their groups, so with 2 groups of 2 outputs the second channel's weights get the third's
#   scale and the third's the second's, while the biases are right. One group, or one output in each group (depthwise), is
#   right. No message. A module of PyTorch is converted in the same way (tried with torch 2.14.1).
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
GAMMA = np.float32([1, 10, 100, 1000])
NONE, ONE = np.zeros(4, np.float32), np.ones(4, np.float32)
picture = random.uniform(1, 2, (1, 4, 5, 5)).astype(np.float32)


def transposed(x, weight, bias=0, groups=1, **geometry):
    """Of 1x1 kernels: output o of a group is the sum over that group's inputs i of weight[i, o] x[i]."""
    parts = [
        np.einsum("nchw,co->nohw", inputs, rows[:, :, 0, 0])
        for inputs, rows in zip(np.split(x, groups, axis=1), np.split(weight, groups))
    ]
    return np.concatenate(parts, axis=1) + np.reshape(bias, (1, -1, 1, 1))


def converted(weight, groups, behind):
    """What the converted program answers: one conv_transpose is left in it."""

    def write(x):
        return mb.identity(x=behind(mb.conv_transpose(x=x, weight=weight, groups=groups)))

    given = mb.program(input_specs=[mb.TensorSpec(shape=picture.shape)], opset_version=ct.target.iOS16)(write)
    main = ct.convert(given, convert_to="milinternal", compute_precision=ct.precision.FLOAT32).functions["main"]
    one, identity = (op for op in main.operations if op.op_type != "const")
    assert (one.op_type, identity.op_type) == ("conv_transpose", "identity")
    return transposed(picture, **{name: var.val for name, var in one.inputs.items() if name != "x"})


def norm(x):
    return mb.batch_norm(x=x, mean=NONE, variance=ONE, gamma=GAMMA, beta=NONE, epsilon=np.float32(1e-9))


def scale(x):
    return mb.mul(x=x, y=GAMMA.reshape(4, 1, 1))


for groups in (1, 2, 4):
    weight = random.uniform(1, 2, (4, 4 // groups, 1, 1)).astype(np.float32)
    right = transposed(picture, weight, groups=groups) * GAMMA.reshape(1, 4, 1, 1)
    for title, behind in (("batch norm", norm), ("multiplication", scale)):
        share = (converted(weight, groups, behind) / right).mean(axis=(0, 2, 3))
        print(f"{groups} groups, {title}: what the four channels answer as a share of what is right: {share.round(3)}")
        assert np.allclose(share, [1, 10, 0.1, 1] if groups == 2 else 1, rtol=1e-3)
PY
PYTHONWARNINGS=ignore TQDM_DISABLE=1 venv/bin/python run.py
