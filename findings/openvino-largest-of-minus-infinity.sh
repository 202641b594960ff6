#!/usr/bin/env bash
# The largest of values that are all minus infinity is -3.4e38 in OpenVINO, so a masked row is not recognised.
#
# Versions: openvino 2026.4.1, onnx 1.23.2, numpy 2.4.6.
# Expected: ReduceMax, MaxPool and GlobalMaxPool return one of their inputs, ReduceMin too: of -inf alone -inf (of inf
#   alone inf). A graph that masks places with -inf asks by `Equal(max, -inf)` whether a whole row was masked; the function
#   body that ONNX gives for Attention does, to answer 0 and not NaN.
# Seen: the CPU plugin begins with the lowest finite float and returns that. The comparison is false, and what should be 0
#   is NaN. TopK answers -inf.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  openvino==2026.4.1 onnx==1.23.2 numpy==2.4.6
cd "$work"
CI=true venv/bin/python - <<'PY'
import numpy as np
import onnx
import openvino
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

CONSTANTS = {"last": np.array([-1]), "one": np.array([1]), "infinity": np.float32(-np.inf), "zero": np.float32(0)}


def answers(x: np.ndarray, *nodes: onnx.NodeProto) -> tuple[np.ndarray, np.ndarray]:
    """What the reference evaluator and OpenVINO answer, flat."""
    shapes = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [f"d{axis}" for axis in range(x.ndim)]),
    ]
    used = {name for node in nodes for name in node.input}
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in CONSTANTS.items() if name in used]
    graph = helper.make_graph(nodes, "graph", shapes[:1], shapes[1:], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model)
    core, settings = openvino.Core(), {"INFERENCE_PRECISION_HINT": "f32"}
    found = core.compile_model(core.read_model(model.SerializeToString()), "CPU", settings)([x])[0]
    with np.errstate(invalid="ignore"):
        return ReferenceEvaluator(model).run(None, {"x": x})[0].ravel(), found.ravel()


lowest, make = np.finfo(np.float32).min, helper.make_node
masked = np.full((1, 1, 2, 2), -np.inf, np.float32)
for node, sign, finite in (
    (make("ReduceMax", ["x", "last"], ["y"]), 1, True),
    (make("ReduceMin", ["x", "last"], ["y"]), -1, True),
    (make("MaxPool", ["x"], ["y"], kernel_shape=[2, 2]), 1, True),
    (make("GlobalMaxPool", ["x"], ["y"]), 1, True),
    (make("TopK", ["x", "one"], ["y", "places"]), 1, False),
):
    expected, found = answers(masked * sign, node)
    print(f"{node.op_type}: expected {expected[0]}, found {found[0]}")
    assert (expected == -np.inf * sign).all()
    assert (found == (lowest if finite else -np.inf) * sign).all()
rows = np.array([[-np.inf, -np.inf], [0, 0]], np.float32)
expected, found = answers(
    rows, make("Softmax", ["x"], ["s"]), make("ReduceMax", ["x", "last"], ["m"]),
    make("Equal", ["m", "infinity"], ["all"]), make("Where", ["all", "zero", "s"], ["y"]),
)  # fmt: skip
print(f"a softmax that is 0 where all is masked: expected {expected.tolist()}, found {found.tolist()}")
np.testing.assert_array_equal(expected, [0, 0, 0.5, 0.5])
np.testing.assert_array_equal(found, [np.nan, np.nan, 0.5, 0.5])
PY
