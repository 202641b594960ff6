#!/usr/bin/env bash
# ONNX's shape inference counts a window of a pooling that the operator drops, and ONNX Runtime believes it.
#
# Versions: onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6.
# Expected: Shape of a tensor is the shape of that tensor. A pooling with a kernel of 2, a stride of 2, a padding of 1 and
#   ceil_mode=1 turns 5x5 into 3x3, because a window that would start in the padding at the end is dropped; PyTorch does
#   the same. So a sum of ones over the places, divided by their number, which the graph takes from Shape, is 1.
# Seen: infer_shapes says 4x4. ONNX Runtime computes 3x3 and, with graph optimisations, which are its default, folds Shape
#   to 4x4 from that inference, so that the mean is 9/16. Without optimisations it is 1. There is no error. A warning in
#   the log that another shape was expected appears because the pooling is an output here, and not otherwise.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$work"
CI=true venv/bin/python - <<'PY'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

for op in ("MaxPool", "AveragePool"):
    nodes = [
        helper.make_node(op, ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2], pads=[1] * 4, ceil_mode=1),
        helper.make_node("ReduceSum", ["y"], ["sum"], keepdims=0),
        helper.make_node("Shape", ["y"], ["shape"]),
        helper.make_node("ReduceProd", ["shape"], ["places"], keepdims=0),
        helper.make_node("Cast", ["places"], ["count"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["sum", "count"], ["mean"]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 5, 5])]
    outputs = [
        helper.make_tensor_value_info("mean", TensorProto.FLOAT, []),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, "height", "width"]),
    ]
    graph = helper.make_graph(nodes, "graph", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model)
    inferred = [dim.dim_value for dim in onnx.shape_inference.infer_shapes(model).graph.output[1].type.tensor_type.shape.dim]
    means = {}
    for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL"):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        mean, pooled = session.run(None, {"x": np.ones((1, 1, 5, 5), np.float32)})
        means[level] = float(mean)
        assert pooled.shape == (1, 1, 3, 3)
    print(f"{op}: inferred {inferred}, computed {list(pooled.shape)}, mean of ones {means}")
    assert inferred == [1, 1, 4, 4]
    assert means == {"ORT_DISABLE_ALL": 1.0, "ORT_ENABLE_ALL": 9 / 16}
PY
