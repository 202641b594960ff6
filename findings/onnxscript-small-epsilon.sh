#!/usr/bin/env bash
# onnxscript's optimizer takes a constant of up to 1e-8 for 0 and drops the addition, and a guarded division is 0 / 0.
#
# Versions: onnxscript 0.7.2, onnx-ir 1.1.0, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6.
# Expected: only what adds exactly 0 is left out. 1e-8 (and 1e-12) is a usual guard: x / (sum(x) + 1e-8), log(x + 1e-8).
# Seen: with 1e-8 or less the Add is gone, so a row of zeros gives NaN instead of 0, and the logarithm -inf; with
#   1.1e-8 it stays. A Sub is dropped alike. Rows that are not all zeros are as before, so a test with random numbers
#   does not notice it. torch.onnx.export(dynamo=True) calls this optimizer unless it is given optimize=False (here it
#   is called alone). No message.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  onnxscript==0.7.2 onnx-ir==1.1.0 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
import onnx
import onnxruntime as ort
from onnxscript import optimizer

scores = np.array([[0, 0, 0], [1, 2, 5]], dtype=np.float32)


def answer(model):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": scores})[0]


def both(constant, steps):
    """The answers before and after the optimizer, and the operators that it leaves."""
    text = f"""<ir_version: 8, opset_import: ["" : 18]>
    graph (float[batch, 3] x) => (float[batch, 3] y) {{ e = Constant <value_float = {constant}> () {steps} }}"""
    model = onnx.parser.parse_model(text)
    onnx.checker.check_model(model)
    smaller = optimizer.optimize(model)
    return answer(model), answer(smaller), [node.op_type for node in smaller.graph.node]


share = "a = Constant <value_ints = [1]> () s = ReduceSum (x, a) t = Add (s, e) y = Div (x, t)"
log, root = "t = Add (x, e) y = Log (t)", "t = Sub (x, e) y = Sqrt (t)"
for steps, wrong in ((share, np.isnan), (log, np.isneginf), (root, None)):
    for constant in (1.1e-8, 1e-8, 1e-12):
        before, after, left = both(constant, steps)
        print(f"{constant}: first row {before[0, 0]:.4g}, optimized {after[0, 0]:.4g}: {left}")
        np.testing.assert_allclose(before[1], after[1], rtol=1e-6)
        if constant > 1e-8:
            np.testing.assert_array_equal(before, after)
        elif wrong is None:  # the square root of a number below 0
            assert np.isnan(before[0]).all() and (after[0] == 0).all()
        else:
            assert np.isfinite(before[0]).all() and wrong(after[0]).all()
            assert not {"Add", "Sub"} & set(left)
PY
