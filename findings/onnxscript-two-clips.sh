#!/usr/bin/env bash
# onnxscript.optimizer merges two Clips, or a Clip and a Relu, into one that answers another value.
#
# Versions: onnxscript 0.7.2, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6.
# Expected: optimize() keeps the answer. Clip to [3, 5] and then to [6, 9] is 6 everywhere, and Relu after Clip to [-5,
#   -1] is 0 (ONNX Operators.md, Clip: where min is greater than max, all values are set to max).
# Seen: the merged Clip has the larger of the minima and the smaller of the maxima, so its range is empty: [6, 5]
#   answers 5, and [0, -1] answers -1. The upper bound has to be clamped by the new lower one.
#   torch.onnx.export(dynamo=True) runs this optimizer by default.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  onnxscript==0.7.2 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxscript import optimizer

values = np.linspace(-10, 10, 9, dtype=np.float32)


def answer(model):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": values})[0]


def model_with(nodes, **bounds):
    graph = helper.make_graph(
        nodes,
        "bounded",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [9])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [9])],
        [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in bounds.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


clips = [helper.make_node("Clip", ["x", "a", "b"], ["c"]), helper.make_node("Clip", ["c", "d", "e"], ["y"])]
relu = [helper.make_node("Clip", ["x", "a", "b"], ["c"]), helper.make_node("Relu", ["c"], ["y"])]
for title, before, right, wrong in (
    ("Clip [3, 5], Clip [6, 9]", model_with(clips, a=3, b=5, d=6, e=9), 6, 5),
    ("Clip [-5, -1], Relu", model_with(relu, a=-5, b=-1), 0, -1),
):
    after = optimizer.optimize(onnx.ModelProto.FromString(before.SerializeToString()))
    print(f"{title}: before {np.unique(answer(before))}, after {np.unique(answer(after))}",
          [node.op_type for node in after.graph.node])
    assert (answer(before) == right).all()
    assert (answer(after) == wrong).all()
PY
