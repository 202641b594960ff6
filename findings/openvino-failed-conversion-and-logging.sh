#!/usr/bin/env bash
# After openvino.convert_model has refused one model, the program logs no warning any more.
#
# Versions: openvino 2026.4.1, onnx 1.23.2, numpy 2.4.6.
# Expected: a function of a library leaves the root logger as it found it, whether it returns or raises.
# Seen: convert_model sets the root logger's level to ERROR and adds a filter to it. Where the conversion succeeds it
#   puts both back; where it raises it does not (openvino/tools/ovc/convert.py restores them after the call, with no
#   `finally`). A program that catches the error and goes on loses its own warnings, and each further failure adds a
#   filter.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  openvino==2026.4.1 onnx==1.23.2 numpy==2.4.6
cd "$work"
CI=true venv/bin/python - <<'PY'
import logging

import numpy as np
import onnx
import openvino
from onnx import TensorProto, helper


def save(operator: str, path: str) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2] if operator == "Det" else [2, 3, 3])
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"])], "graph", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


save("Relu", "relu.onnx")
save("Det", "det.onnx")  # a standard operator that OpenVINO does not have
root = logging.getLogger()
root.setLevel(logging.INFO)
filters = len(root.filters)

openvino.convert_model("relu.onnx")
print("after a conversion:", logging.getLevelName(root.level), len(root.filters) - filters, "filters more")
assert (root.level, len(root.filters)) == (logging.INFO, filters)
for failures in (1, 2):
    try:
        openvino.convert_model("det.onnx")
    except Exception as error:
        print("refused:", " ".join(str(error).split())[:80])
    else:
        raise SystemExit("it converts Det now: take another operator")
    print("after it:", logging.getLevelName(root.level), len(root.filters) - filters, "filters more")
    assert (root.level, len(root.filters)) == (logging.ERROR, filters + failures)
assert not logging.getLogger("service").isEnabledFor(logging.WARNING)
PY
