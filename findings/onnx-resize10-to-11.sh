#!/usr/bin/env bash
# onnx.version_converter changes what a linear Resize of opset 10 (or Upsample of opset 7 to 9) answers.
#
# Versions: onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6.
# Expected: the same answer before and after. The docstring of onnx.version_converter.convert_version says that a
#   RuntimeError is raised "when some necessary conversion is not supported". Up to opset 10 a resize samples at x_out /
#   scale (what opset 11 calls "asymmetric"); from 11 on, a Resize that names no coordinate_transformation_mode is
#   "half_pixel" (ONNX Operators.md, Resize, attributes), so a conversion has to write
#   coordinate_transformation_mode="asymmetric".
# Seen: the converter adds the missing inputs, but writes no mode. The model passes the checker and runs; the row 0 10
#   20 30 enlarged twice was 0 5 10 15 20 25 30 30 and becomes 0 2.5 7.5 12.5 17.5 22.5 27.5 30: every feature map after
#   it is moved by a quarter of a pixel. "nearest" keeps its answer for whole factors only by luck of the rounding.
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
from onnx import TensorProto, helper, numpy_helper, version_converter

row = np.array([0, 10, 20, 30], np.float32).reshape(1, 1, 1, 4)
scales = numpy_helper.from_array(np.array([1, 1, 1, 2], np.float32), "scales")


def answer(model):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": row})[0].ravel()


for operator, opset in (("Resize", 10), ("Upsample", 9)):
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", "scales"], ["y"], mode="linear")],
        "enlarge",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 1, 8])],
        [scales],
    )
    before = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)
    onnx.checker.check_model(before, full_check=True)
    after = version_converter.convert_version(before, 13)
    onnx.checker.check_model(after, full_check=True)
    resize = next(node for node in after.graph.node if node.op_type == "Resize")
    print(f"{operator}-{opset}:    ", answer(before).tolist())
    print("as opset 13:", answer(after).tolist(), "attributes:", [a.name for a in resize.attribute])
    np.testing.assert_allclose(answer(before), [0, 5, 10, 15, 20, 25, 30, 30])
    np.testing.assert_allclose(answer(after), [0, 2.5, 7.5, 12.5, 17.5, 22.5, 27.5, 30])
    assert "coordinate_transformation_mode" not in {a.name for a in resize.attribute}
PY
