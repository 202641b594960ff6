#!/usr/bin/env bash
# onnxoptimizer drops the first of two Reshape nodes although the second copies its dimensions: another shape, silently.
#
# Versions: onnxoptimizer 0.4.2, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6.
# Expected: the shape and the order of values are kept. A 0 in a Reshape's shape means "the dimension value is unchanged
#   (i.e. taken from the input tensor)" (ONNX Operators.md, Reshape), so what it means depends on the Reshape before it.
# Seen: eliminate_consecutive_idempotent_ops, one of the passes that optimize() runs when none is named, takes two
#   Reshapes for one, and the zeros then copy from the first one's input. Features [batch, 4, 6, 6] that are split into
#   2 groups leave as [batch, 4, 18, 2] in place of [batch, 2, 36, 2]; the declared output shape still says the latter.
#   Where the sizes do not fit (shape [0, 6, 6] after [-1, 36]) the model no longer runs at all.
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

features = np.arange(2 * 4 * 6 * 6, dtype=np.float32).reshape(2, 4, 6, 6)


def answer(model):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": features})[0]


def model_with(first, second, out):
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "first"], ["r"]), helper.make_node("Reshape", ["r", "second"], ["y"])],
        "grouped",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        [numpy_helper.from_array(np.array(first), "first"), numpy_helper.from_array(np.array(second), "second")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


before = model_with([0, 2, -1], [0, 0, -1, 2], ["batch", 2, 36, 2])
after = onnxoptimizer.optimize(before)
print("before:", answer(before).shape, "after:", answer(after).shape, [node.op_type for node in after.graph.node])
assert answer(before).shape == (2, 2, 36, 2)
assert answer(after).shape == (2, 4, 18, 2)

before = model_with([-1, 36], [0, 6, 6], ["rows", 6, 6])
assert answer(before).shape == (8, 6, 6)
try:
    print(answer(onnxoptimizer.optimize(before)).shape)
except Exception as error:
    print("after:", str(error)[:90])
else:
    raise SystemExit("the second model runs now")
PY
