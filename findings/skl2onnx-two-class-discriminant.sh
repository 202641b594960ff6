#!/usr/bin/env bash
# skl2onnx doubles the log-odds of a linear discriminant analysis of two classes, so every probability is too sure.
#
# Versions: skl2onnx 1.20.0, scikit-learn 1.9.1, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6.
# Expected: the graph's probabilities are predict_proba's, as they are for LogisticRegression and for three classes. A
#   classifier for each label, on embeddings, has two classes.
# Seen: a probability of 0.6 becomes 0.69, and 0.9 becomes 0.99: the score and its negative go through a softmax, which
#   gives sigmoid(2 * score). Decisions at 0.5 do not change, so a check of the labels does not notice it, but every
#   other threshold decides otherwise. Reported as onnx/sklearn-onnx#1116, which is closed. No message.
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
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

generator = np.random.default_rng(0)
known, new = generator.standard_normal((300, 6)), generator.standard_normal((1000, 6))
scores = known @ generator.standard_normal((6, 3)) + generator.standard_normal((300, 3))


def both(made):
    """The probabilities of a classifier and of its graph."""
    graph = to_onnx(made, known[:1], options={id(made): {"zipmap": False}}, target_opset=18)
    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return made.predict_proba(new), session.run(None, {"X": new})[1]


for name, made, truth in (
    ("three classes", LinearDiscriminantAnalysis(), scores.argmax(axis=1)),
    ("logistic regression of each label", OneVsRestClassifier(LogisticRegression()), (scores > 0.7).astype(int)),
    ("discriminant of each label", OneVsRestClassifier(LinearDiscriminantAnalysis()), (scores > 0.7).astype(int)),
):
    right, found = both(made.fit(known, truth))
    others = float(((right > 0.3) != (found > 0.3)).mean())
    print(f"{name}: differ by {np.abs(found - right).max():.3f}, {others:.3f} of the decisions at 0.3")
    if name.startswith("discriminant"):
        inside = np.clip(right, 1e-12, 1 - 1e-12)
        doubled = inside**2 / (inside**2 + (1 - inside) ** 2)  # sigmoid(2 * log-odds)
        np.testing.assert_allclose(found, doubled, atol=1e-5)
        assert np.array_equal(found > 0.5, right > 0.5) and others > 0.03
    else:
        np.testing.assert_allclose(found, right, atol=1e-5)
PY
