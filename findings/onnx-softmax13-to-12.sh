#!/usr/bin/env bash
# onnx.version_converter lowers a Softmax from opset 13 to 12 without a word, and it no longer sums to 1 over its axis.
#
# Versions: onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6.
# Expected: an equal answer, or the RuntimeError that the docstring of onnx.version_converter.convert_version promises
#   for a conversion that is not supported. Softmax-13 normalises along one axis; Softmax-11 first flattens its input to
#   two dimensions at that axis and normalises over all that follows (ONNX Changelog.md, Softmax-11: "the input does not
#   need to explicitly be a 2D vector; rather, it will be coerced into one"). The way up (12 to 13) does insert Flatten,
#   Softmax and Reshape.
# Seen: the way down copies the node. For [batch, class, height, width] and axis=1 the classes of one pixel sum to 1
#   before, and to 1 / (number of pixels) on average after: each picture is one distribution. LogSoftmax does the same.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, version_converter

shape = [2, 3, 4, 5]
scores = np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def answer(model):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": scores})[0]


for operator in ("Softmax", "LogSoftmax"):
    graph = helper.make_graph(
        [helper.make_node(operator, ["x"], ["y"], axis=1)],
        "per_pixel",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    before = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    after = version_converter.convert_version(before, 12)
    onnx.checker.check_model(after, full_check=True)
    assert [node.op_type for node in after.graph.node] == [operator] and after.opset_import[0].version == 12
    first, second = answer(before), answer(after)
    if operator == "LogSoftmax":
        first, second = np.exp(first), np.exp(second)
    print(operator, "opset 13: sums over the classes", first.sum(1).min(), "to", first.sum(1).max())
    print(operator, "opset 12: sums over the classes", second.sum(1).min(), "to", second.sum(1).max())
    np.testing.assert_allclose(first.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(second.sum((1, 2, 3)), 1, rtol=1e-5)
    np.testing.assert_allclose(second.sum(1).mean(), 1 / 20, rtol=1e-5)
PY
