#!/usr/bin/env bash
# onnxoptimizer's default passes put a Pad into the pooling after it, and change what both kinds of pooling answer.
#
# Versions: onnxoptimizer 0.4.2, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6.
# Expected: the answer is kept. MaxPool's own padding never wins: the padded places count as minus infinity, and
#   AveragePool divides by the places within the picture unless count_include_pad is 1 (ONNX Operators.md, MaxPool:
#   "pads", AveragePool: "count_include_pad"). A Pad of zeros before them is data like any other.
# Seen: fuse_pad_into_pool, one of the passes that optimize() runs when none is named, moves the zeros into "pads" of a
#   MaxPool: a border of negative values was 0 and becomes negative (signed features, normalised pixels). For an
#   AveragePool with a padding of its own and count_include_pad=0, both paddings are joined and counted: the corner is a
#   mean over 9.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  onnxoptimizer==0.4.2 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
import onnx
import onnxoptimizer
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

picture = np.full((1, 1, 2, 2), -6, np.float32)
pads = numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64), "pads")


def answer(model):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": picture})[0][0, 0]


def model_with(pool, size, **attributes):
    graph = helper.make_graph(
        [
            helper.make_node("Pad", ["x", "pads"], ["p"]),
            helper.make_node(pool, ["p"], ["y"], kernel_shape=[3, 3], **attributes),
        ],
        "padded",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, size, size])],
        [pads],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


for pool, size, attributes in (("MaxPool", 2, {}), ("AveragePool", 4, {"pads": [1, 1, 1, 1]})):
    before = model_with(pool, size, **attributes)
    after = onnxoptimizer.optimize(before)
    print(pool, [node.op_type for node in before.graph.node], answer(before).round(3).tolist())
    print(pool, [node.op_type for node in after.graph.node], answer(after).round(3).tolist())
    assert [node.op_type for node in after.graph.node] == [pool]
    if pool == "MaxPool":
        assert (answer(before) == 0).all() and (answer(after) == -6).all()
    else:  # the corner: one pixel of -6 and three zeros that Pad wrote, over 4 places; then over 9
        np.testing.assert_allclose([answer(before)[0, 0], answer(after)[0, 0]], [-6 / 4, -6 / 9], rtol=1e-5)
PY
