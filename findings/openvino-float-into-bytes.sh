#!/usr/bin/env bash
# OpenVINO takes normalised floats for a model that expects bytes, truncates them without a word, and answers for a
#   black picture.
#
# Versions: openvino 2026.4.1, numpy 2.4.6.
# Expected: an input of another type is refused, as an input of another shape is, and as ONNX Runtime does ("Unexpected
#   input data type"). OpenVINO's C++ API refuses it: InferRequest::set_tensor throws where the tensor's type is not the
#   model's.
# Seen: the Python API converts any numpy array to the input's type as astype does. Pixels scaled to 0..1, the most
#   frequent mistake with a model that normalises by itself, become 0 (all but the exact 1), 254.9 becomes 254, the
#   integers 256 and -1 wrap to 0 and 255. It holds for CompiledModel.__call__ and InferRequest.infer, in float and
#   integer types alike. A Tensor object is checked.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  openvino==2026.4.1 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
import openvino
from openvino import opset13 as ops

pixels = ops.parameter([-1, 4], np.uint8, name="pixels")
model = openvino.Model([ops.convert(pixels, "f32")], [pixels], "bytes_in")
compiled = openvino.compile_model(model, "CPU")
request = compiled.create_infer_request()

for dtype, given, seen in (
    (np.float32, [0.1, 0.5, 0.99, 1.0], [0, 0, 0, 1]),
    (np.float64, [254.9, 2.5, 127.9, 0.0], [254, 2, 127, 0]),
    (np.int64, [1, 255, 256, -1], [1, 255, 0, 255]),
):
    array = np.array([given], dtype)
    called, inferred = compiled([array])[0], request.infer([array])[0]
    print(f"{np.dtype(dtype).name} {given} is taken for {called[0].tolist()}")
    assert called[0].tolist() == inferred[0].tolist() == seen

try:
    request.set_input_tensor(openvino.Tensor(np.array([[0.1, 0.5, 0.99, 1.0]], np.float32)))
except RuntimeError as error:
    print("as a Tensor:", str(error).strip().splitlines()[-1][:100])
else:
    raise SystemExit("a Tensor of another type is taken too")
try:
    compiled([np.zeros((1, 5), np.uint8)])
except RuntimeError as error:
    print("another shape:", str(error).strip().splitlines()[-1][:100])
else:
    raise SystemExit("another shape is taken too")
PY
