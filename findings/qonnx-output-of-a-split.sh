#!/usr/bin/env bash
# qonnx takes the first output of a Split where the model uses the second, when it removes an operator without effect.
#
# Versions: qonnx 1.0.0, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6.
# Expected: RemoveIdentityOps removes "identity ops like Add/Sub with zero or Mul/Div with one" (its docstring), and
#   Identity and Dropout, so the model answers as before.
# Seen: where the operator reads an output that is not the first of its node, and is the only one that reads that node,
#   the name of the result is given to the node's first output. A head that computes main and auxiliary scores in one
#   product, of which only the latter half is used, then answers with the former half: other labels, in the same shape.
#   It is the same for Dropout, Identity and a factor of 1, for TopK, and in GemmToMatMul, which calls it. With
#   the first output, or without anything to be removed, it is right. The model passes onnx's checker. No message.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  qonnx==1.0.0 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$work"
ORT_DISABLE_TELEMETRY=1 venv/bin/python - <<'PY'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.remove import RemoveIdentityOps

LABELS = 3
weights = np.random.default_rng(0).standard_normal((4, 2 * LABELS)).astype(np.float32)
features = np.random.default_rng(1).standard_normal((2, 4)).astype(np.float32)
constants = {"weights": weights, "sizes": np.array([LABELS, LABELS]), "one": np.ones(1, np.float32)}


def model(used, operator):
    """Scores from one half of a product, behind an operator that changes nothing."""
    inputs = [used, "one"] if operator == "Mul" else [used]
    nodes = [
        helper.make_node("MatMul", ["features", "weights"], ["both"]),
        helper.make_node("Split", ["both", "sizes"], ["former", "latter"], axis=1),
        helper.make_node(operator, inputs, ["kept"]),
        helper.make_node("Sigmoid", ["kept"], ["scores"]),
    ]
    tensors = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, size])
        for name, size in (("features", 4), ("scores", LABELS))
    ]
    read = {name for node in nodes for name in node.input}
    held = [numpy_helper.from_array(value, name) for name, value in constants.items() if name in read]
    graph = helper.make_graph(nodes, "graph", tensors[:1], tensors[1:], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def answer(proto):
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"features": features})[0]


former, latter = np.split(1 / (1 + np.exp(-features @ weights)), 2, axis=1)
for used, right in (("former", former), ("latter", latter)):
    for operator in ("Dropout", "Identity", "Mul"):
        original = model(used, operator)
        before, after = answer(original), answer(ModelWrapper(original).transform(RemoveIdentityOps()).model)
        print(f"{used} half, {operator}: {before[0].round(2)}, then {after[0].round(2)}")
        np.testing.assert_allclose(before, right, atol=1e-6)
        np.testing.assert_allclose(after, former, atol=1e-6)
PY
