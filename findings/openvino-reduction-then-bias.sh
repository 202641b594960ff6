#!/usr/bin/env bash
# OpenVINO's CPU plugin answers wrongly for every batch above 1 where a sum over the last axis is followed by a value
#   per row.
#
# Versions: openvino 2026.4.1, numpy 2.4.6.
# Expected: a reduction of [batch, 5, 16] over its last axis, plus a constant of shape [5], is NumPy's x.sum(-1) + bias
#   (OpenVINO's operation set, ReduceSum and Add, "numpy" broadcasting), in any batch. It is how a score per label is
#   made of an embedding per label.
# Seen: right for a batch of 1; for 2 and more every picture is off by as much as the biases differ. The elementwise
#   operation is fused into the Reduce node. ReduceSum, ReduceMean and ReduceMax, Add and Multiply, with and without
#   keep_dims, static and dynamic batches alike, in f32. A reduction over the middle axis of [batch, 16, 5] is right.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  openvino==2026.4.1 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
import openvino
from openvino import opset13 as ops

generator = np.random.default_rng(0)
per_label = generator.standard_normal(5).astype(np.float32)
reductions = {"reduce_sum": np.sum, "reduce_mean": np.mean, "reduce_max": np.max}
elementwise = {"add": np.add, "multiply": np.multiply}


def difference(reduction, operation, batch, shape, axis, static):
    x = ops.parameter([batch if static else -1, *shape], np.float32, name="x")
    reduced = getattr(ops, reduction)(x, ops.constant(np.array([axis])), False)
    model = openvino.Model([getattr(ops, operation)(reduced, ops.constant(per_label))], [x], "scores")
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    values = generator.standard_normal((batch, *shape)).astype(np.float32)
    right = elementwise[operation](reductions[reduction](values, axis=axis), per_label)
    return np.abs(compiled([values])[0] - right).max(1)


for reduction in reductions:
    for operation in elementwise:
        for static in (False, True):
            one = difference(reduction, operation, 1, (5, 16), -1, static)
            three = difference(reduction, operation, 3, (5, 16), -1, static)
            middle = difference(reduction, operation, 3, (16, 5), 1, static)
            print(f"{reduction}, {operation}, {'static' if static else 'dynamic'}: batch 1 off by {one.max():.2g}, "
                  f"batch 3 by {three.round(2).tolist()}, middle axis by {middle.max():.2g}")  # fmt: skip
            assert one.max() < 1e-4 and middle.max() < 1e-4
            assert three.max() > 0.05
PY
