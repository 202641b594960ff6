#!/usr/bin/env bash
# OpenVINO's Tile answers with what lay in memory where it repeats channels, rows and columns of several pictures.
#
# Versions: openvino 2026.4.1, onnx 1.23.2, numpy 2.4.6.
# Expected: Tile with repeats [1, r, s, t] is numpy.tile for any batch, whether the repeats are a constant or an input.
# Seen: right with constant repeats, and for a batch of one. With repeats that are computed at run time, all three above 1,
#   and a batch of two or more, hardly a number of the output is right: most were never written. No message.
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
from onnx import TensorProto, helper, numpy_helper

REPEATS = np.array([1, 2, 2, 2])


def right(batch: int, constant: bool) -> float:
    """The share of the output that is as numpy has it."""
    x = np.random.default_rng(batch).random((batch, 3, 4, 5), dtype=np.float32) + 1
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 4, 5])]
    if not constant:
        inputs.append(helper.make_tensor_value_info("repeats", TensorProto.INT64, [4]))
    graph = helper.make_graph(
        [helper.make_node("Tile", ["x", "repeats"], ["y"])], "graph", inputs,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "c", "h", "w"])],
        [numpy_helper.from_array(REPEATS, "repeats")] if constant else [],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model)
    core, settings = openvino.Core(), {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", settings)
    found = compiled([x] if constant else [x, REPEATS])[0]
    return float((found == np.tile(x, REPEATS)).mean())


for batch in (1, 2, 4):
    shares = {kind: right(batch, kind == "constant") for kind in ("constant", "computed")}
    print(f"batch {batch}: right share of the output {shares}")
    assert shares["constant"] == 1
    assert shares["computed"] == 1 if batch == 1 else shares["computed"] < 0.9
PY
