#!/usr/bin/env bash
# Division of whole numbers in float32 is not exact on OpenVINO's CPU device, so floor(a / b) may be one too small.
#
# Versions: openvino 2026.4.1, onnx 1.23.2, numpy 2.4.6.
# Expected: where b divides a, a / b in float32 is the whole number itself (IEEE 754 rounds a quotient correctly, and
#   numpy and ONNX Runtime do so), so Floor(Div(a, b)) is a // b. Graphs that compute indices, crops or weights of a
#   picture from its height and width rely on it.
# Seen: with tensors on both sides, some exact quotients are just below the whole number, and Floor gives one less. The
#   hint is f32. Taking the nearest whole number r where r * b == a gives every whole quotient.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  openvino==2026.4.1 onnx==1.23.2 numpy==2.4.6
cd "$work"
CI=true venv/bin/python - <<'PY'
import numpy as np
import onnx
import openvino
from onnx import TensorProto, helper


def answer(nodes: list[onnx.NodeProto], a: np.ndarray, b: np.ndarray) -> np.ndarray:
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("a", "b")]
    made = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])]
    graph = helper.make_graph(nodes, "graph", given, made)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    return core.compile_model(core.read_model(model.SerializeToString()), "CPU", settings)([a, b])[0]


quotients, divisors = (part.ravel() for part in np.meshgrid(np.arange(1, 200), np.arange(1, 200)))
a, b = (quotients * divisors).astype(np.float32), divisors.astype(np.float32)
plain = [helper.make_node("Div", ["a", "b"], ["q"]), helper.make_node("Floor", ["q"], ["y"])]
found = answer(plain, a, b)
wrong = np.flatnonzero(found != quotients)
first = wrong[0] if len(wrong) else 0
print(f"floor(a / b) is wrong for {len(wrong)} of {len(a)} pairs, of which b divides a, "
      f"first {a[first]:.0f} / {b[first]:.0f} = {found[first]:.0f}")
mended = [
    plain[0],
    helper.make_node("Round", ["q"], ["r"]),
    helper.make_node("Mul", ["r", "b"], ["p"]),
    helper.make_node("Equal", ["p", "a"], ["whole"]),
    helper.make_node("Where", ["whole", "r", "q"], ["t"]),
    helper.make_node("Floor", ["t"], ["y"]),
]
np.testing.assert_array_equal(answer(mended, a, b), quotients)
assert len(wrong) > 0, "it is right now"
PY
