#!/usr/bin/env bash
# OpenVINO reads an ONNX Resize and leaves out three of its attributes: other pixels, even another size, and no message.
#
# Versions: openvino 2026.4.1, onnx 1.23.2, numpy 2.4.6.
# Expected: antialias=1 (since opset 18) widens the filter when a picture shrinks; keep_aspect_ratio_policy (since opset 18)
#   takes `sizes` as a box that the picture is fitted into; exclude_outside=1 gives weights beyond the edge to the pixels
#   inside. A reader that does not know an attribute refuses the model. These are how a graph prepares its own pictures.
# Seen: all three models are read and run as if the attribute were not there. Without it, the answers agree.
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

x = np.random.default_rng(0).random((1, 1, 12, 24), dtype=np.float32)


def answers(height: int, width: int, **options: object) -> tuple[np.ndarray, np.ndarray]:
    """What the reference evaluator and OpenVINO make of the picture."""
    resize = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], axes=[2, 3], **options)
    shapes = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, "height", "width"]),
    ]
    sizes = numpy_helper.from_array(np.array([height, width]), "sizes")
    graph = helper.make_graph([resize], "graph", shapes[:1], shapes[1:], [sizes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model)
    core, settings = openvino.Core(), {"INFERENCE_PRECISION_HINT": "f32"}
    found = core.compile_model(core.read_model(model.SerializeToString()), "CPU", settings)([x])[0]
    return ReferenceEvaluator(model).run(None, {"x": x})[0], found


for size, mode, name, value in (
    ((4, 8), "linear", "antialias", 1),
    ((18, 30), "cubic", "exclude_outside", 1),
    ((8, 8), "linear", "keep_aspect_ratio_policy", "not_larger"),
):
    plain, plainly_found = answers(*size, mode=mode)
    np.testing.assert_allclose(plainly_found, plain, atol=1e-5)
    expected, found = answers(*size, mode=mode, **{name: value})
    np.testing.assert_array_equal(found, plainly_found)
    if expected.shape == found.shape:
        difference = f"differs by up to {np.abs(found - expected).max():.2f}"
        assert np.abs(found - expected).max() > 0.01
    else:
        difference = f"expected {expected.shape[2:]}, found {found.shape[2:]}"
    print(f"{name}={value}: {difference}")
assert (expected.shape[2:], found.shape[2:]) == ((4, 8), (8, 8))
PY
