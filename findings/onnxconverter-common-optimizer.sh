#!/usr/bin/env bash
# onnxconverter-common's optimizer drops a Transpose without "perm", and makes zeros of any Pad before a convolution.
#
# Versions: onnxconverter-common 1.16.0, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6.
# Expected: an optimized model answers as before. A Transpose reverses the dimensions where "perm" is not given; a Pad
#   repeats, mirrors or sets pixels according to its "mode" and its value (ONNX Operators.md, Transpose and Pad).
# Seen: optimize_onnx_model takes a Transpose without "perm" for one that does nothing. Scores of as many pictures as
#   labels, by features times transposed texts, are then those of the untransposed matrix. A Pad between other operators
#   and a Conv becomes the "pads" of the Conv, which are zeros, whatever its mode and value are: blurred pooling, which
#   mirrors the border, is another filter there. Conv's own auto_pad is lost too. No message.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  onnxconverter-common==1.16.0 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$work"
ORT_DISABLE_TELEMETRY=1 venv/bin/python - <<'PY'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxconverter_common.optimizer import optimize_onnx_model

random = np.random.default_rng(0)


def answers(nodes, x, constants, shape):
    """What the model answers as it is, and optimized; and the operators that are left."""
    nodes = [helper.make_node(kind, inputs, [output], name=output, **more) for kind, inputs, output, more in nodes]
    held = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    tensors = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", x.shape), ("y", shape))]
    graph = helper.make_graph(nodes, "graph", tensors[:1], tensors[1:], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    found, copy = [], onnx.ModelProto.FromString(model.SerializeToString())  # the optimizer changes what it is given
    for proto in (model, optimize_onnx_model(copy)):
        onnx.checker.check_model(proto, full_check=True)
        session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        found.append(session.run(None, {"x": x})[0])
    return *found, [node.op_type for node in proto.graph.node]


texts, pictures = random.random((2, 4, 4)).astype(np.float32)
for perm in ({}, {"perm": [1, 0]}):
    nodes = [("Abs", ["x"], "a", {}), ("Transpose", ["a"], "t", perm), ("MatMul", ["p", "t"], "y", {})]
    before, after, left = answers(nodes, texts, {"p": pictures}, [4, 4])
    print(f"Transpose {perm}: {before[0].round(2)}, then {after[0].round(2)}; left: {left}")
    np.testing.assert_allclose(before, pictures @ texts.T, rtol=1e-5)
    np.testing.assert_allclose(after, pictures @ (texts.T if perm else texts), rtol=1e-5)

maps, kernel = random.random((1, 1, 4, 4)).astype(np.float32), np.full((1, 1, 3, 3), 1 / 9, np.float32)
for mode, value in (("constant", 0), ("constant", 1), ("reflect", 0), ("edge", 0)):
    constants = {"sides": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "value": np.float32(value), "k": kernel}
    names = ["s", "sides", "value"]
    nodes = [("Abs", ["x"], "a", {}), ("Sqrt", ["a"], "s", {}), ("Pad", names, "p", {"mode": mode})]
    nodes += [("Conv", ["p", "k"], "c", {}), ("Relu", ["c"], "r", {}), ("Abs", ["r"], "y", {})]
    before, after, left = answers(nodes, maps, constants, [1, 1, 4, 4])
    print(f"Pad, {mode} {value}: corner {before[0, 0, 0, 0]:.3f}, then {after[0, 0, 0, 0]:.3f}; left: {left}")
    padded, zeros = (np.pad(np.sqrt(maps[0, 0]), 1, m, **k) for m, k in ((mode, {}), ("constant", {})))
    padded = padded if mode != "constant" else np.pad(np.sqrt(maps[0, 0]), 1, constant_values=value)
    assert abs(before[0, 0, 0, 0] - padded[:3, :3].mean()) < 1e-5
    assert abs(after[0, 0, 0, 0] - zeros[:3, :3].mean()) < 1e-5 and "Pad" not in left
PY
