#!/usr/bin/env bash
# pnnx leaves out the axes of an ONNX reduction where they are an input, and ncnn then reduces nothing.
#
# Versions: pnnx 20261020, ncnn 1.0.20261020, onnx 1.23.2, numpy 2.4.6.
# Expected: ReduceMean takes its axes as an attribute up to opset 17 and as an input from 18 on (ReduceSum from 13 on), and
#   means the same by both; exporters of torch write opset 18 and later.
# Seen: the mean over channels is right from opset 17. From opset 18 pnnx ends with 0, the line in its .param file has an
#   empty list of axes, and ncnn answers with every value as it was. The mean over rows and columns is right from both,
#   because it becomes a pooling.
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

opset, axes = int(sys.argv[1]), [int(axis) for axis in sys.argv[2].split(",")]
given = {"inputs": ["c"], "axes": axes} if opset < 18 else {"inputs": ["c", "axes"]}
nodes = [
    helper.make_node("Conv", ["x", "identity"], ["c"]),  # by which pnnx knows the batch
    helper.make_node("ReduceMean", outputs=["y"], name="mean", keepdims=1, **given),
]
shape = [1 if axis in axes else side for axis, side in enumerate([1, 3, 4, 5])]
graph = helper.make_graph(
    nodes, "graph",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 5])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    [numpy_helper.from_array(np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1), "identity")]
    + ([] if opset < 18 else [numpy_helper.from_array(np.array(axes), "axes")]),
)  # fmt: skip
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
onnx.checker.check_model(model, full_check=True)
onnx.save(model, "model.onnx")
PY
cat > run.py <<'PY'
import sys

import ncnn
import numpy as np

opset, axes = int(sys.argv[1]), tuple(int(axis) for axis in sys.argv[2].split(","))
net = ncnn.Net()
net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
assert (net.load_param("model.ncnn.param"), net.load_model("model.ncnn.bin")) == (0, 0)
x = np.random.default_rng(0).random((1, 3, 4, 5), dtype=np.float32)
extractor = net.create_extractor()
extractor.input("in0", ncnn.Mat(x[0]).clone())
found = np.array(extractor.extract("out0")[1])
expected = x.mean(axes, keepdims=True)[0]
print(f"opset {opset}, mean over {axes}: expected the shape {expected.shape}, found {found.shape}")
if opset < 18 or axes == (2, 3):
    np.testing.assert_allclose(found.ravel(), expected.ravel(), rtol=1e-5)
else:
    np.testing.assert_allclose(found, x[0], rtol=1e-5)
PY
for opset in 17 18; do
  for axes in 2,3 1; do
    venv/bin/python make.py "$opset" "$axes"
    venv/lib/python3*/site-packages/pnnx/pnnx model.onnx 'inputshape=[1,3,4,5]' fp16=0 > log 2>&1
    venv/bin/python run.py "$opset" "$axes"
  done
done
