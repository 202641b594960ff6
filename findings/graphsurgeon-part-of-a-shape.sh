#!/usr/bin/env bash
# onnx-graphsurgeon folds a part of a shape as if it were the whole shape.
#
# Versions: onnx-graphsurgeon 0.6.1, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6.
# Expected: fold_constants() keeps what a model computes. Shape has the attributes start and end since opset 15, and
#   exporters write them (PyTorch's writes one such Shape for each size that a module reads).
# Seen: start and end are not looked at. The number of pixels, ReduceProd(Shape(x, start=2)), becomes that of all
#   values, so a mean is too small by batch x channels. Of a model whose batch is free, Gather(Shape(x, start=2), 1) is
#   the number of channels instead of the width. Both models load and run; no message. With fold_shapes=False, or with
#   the part taken by a Slice, the answer is right.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  onnx-graphsurgeon==0.6.1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$work"
ORT_DISABLE_TELEMETRY=1 venv/bin/python - <<'PY'
import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

CONSTANTS = {"one": np.int64(1), "axes": np.int64([2, 3]), "starts": np.int64([2]), "ends": np.int64([4])}
ATTRIBUTE = [helper.make_node("Shape", ["x"], ["sizes"], start=2)]
SLICE = [
    helper.make_node("Shape", ["x"], ["shape"]),
    helper.make_node("Slice", ["shape", "starts", "ends"], ["sizes"]),
]
MEAN = [
    helper.make_node("ReduceProd", ["sizes"], ["pixels"], keepdims=0),
    helper.make_node("Cast", ["pixels"], ["count"], to=TensorProto.FLOAT),
    helper.make_node("ReduceSum", ["x", "axes"], ["sum"], keepdims=0),
    helper.make_node("Div", ["sum", "count"], ["y"]),
]
WIDTH = [helper.make_node("Gather", ["sizes", "one"], ["y"])]
x = np.ones((2, 3, 5, 7), np.float32)


def model(batch, nodes):
    known = batch == 2
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 5, 7])
    found = helper.make_tensor_value_info("y", TensorProto.FLOAT if known else TensorProto.INT64, [2, 3] if known else [])
    used = {name for node in nodes for name in node.input}
    constants = [numpy_helper.from_array(value, name) for name, value in CONSTANTS.items() if name in used]
    graph = helper.make_graph(nodes, "graph", [given], [found], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(made, full_check=True)
    return made


def answer(made):
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    return float(session.run(None, {"x": x})[0].flat[0])


def folded(made, **options):
    return answer(gs.export_onnx(gs.import_onnx(made).fold_constants(**options).cleanup()))


for title, batch, rest, right, wrong in (("mean of ones", 2, MEAN, 1, 1 / 6), ("width", "batch", WIDTH, 7, 3)):
    for part, nodes in (("start=2", ATTRIBUTE), ("Slice", SLICE)):
        made = model(batch, nodes + rest)
        before, after, kept = answer(made), folded(made), folded(made, fold_shapes=False)
        print(f"{title} with {part}: {before:.3f}, folded {after:.3f}, folded without shapes {kept:.3f}")
        assert before == kept == right and np.isclose(after, wrong if part == "start=2" else right)
PY
