#!/usr/bin/env bash
# onnx-graphsurgeon rounds a factor of 0.5 to 0 where whole numbers are multiplied by it.
#
# Versions: onnx-graphsurgeon 0.6.1, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6.
# Expected: fold_constants() keeps what a model computes: half of 64, as Cast to float, Mul by 0.5, Cast to int64, is 32.
# Seen: it takes both Casts out, whatever lies between them, and makes the constant a whole number: the product is 0, and
#   with 1.5 it is the number itself. Sizes, positions and lengths are computed like this, int(h * 0.5). The numbers need
#   not come from a shape: here they are the model's input. No message. With fold_shapes=False, or with a Floor before the
#   last Cast, the answer is right.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  onnx-graphsurgeon==0.6.1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$work"
ORT_DISABLE_TELEMETRY=1 venv/bin/python - <<'PY'
import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

x = np.int64([1, 3, 64])


def model(operator, constant, *last):
    nodes = [
        helper.make_node("Cast", ["x"], ["value"], to=TensorProto.FLOAT),
        helper.make_node(operator, ["value", "constant"], ["result"]),
        *(helper.make_node(name, ["result"], ["rounded"]) for name in last),
        helper.make_node("Cast", ["rounded" if last else "result"], ["y"], to=TensorProto.INT64),
    ]
    given = helper.make_tensor_value_info("x", TensorProto.INT64, ["count"])
    found = helper.make_tensor_value_info("y", TensorProto.INT64, ["count"])
    constants = [numpy_helper.from_array(np.float32(constant), "constant")]
    graph = helper.make_graph(nodes, "graph", [given], [found], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(made, full_check=True)
    return made


def answer(made):
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0].tolist()


def folded(made, **options):
    return answer(gs.export_onnx(gs.import_onnx(made).fold_constants(**options).cleanup()))


for case, right, wrong in (
    (("Mul", 0.5), [0, 1, 32], [0, 0, 0]),
    (("Mul", 1.5), [1, 4, 96], [1, 3, 64]),
    (("Mul", 2.0), [2, 6, 128], [2, 6, 128]),
    (("Mul", 0.5, "Floor"), [0, 1, 32], [0, 1, 32]),
    (("Sub", 0.5, "Ceil"), [1, 3, 64], [1, 3, 64]),
    (("Sub", 0.5), [0, 2, 63], [1, 3, 64]),
):
    made = model(*case)
    before, after, kept = answer(made), folded(made), folded(made, fold_shapes=False)
    print(f"{x.tolist()} {' '.join(map(str, case))}: {before}, folded {after}, folded without shapes {kept}")
    assert before == kept == right and after == wrong
PY
