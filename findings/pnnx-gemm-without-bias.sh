#!/usr/bin/env bash
# pnnx turns the product of a vector with a matrix into a table where the Gemm has neither a bias nor transB.
#
# Versions: pnnx 20261020, ncnn 1.0.20261020, onnx 1.23.2, numpy 2.4.6.
# Expected: Gemm of [1, 4] and [4, 6] gives [1, 6], with a bias or without, and with the matrix stored either way.
# Seen: with a bias or with transB=1 pnnx writes an InnerProduct, which is right. With neither it writes a Gemm of ncnn, which
#   takes the vector, whose batch pnnx has dropped, as 4 rows, and answers [4, 6]. pnnx ends with 0.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
pip=(python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check)
"${pip[@]}" ncnn==1.0.20261020 onnx==1.23.2 numpy==2.4.6
"${pip[@]}" --no-deps pnnx==20261020 # it asks for torch, which its program does not need
cd "$work"
cat > make.py <<'PY'
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

bias, transposed, matrix = "bias" in sys.argv, "transB" in sys.argv, np.arange(24, dtype=np.float32).reshape(4, 6)
constants = {
    "identity": np.eye(4, dtype=np.float32).reshape(4, 4, 1, 1),
    "matrix": matrix.T.copy() if transposed else matrix,
    "zeros": np.zeros(6, np.float32),
}
reads = ["vector", "matrix", *(["zeros"] if bias else [])]
nodes = [
    helper.make_node("Conv", ["x", "identity"], ["c"]),
    helper.make_node("GlobalAveragePool", ["c"], ["pooled"]),
    helper.make_node("Flatten", ["pooled"], ["vector"]),
    helper.make_node("Gemm", reads, ["y"], transB=int(transposed)),
]
graph = helper.make_graph(
    nodes, "graph",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 5, 5])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 6])],
    [numpy_helper.from_array(value, name) for name, value in constants.items() if bias or name != "zeros"],
)  # fmt: skip
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.checker.check_model(model, full_check=True)
onnx.save(model, "model.onnx")
PY
cat > run.py <<'PY'
import sys

import ncnn
import numpy as np

net = ncnn.Net()
net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
assert (net.load_param("model.ncnn.param"), net.load_model("model.ncnn.bin")) == (0, 0)
x = np.random.default_rng(0).random((4, 5, 5), dtype=np.float32)
extractor = net.create_extractor()
extractor.input("in0", ncnn.Mat(x).clone())
found = np.array(extractor.extract("out0")[1])
expected = x.mean((1, 2)) @ np.arange(24, dtype=np.float32).reshape(4, 6)
print(f"{' and '.join(sys.argv[1:]) or 'neither'}: expected 6 values, found the shape {found.shape}")
if sys.argv[1:]:
    np.testing.assert_allclose(found, expected, rtol=1e-4)
else:
    assert found.shape == (4, 6)
PY
for given in "bias transB" bias transB ""; do
  venv/bin/python make.py $given
  venv/lib/python3*/site-packages/pnnx/pnnx model.onnx 'inputshape=[1,4,5,5]' fp16=0 > log 2>&1
  venv/bin/python run.py $given
done
