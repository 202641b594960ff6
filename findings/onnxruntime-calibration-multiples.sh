#!/usr/bin/env bash
# ONNX Runtime's calibration fails or not depending on whether the number of pictures divides by a memory limit.
#
# Versions: onnxruntime 1.32.0, onnx 1.23.2, numpy 2.4.6.
# Expected: CalibMaxIntermediateOutputs bounds how many pictures' outputs are held at a time, for any number of
#   pictures: it "will produce the same result as all computing with None, but is more memory efficient" (docstring of
#   StaticQuantConfig).
# Seen: with a limit of 4, calibration on 3, 5, 6 or 7 pictures works, and on 4 or 8 it raises ValueError "No data is
#   collected.": all ranges have been merged after the last picture, the list of what is pending is empty, and that is
#   taken for a data set without a picture. Round numbers of pictures with round limits (256 pictures, limit 32) are
#   what people choose.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import logging

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, quantize_static

logging.disable(logging.WARNING)
generator = np.random.default_rng(0)
weights = generator.standard_normal((8, 3, 3, 3)).astype(np.float32)
graph = helper.make_graph(
    [helper.make_node("Conv", ["x", "w"], ["y"])],
    "convolution",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8, 6, 6])],
    [numpy_helper.from_array(weights, "w")],
)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "float.onnx")


class Pictures(CalibrationDataReader):
    def __init__(self, count):
        self.pictures = iter([generator.standard_normal((1, 3, 8, 8)).astype(np.float32) for _ in range(count)])

    def get_next(self):
        picture = next(self.pictures, None)
        return None if picture is None else {"x": picture}


failed = []
for count in range(3, 10):
    try:
        quantize_static(
            "float.onnx", "int8.onnx", Pictures(count), extra_options={"CalibMaxIntermediateOutputs": 4}
        )
    except ValueError as error:
        failed.append(count)
        print(f"{count} pictures: {error}")
        assert "No data is collected" in str(error)
    else:
        print(f"{count} pictures: quantised")
assert failed == [4, 8]
PY
