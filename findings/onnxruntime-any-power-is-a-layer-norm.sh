#!/usr/bin/env bash
# ONNX Runtime takes a normalisation by the fourth moment for a layer normalisation, and answers the latter.
#
# Versions: onnxruntime 1.32.0, onnx 1.23.2, numpy 2.4.6.
# Expected: graph optimisations do not change what is computed (ONNX Runtime's documentation, "Graph Optimizations in
#   ONNX Runtime": the basic ones are "semantics-preserving graph rewrites").
# Seen: the fusion of ReduceMean, Sub, Pow, ReduceMean, Add, Sqrt, Div, Mul and Add into LayerNormalization does not
#   look at the exponent of Pow. With an exponent of 4 (a norm that weighs outliers more) the session answers the layer
#   norm, as if the exponent were 2, at every level but ORT_DISABLE_ALL, which answers what the graph says.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

tokens = np.random.default_rng(0).standard_normal((2, 3, 8)).astype(np.float32)
constants = {"four": 4, "epsilon": 1e-5, "scale": np.ones(8), "bias": np.zeros(8)}
nodes = [
    helper.make_node("ReduceMean", ["x"], ["mean"], axes=[-1]),
    helper.make_node("Sub", ["x", "mean"], ["centred"]),
    helper.make_node("Pow", ["centred", "four"], ["power"]),
    helper.make_node("ReduceMean", ["power"], ["moment"], axes=[-1]),
    helper.make_node("Add", ["moment", "epsilon"], ["positive"]),
    helper.make_node("Sqrt", ["positive"], ["root"]),
    helper.make_node("Div", ["centred", "root"], ["normed"]),
    helper.make_node("Mul", ["normed", "scale"], ["scaled"]),
    helper.make_node("Add", ["scaled", "bias"], ["y"]),
]
graph = helper.make_graph(
    nodes,
    "fourth_moment",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3, 8])],
    [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.checker.check_model(model, full_check=True)


def answer(level):
    options = ort.SessionOptions()
    if level is not None:
        options.graph_optimization_level = level
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": tokens})[0]


centred = tokens - tokens.mean(-1, keepdims=True)
asked = centred / np.sqrt((centred**4).mean(-1, keepdims=True) + 1e-5)
layer_norm = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
plain, default = answer(ort.GraphOptimizationLevel.ORT_DISABLE_ALL), answer(None)
for title, got in (("not optimised", plain), ("default", default)):
    print(f"{title}: largest difference from what the graph says {np.abs(got - asked).max():.2g}")
np.testing.assert_allclose(plain, asked, rtol=1e-4, atol=1e-5)
np.testing.assert_allclose(default, layer_norm, rtol=1e-4, atol=1e-5)
PY
