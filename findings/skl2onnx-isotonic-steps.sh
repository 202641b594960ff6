#!/usr/bin/env bash
# skl2onnx makes a staircase of an isotonic calibration, so probabilities and decisions on the device are others.
#
# Versions: skl2onnx 1.20.0, scikit-learn 1.9.1, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6.
# Expected: between two points of the calibration the probability is interpolated, as CalibratedClassifierCV and
#   IsotonicRegression do it, for one label and for each of several.
# Seen: the graph takes the probability of the nearest point. Of 1000 pictures the probabilities differ by up to 0.09;
#   they have 34 to 61 different values for a label instead of 222 to 341, and a threshold between two of them decides
#   otherwise. It is so in float64 too. method="sigmoid" is right. Reported as onnx/sklearn-onnx#200 (open since 2019)
#   and #1151 (closed). No message.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  skl2onnx==1.20.0 scikit-learn==1.9.1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$work"
venv/bin/python - 2>/dev/null <<'PY'
import numpy as np
import onnxruntime as ort
from skl2onnx import to_onnx
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

generator = np.random.default_rng(0)
LABELS = 3
known = generator.standard_normal((300, 6))
truth = (known @ generator.standard_normal((6, LABELS)) + generator.standard_normal((300, LABELS)) > 0.7).astype(int)
new = generator.standard_normal((1000, 6))
for method in ("sigmoid", "isotonic"):
    made = OneVsRestClassifier(CalibratedClassifierCV(LogisticRegression(), method=method)).fit(known, truth)
    graph = to_onnx(made, known[:1], options={id(made): {"zipmap": False}}, target_opset=18)
    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    found, right = session.run(None, {"X": new})[1], made.predict_proba(new)
    apart = float(np.abs(found - right).max())
    others = float(((found > 0.3) != (right > 0.3)).mean())
    different = [[len(np.unique(table[:, label].round(6))) for label in range(LABELS)] for table in (right, found)]
    print(f"{method}: probabilities differ by {apart:.6f}, {others:.4f} of the decisions at 0.3", end="; ")
    print(f"different values {different[0]}, in ONNX {different[1]}")
    if method == "sigmoid":
        assert apart < 1e-5 and others == 0
    else:
        assert apart > 0.05 and others > 0.001 and max(different[1]) < 150 < min(different[0])
PY
