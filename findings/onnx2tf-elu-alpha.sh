#!/usr/bin/env bash
# onnx2tf drops the alpha of an ONNX Elu, and the LiteRT model answers as if it were 1.
#
# Versions: onnx2tf 2.6.9 (its default backend, which writes the file without TensorFlow), ai-edge-litert 2.3.0,
#   onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6.
# Expected: Elu with alpha is alpha * (exp(x) - 1) below 0. LiteRT's ELU has no alpha, so a converter multiplies the
#   negative part, as onnx2tf does for LeakyRelu and Celu, or refuses the operator, as it does for others.
# Seen: the conversion ends with 0 and no warning; below 0 the model gives exp(x) - 1 for every alpha.
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
cat > elu.py <<'PY'
import sys

import onnx
from onnx import TensorProto, helper

node = helper.make_node("Elu", ["x"], ["y"], "elu", alpha=float(sys.argv[1]))
shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
graph = helper.make_graph([node], "graph", shapes[:1], shapes[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.checker.check_model(model, full_check=True)
onnx.save(model, "model.onnx")
PY
cat > run.py <<'PY'
import sys

import numpy as np
import onnxruntime
from ai_edge_litert.interpreter import Interpreter

alpha, x = float(sys.argv[1]), np.array([[-2, -1, 0, 1]], np.float32)
lite = Interpreter("model_float32.tflite")
lite.allocate_tensors()
lite.set_tensor(lite.get_input_details()[0]["index"], x)
lite.invoke()
found = lite.get_tensor(lite.get_output_details()[0]["index"])
expected = onnxruntime.InferenceSession("model.onnx").run(None, {"x": x})[0]
print(f"alpha {alpha}: expected {expected[0].round(3).tolist()}, found {found[0].round(3).tolist()}")
np.testing.assert_allclose(expected, np.where(x > 0, x, alpha * np.expm1(x)), rtol=1e-5)
np.testing.assert_allclose(found, np.where(x > 0, x, np.expm1(x)), rtol=1e-5)
PY
for alpha in 1 2 0.5; do
  venv/bin/python elu.py "$alpha"
  venv/bin/python -m onnx2tf -i model.onnx -o . --not_use_onnxsim > log 2>&1
  venv/bin/python run.py "$alpha" 2> /dev/null
done
