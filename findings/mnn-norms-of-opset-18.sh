#!/usr/bin/env bash
# MNN reduces a whole batch to one number where a norm or a log-sum-exp has its axes as an input.
#
# Versions: mnn 3.6.1, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6.
# Expected: from opset 18 on the axes of every reduction are an input (ONNX Operators.md, ReduceL2: "axes"). MNN reads
#   them for ReduceSum, ReduceMean, ReduceMax, ReduceMin and ReduceProd.
# Seen: for ReduceL2, ReduceL1, ReduceSumSquare and ReduceLogSumExp it does not, and the conversion ends without a word.
#   Embeddings of length 1 (torch.nn.functional.normalize, as in CLIP) are then divided by the length of the whole
#   batch: cosines are too small, and depend on which other pictures are beside them. Opset 17 is right.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  mnn==3.6.1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import _tools  # what MNN's command mnnconvert calls
import MNN
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

embeddings = np.random.default_rng(0).uniform(0.5, 2, (3, 4)).astype(np.float32)
UNREAD = {
    "ReduceL1": lambda x: np.abs(x).sum(),
    "ReduceL2": lambda x: np.sqrt((x**2).sum()),
    "ReduceSumSquare": lambda x: (x**2).sum(),
    "ReduceLogSumExp": lambda x: np.log(np.exp(x).sum()),
}


def answers(operator, opset):
    """Embeddings divided by a reduction of each row, in ONNX Runtime and in MNN."""
    axes = [numpy_helper.from_array(np.array([1]), "axes")] if opset >= 18 or operator == "ReduceSum" else []
    attribute = {} if axes else {"axes": [1]}
    reduction = helper.make_node(operator, ["x", *(one.name for one in axes)], ["n"], keepdims=1, **attribute)
    graph = helper.make_graph(
        [reduction, helper.make_node("Div", ["x", "n"], ["y"])],
        "normalised",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 4])],
        axes,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "model.onnx")
    files = ["--modelFile", "model.onnx", "--MNNModel", "model.mnn"]
    _tools.mnnconvert(["mnnconvert", "-f", "ONNX", *files, "--bizCode", "x"])
    given = MNN.expr.placeholder([3, 4], MNN.expr.NCHW)
    given.write(embeddings)
    answer = MNN.nn.load_module_from_file("model.mnn", ["x"], ["y"]).forward([given])[0]
    found = np.array(answer.read()).reshape(3, 4)  # a copy, because it lies in the answer's memory
    session = ort.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    return session.run(None, {"x": embeddings})[0], found


for operator in (*UNREAD, "ReduceSum", "ReduceMean", "ReduceMax"):
    for opset in (17, 18):
        right, found = answers(operator, opset)
        wrong = opset == 18 and operator in UNREAD
        print(f"{operator}, opset {opset}: first row {right[0].round(3).tolist()}, MNN's {found[0].round(3).tolist()}")
        np.testing.assert_allclose(found, embeddings / UNREAD[operator](embeddings) if wrong else right, rtol=1e-4)
PY
