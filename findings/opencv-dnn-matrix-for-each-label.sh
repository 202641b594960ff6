#!/usr/bin/env bash
# OpenCV's dnn multiplies every label but the first by other numbers where a constant has a matrix for each label or head,
#   in every batch above 1.
#
# Versions: opencv-python-headless 5.0.0.93, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6.
# Expected: MatMul of [batch, 4, 1, 6] with a constant [4, 6, 1] is numpy.matmul for any batch: the axes before the last
#   two are broadcast, so each label's row meets that label's matrix (ONNX Operators.md, MatMul: "behaves like
#   numpy.matmul"). The last step of a label-wise head (ML-Decoder) and weights per head of attention are such products.
# Seen: right for a batch of 1, and where the constant is repeated for each picture. For two and more pictures the first
#   label of each picture is right, and every other label, of the first picture too, is multiplied by numbers from another
#   place of the constant. So it is with a constant of [1, 4, 6, 1], and with all engines of readNetFromONNX. No message.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  opencv-python-headless==5.0.0.93 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import cv2
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

generator = np.random.default_rng(0)
per_label = generator.standard_normal((4, 6, 1)).astype(np.float32)
ENGINES = {"auto": cv2.dnn.ENGINE_AUTO, "classic": cv2.dnn.ENGINE_CLASSIC, "new": cv2.dnn.ENGINE_NEW}


def model_with(constant, batch):
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "head",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 4, 1, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 4, 1, 1])],
        [numpy_helper.from_array(constant, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


for batch in (1, 2, 3):
    x = generator.standard_normal((batch, 4, 1, 6)).astype(np.float32)
    right = np.matmul(x, per_label)
    repeated = np.repeat(per_label[None], batch, axis=0)
    for title, constant in (("[4, 6, 1]", per_label), ("[1, 4, 6, 1]", per_label[None]), ("repeated", repeated)):
        model = model_with(constant, batch)
        session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
        np.testing.assert_allclose(session.run(None, {"x": x})[0], right, rtol=1e-4, atol=1e-5)
        for engine, number in ENGINES.items():
            net = cv2.dnn.readNetFromONNX(np.frombuffer(model, np.uint8), number)
            net.setInput(x)
            found = net.forward()
            per_label_right = np.isclose(found, right, rtol=1e-4, atol=1e-5).mean((0, 2, 3)).tolist()
            print(f"batch {batch}, constant {title}, engine {engine}: right share of each label {per_label_right}")
            assert per_label_right == ([1, 0, 0, 0] if batch > 1 and title != "repeated" else [1, 1, 1, 1])
PY
