#!/usr/bin/env bash
# OpenVINO forgets the auto_pad of a ConvTranspose where the batch is free, and the answer is larger.
#
# Versions: openvino 2026.4.1, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6.
# Expected: with auto_pad SAME_UPPER or SAME_LOWER the output's sides are the input's times the stride, and the padding
#   follows from that (ONNX Operators.md, ConvTranspose: "auto_pad"). It does not depend on the batch.
# Seen: right where every dimension is fixed. With a free batch, the sides being fixed as before, a 3x3 kernel with
#   stride 2 makes 9x9 of 4x4 instead of 8x8: nothing is cut off. So it is with a 4x4 kernel and with stride 1. With
#   the pads written out the free batch is right. OpenVINO's pull request 32608 mended this for fixed shapes alone. A
#   pooling after it hides the other shape.
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

generator = np.random.default_rng(0)
maps = generator.standard_normal((2, 3, 4, 4)).astype(np.float32)
core = openvino.Core()


def answers(batch, kernel, stride, **padding):
    """What ONNX Runtime and OpenVINO answer for two pictures' maps."""
    weights = np.random.default_rng(1).standard_normal((3, 2, kernel, kernel)).astype(np.float32)
    about = {"kernel_shape": [kernel, kernel], "strides": [stride, stride], **padding}
    graph = helper.make_graph(
        [helper.make_node("ConvTranspose", ["x", "w"], ["y"], **about)],
        "grown",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 2, 4 * stride, 4 * stride])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", settings)
    return session.run(None, {"x": maps})[0], compiled([maps])[0]


for kernel, stride, pads in ((3, 2, [0, 0, 1, 1]), (3, 1, [1, 1, 1, 1]), (4, 2, [1, 1, 1, 1])):
    whole = 3 * stride + kernel
    for title, padding in (("auto_pad", {"auto_pad": "SAME_UPPER"}), ("pads", {"pads": pads})):
        for batch in (2, "batch"):
            right, found = answers(batch, kernel, stride, **padding)
            case = f"{kernel}x{kernel}, stride {stride}, {title}, batch {batch}"
            print(f"{case}: {right.shape}, OpenVINO's {found.shape}")
            if title == "auto_pad" and batch == "batch":
                assert found.shape == (2, 2, whole, whole)
                top, bottom = pads[0], whole - pads[2]
                found = found[:, :, top:bottom, top:bottom]
            np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-5)
PY
