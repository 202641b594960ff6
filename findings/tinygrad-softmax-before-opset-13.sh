#!/usr/bin/env bash
# tinygrad takes Softmax of opsets before 13 over one axis, and counts MaxPool's indices anew in each map.
#
# Versions: tinygrad 0.14.0 (DEV=PYTHON, which needs no compiler), onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6.
# Expected: up to opset 12 Softmax and LogSoftmax flatten the dimensions from "axis" on, which is 1 by default, and
#   normalise over all of them (ONNX Changelog.md, Softmax-11: "coerced into 2D"). MaxPool's second output are "the
#   indices computed as flatten 1-D tensor", in [0, N x C x D1 x ... x Dn) (Operators.md, MaxPool).
# Seen: an attention map over N x C x H x W sums to 1 at each pixel instead of once in a picture, so a spatial attention
#   weighs H x W times too much; LogSoftmax without "axis" takes the last axis in old opsets too. With axis=-1, or a
#   matrix, it is right. The indices of every map start at 0, so those of the second map and on point into the first.
#   No message.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  tinygrad==0.14.0 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$work"
DEV=PYTHON ORT_DISABLE_TELEMETRY=1 venv/bin/python - <<'PY'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from tinygrad import Tensor
from tinygrad.nn.onnx import OnnxRunner

maps = np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32)


def answers(operator, opset, outputs=("y",), **attributes):
    """The last output of ONNX Runtime and of tinygrad."""
    kinds = {"y": TensorProto.FLOAT, "i": TensorProto.INT64}
    graph = helper.make_graph(
        [helper.make_node(operator, ["x"], list(outputs), **attributes)],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, maps.shape)],
        [helper.make_tensor_value_info(name, kinds[name], ["n", "c", "h", "w"]) for name in outputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "model.onnx")
    session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    return session.run(None, {"x": maps})[-1], OnnxRunner("model.onnx")({"x": Tensor(maps)})[outputs[-1]].numpy()


def softmax(axes):
    powers = np.exp(maps)
    return powers / powers.sum(axis=axes, keepdims=True)


last = {(): (1, 2, 3), (1,): (1, 2, 3), (-1,): (3,)}  # what opset 12 normalises over
for operator, found_axis in (("Softmax", 1), ("LogSoftmax", 3)):
    scale = np.exp if operator == "LogSoftmax" else np.asarray
    for axis, axes in last.items():
        right, found = answers(operator, 12, **({"axis": axis[0]} if axis else {}))
        sums = [round(float(scale(answer)[0].sum()), 3) for answer in (right, found)]
        print(f"{operator} of opset 12, axis {axis or 'not given'}: sums to {sums[0]}, tinygrad's to {sums[1]}")
        np.testing.assert_allclose(scale(right), softmax(axes), rtol=1e-4)
        np.testing.assert_allclose(scale(found), softmax(axis or found_axis), rtol=1e-4)

right, found = answers("MaxPool", 12, ("y", "i"), kernel_shape=[4, 4])
print("MaxPool's indices:", right.ravel().tolist(), "tinygrad's:", found.ravel().tolist())
assert (maps.ravel()[right.ravel()] == maps.max((2, 3)).ravel()).all() and (found == right % 16).all()
PY
