#!/usr/bin/env bash
# ONNX Runtime quantises a convolution that was left in float, and answers wrongly where its weights are skewed.
#
# Versions: onnxruntime 1.32.0, onnx 1.23.2, numpy 2.4.6.
# Expected: a Conv with float weights between DequantizeLinear and QuantizeLinear runs in float. quantize_static leaves
#   such nodes where nodes_to_exclude names a layer that loses too much ("will be excluded from quantization", its
#   docstring).
# Seen: from ORT_ENABLE_BASIC on, so by default, its weights become INT8 of one scale. With weights of a normal
#   distribution that costs noise (33 dB). With one weight of 1000, as in a layer that is worth excluding, the other
#   channels' weights have no level left (1 dB): other answers altogether. Nothing is logged.
#   ORT_DISABLE_ALL or disabled_optimizers=["WeightBiasQuantization"] answers what the graph says.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

picture = np.clip(np.random.default_rng(1).standard_normal((2, 4, 8, 8)), -3, 3).astype(np.float32)
constants = {"s": np.float32(6 / 255), "t": np.float32(0.5), "z": np.uint8(128)}
nodes = [
    helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
    helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
    helper.make_node("Conv", ["d", "w"], ["c"]),
    helper.make_node("QuantizeLinear", ["c", "t", "z"], ["r"]),
    helper.make_node("DequantizeLinear", ["r", "t", "z"], ["y"]),
]


def answer(weights, level, disabled=None):
    graph = helper.make_graph(
        nodes,
        "float_between",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8, 6, 6])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in {**constants, "w": weights}.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"], disabled_optimizers=disabled
    )
    return session.run(None, {"x": picture})[0]


def decibels(right, got):  # over all channels but the first, which has the one large weight
    return 10 * np.log10(np.square(right[:, 1:]).sum() / np.square(right - got)[:, 1:].sum())


levels = ort.GraphOptimizationLevel
normal = np.random.default_rng(0).standard_normal((8, 4, 3, 3)).astype(np.float32)
skewed = normal.copy()
skewed[0, 0, 0, 0] = 1000
for title, weights in (("normal", normal), ("skewed", skewed)):
    right = answer(weights, levels.ORT_DISABLE_ALL)
    for level in (levels.ORT_ENABLE_BASIC, levels.ORT_ENABLE_EXTENDED, levels.ORT_ENABLE_ALL):
        got = answer(weights, level)
        apart = answer(weights, level, disabled=["WeightBiasQuantization"])
        print(f"{title}, {level.name}: {decibels(right, got):.1f} dB; pass disabled: largest difference "
              f"{np.abs(right - apart).max()} (one step is 0.5)")
        assert np.abs(right - apart).max() <= 0.5 and (right != got).any()
        assert (decibels(right, got) < 10) == (title == "skewed")
PY
