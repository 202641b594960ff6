#!/usr/bin/env bash
# onnx2tf turns a nearest Resize with ONNX's defaults into one that takes other pixels, and drops antialias.
#
# Versions: onnx2tf 2.6.9 (its default backend, which writes the file without TensorFlow), ai-edge-litert 2.3.0,
#   onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6.
# Expected: by default (half_pixel, round_prefer_floor) a row of 8 that shrinks to 4 gives the pixels 0, 2, 4, 6, because
#   0.5 is rounded down; antialias=1 widens the filter. A converter rewrites what LiteRT's kernels do not have, or refuses.
# Seen: the conversion ends with 0 and no warning. LiteRT rounds 0.5 up and gives 1, 3, 5, 7, and the picture with
#   antialias is the one without. A linear Resize without it is right.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
pip=(python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check)
"${pip[@]}" ai-edge-litert==2.3.0 litert-quantizer==0.11.0 sng4onnx==2.0.1 psutil==7.2.2 tqdm==4.70.1 onnx==1.23.2 \
  onnxruntime==1.32.0 numpy==2.4.6
# Its metadata asks for a newer Python and for packages that this backend does not import.
"${pip[@]}" --no-deps --ignore-requires-python onnx2tf==2.6.9
cd "$work"
cat > resize.py <<'PY'
import json
import sys

import numpy as np
import onnx
import onnxruntime
from ai_edge_litert.interpreter import Interpreter
from onnx import TensorProto, helper, numpy_helper

step, options = sys.argv[1], json.loads(sys.argv[2])
x = np.arange(8, dtype=np.float32).reshape(1, 1, 8, 1)
if step == "make":
    nodes = [
        helper.make_node("Transpose", ["x"], ["planes"], "in", perm=[0, 3, 1, 2]),
        helper.make_node("Resize", ["planes", "", "", "sizes"], ["small"], "resize", **options),
        helper.make_node("Transpose", ["small"], ["y"], "out", perm=[0, 2, 3, 1]),
    ]
    shapes = [helper.make_tensor_value_info(*named, shape) for named, shape in (
        (("x", TensorProto.FLOAT), [1, 1, 8, 1]), (("y", TensorProto.FLOAT), [1, 1, 4, 1])
    )]  # fmt: skip
    sizes = numpy_helper.from_array(np.array([1, 1, 1, 4]), "sizes")
    graph = helper.make_graph(nodes, "graph", shapes[:1], shapes[1:], [sizes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "model.onnx")
else:
    lite = Interpreter("model_float32.tflite")
    lite.allocate_tensors()
    lite.set_tensor(lite.get_input_details()[0]["index"], x)
    lite.invoke()
    found = lite.get_tensor(lite.get_output_details()[0]["index"]).ravel().round(2).tolist()
    expected = onnxruntime.InferenceSession("model.onnx").run(None, {"x": x})[0].ravel().round(2).tolist()
    print(f"{options}: expected {expected}, found {found}")
    sys.exit((expected == found) != (step == "right"))
PY
while read -r seen options; do
  venv/bin/python resize.py make "$options"
  venv/bin/python -m onnx2tf -i model.onnx -o . --not_use_onnxsim --keep_nwc_or_nhwc_or_ndhwc_input_names x > log 2>&1
  venv/bin/python resize.py "$seen" "$options" 2> /dev/null
done <<'CASES'
right {"mode": "linear"}
wrong {"mode": "nearest"}
wrong {"mode": "linear", "antialias": 1}
CASES
