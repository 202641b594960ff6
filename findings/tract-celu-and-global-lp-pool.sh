#!/usr/bin/env bash
# tract leaves out a factor of ONNX's Celu, and computes GlobalLpPool as a mean of signed powers.
#
# Versions: tract 0.23.9, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6.
# Expected: Celu is max(0, x) + min(0, alpha * (exp(x / alpha) - 1)), and GlobalLpPool pools each map by its Lp norm,
#   (sum of |x|^p)^(1/p) (ONNX Operators.md, Celu, and GlobalLpPool: "p").
# Seen: below 0 Celu is exp(x / alpha) - 1: the alpha within is heeded and the one in front is not, so only alpha 1, the
#   default, is right. GlobalLpPool is (mean of x^p)^(1/p): for p = 2 it is smaller by the root of the map's size, for
#   p = 1 it is the mean with its sign, and for p = 3 it is NaN where the mean is below 0. No message.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  tract==0.23.9 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
import onnx
import onnxruntime as ort
import tract
from onnx import TensorProto, helper

maps = np.random.default_rng(0).standard_normal((1, 3, 4, 5)).astype(np.float32)


def answers(operator, shape, **attributes):
    """What ONNX Runtime and tract answer to the maps."""
    graph = helper.make_graph(
        [helper.make_node(operator, ["x"], ["y"], **attributes)],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "model.onnx")
    session = ort.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    runnable = tract.onnx().load("model.onnx").into_model().into_runnable()
    return session.run(None, {"x": maps})[0], runnable.run([maps])[0].to_numpy()


for alpha in (1.0, 0.5, 2.0):
    right, found = answers("Celu", [1, 3, 4, 5], alpha=alpha)
    print(f"Celu, alpha {alpha}: least answer {right.min():.3f}, tract's {found.min():.3f}")
    below = np.expm1(np.minimum(maps, 0) / alpha)
    np.testing.assert_allclose(right, np.maximum(maps, 0) + alpha * below, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found, np.maximum(maps, 0) + below, rtol=1e-4, atol=1e-5)

for p in (1, 2, 3):
    right, found = answers("GlobalLpPool", [1, 3, 1, 1], p=p)
    print(f"GlobalLpPool, p {p}: {right.ravel().round(3).tolist()}, tract's {found.ravel().round(3).tolist()}")
    norm = (np.abs(maps) ** p).sum((2, 3), keepdims=True) ** (1 / p)
    mean = (maps**p).mean((2, 3), keepdims=True)
    np.testing.assert_allclose(right, norm, rtol=1e-4)
    with np.errstate(invalid="ignore"):  # a root of a negative mean
        np.testing.assert_allclose(found, mean ** np.float32(1 / p), rtol=1e-3)
PY
