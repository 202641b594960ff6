#!/usr/bin/env bash
# onnxsim merges two reductions that differ in keepdims, and the result has other dimensions than the model's.
#
# Versions: onnxsim 0.8.1, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6.
# Expected: a simplified model gives the same answers in the same shape. Two reductions with unequal keepdims are not one
#   reduction: the dimensions of length 1 that the first keeps are lost, or those that it dropped appear.
# Seen: ReduceMax over one axis with keepdims=1 and over another with keepdims=0, as a peak per picture of a map
#   `[N, H, W]`, becomes one ReduceMax with the keepdims of the second. A `[N, 1]` becomes `[N]`, so what follows
#   broadcasts along the other axis: with as many labels as pictures in the batch there is no error, and each label is
#   compared with the peak of another picture. The same holds for ReduceMean, ReduceL2 and others, and the other way
#   round (0, then 1). simplify's second result is True.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  onnxsim==0.8.1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$work"
ORT_DISABLE_TELEMETRY=1 venv/bin/python - <<'PY'
import numpy as np
import onnx
import onnxruntime
import onnxsim
from onnx import TensorProto, helper


onnxruntime.set_default_logger_severity(3)


def model(first: int, second: int) -> onnx.ModelProto:
    """Scores minus the peak of each picture's map, which two reductions find."""
    nodes = [
        helper.make_node("ReduceMax", ["maps"], ["rows"], axes=[2], keepdims=first),
        helper.make_node("ReduceMax", ["rows"], ["peak"], axes=[1], keepdims=second),
        helper.make_node("Sub", ["scores", "peak"], ["y"]),
    ]
    shapes = {"maps": [3, 4, 5], "scores": [3, 3], "y": [3, 3]}
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in shapes.items()]
    graph = helper.make_graph(nodes, "graph", tensors[:2], tensors[2:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made, full_check=True)
    return made


def answer(graph: onnx.ModelProto) -> np.ndarray:
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, given)[0]


maps = np.arange(60, dtype=np.float32).reshape(3, 4, 5)  # peaks 19, 39 and 59
given = {"maps": maps, "scores": np.zeros((3, 3), np.float32)}
original = model(1, 0)
simple, said = onnxsim.simplify(original)
before, after = answer(original), answer(simple)
print("reductions left:", sum(node.op_type == "ReduceMax" for node in simple.graph.node), "- simplify says", said)
print("original:", before.tolist())
print("simplified:", after.tolist())
assert said and (before == [[-19] * 3, [-39] * 3, [-59] * 3]).all()
assert (after == [[-19, -39, -59]] * 3).all()
PY
