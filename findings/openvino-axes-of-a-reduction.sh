#!/usr/bin/env bash
# OpenVINO ignores the axes of ReduceL1, ReduceLogSum and ReduceLogSumExp where they are an attribute, and reduces the
#   whole batch to one number.
#
# Versions: openvino 2026.4.1, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6.
# Expected: up to opset 17 "axes" is an attribute that says what is reduced; only without it all axes are (ONNX
#   Changelog.md, ReduceL1-13, ReduceLogSum-13, ReduceLogSumExp-13).
# Seen: [2, 3, 4, 4] over its last two axes becomes [1, 1, 1, 1], the reduction of both pictures' 96 values: with keepdims
#   it broadcasts against what follows, so every picture gets the same, and that depends on the others of the batch.
#   Opsets 13 to 17, with static and dynamic batches. Opset 11 is right, and so is 18, where the axes are an input, and
#   so are ReduceL2, ReduceMean, ReduceMax and ReduceSumSquare of every opset. Log-sum-exp pooling (torch.logsumexp) is
#   such a reduction. It is known: OpenVINO's issue 38238 was open in November 2026.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  openvino==2026.4.1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$work"
CI=true venv/bin/python - <<'PY'
import numpy as np
import onnx
import onnxruntime as ort
import openvino
from onnx import TensorProto, helper, numpy_helper

OF_NUMPY = {
    "ReduceL1": lambda x, axes: np.abs(x).sum(axes, keepdims=True),
    "ReduceLogSum": lambda x, axes: np.log(x.sum(axes, keepdims=True)),
    "ReduceLogSumExp": lambda x, axes: np.log(np.exp(x).sum(axes, keepdims=True)),
    "ReduceL2": lambda x, axes: np.sqrt((x**2).sum(axes, keepdims=True)),
    "ReduceMean": lambda x, axes: x.mean(axes, keepdims=True),
    "ReduceMax": lambda x, axes: x.max(axes, keepdims=True),
    "ReduceSumSquare": lambda x, axes: (x**2).sum(axes, keepdims=True),
}
pictures = np.random.default_rng(0).random((2, 3, 4, 4), np.float32)
core = openvino.Core()


def model_of(operator, opset, batch):
    axes = [numpy_helper.from_array(np.array([2, 3]), "axes")] if opset >= 18 else []
    attribute = {} if axes else {"axes": [2, 3]}
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", *(one.name for one in axes)], ["y"], keepdims=1, **attribute)],
        "pooled",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 3, 1, 1])],
        axes,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


for operator, of_numpy in OF_NUMPY.items():
    for opset in (11, 13, 17, 18):
        for batch in (2, "batch"):
            model = model_of(operator, opset, batch)
            right = ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": pictures})[0]
            np.testing.assert_allclose(right, of_numpy(pictures, (2, 3)), rtol=1e-4)
            settings = {"INFERENCE_PRECISION_HINT": "f32"}
            found = core.compile_model(core.read_model(model), "CPU", settings)([pictures])[0]
            wrong = opset in (13, 17) and operator in ("ReduceL1", "ReduceLogSum", "ReduceLogSumExp")
            np.testing.assert_allclose(found, of_numpy(pictures, (0, 1, 2, 3) if wrong else (2, 3)), rtol=1e-4)
            print(f"{operator}, opset {opset}, batch {batch}: expected {right.shape}, found {found.shape}")
PY
