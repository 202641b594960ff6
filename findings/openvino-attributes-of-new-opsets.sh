#!/usr/bin/env bash
# OpenVINO reads ONNX models of opsets whose new attributes it does not know, and computes as if they were not there.
#
# Versions: openvino 2026.4.1, onnx 1.23.2, numpy 2.4.6.
# Expected: Attention of opset 25 has left_window_size and right_window_size (local attention), SpaceToDepth of opset 28
#   has mode (CRD orders channels as PixelUnshuffle does). A reader that lacks an opset's operator refuses the model, as
#   OpenVINO does for operators whose names it does not know.
# Seen: both are read without a word; attention is global, and the channels are in the order of DCR, the default.
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
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator


def answers(opset: int, op: str, x: np.ndarray, times: int, **options: object) -> tuple[np.ndarray, np.ndarray]:
    """What the reference evaluator and OpenVINO answer for an operator that takes x several times."""
    node = helper.make_node(op, ["x"] * times, ["y"], **options)
    shapes = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [f"d{axis}" for axis in range(x.ndim)]),
    ]
    graph = helper.make_graph([node], "graph", shapes[:1], shapes[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=11)
    onnx.checker.check_model(model)
    core, settings = openvino.Core(), {"INFERENCE_PRECISION_HINT": "f32"}
    found = core.compile_model(core.read_model(model.SerializeToString()), "CPU", settings)([x])[0]
    return ReferenceEvaluator(model).run(None, {"x": x})[0], found


tokens = np.random.default_rng(0).normal(size=(1, 2, 9, 4)).astype(np.float32)
pixels = np.arange(2 * 4 * 4, dtype=np.float32).reshape(1, 2, 4, 4)
for opset, op, x, times, plain, options in (
    (25, "Attention", tokens, 3, {}, {"left_window_size": 1, "right_window_size": 1}),
    (28, "SpaceToDepth", pixels, 1, {"blocksize": 2}, {"mode": "CRD"}),
):
    known, known_found = answers(opset, op, x, times, **plain)
    np.testing.assert_allclose(known_found, known, atol=1e-5)
    expected, found = answers(opset, op, x, times, **plain, **options)
    print(f"{op} of opset {opset} with {options}: differs by up to {np.abs(found - expected).max():.2f}")
    assert np.abs(found - expected).max() > 0.1
    np.testing.assert_array_equal(found, known_found)
PY
