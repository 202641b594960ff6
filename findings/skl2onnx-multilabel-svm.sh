#!/usr/bin/env bash
# skl2onnx converts a multi-label OneVsRestClassifier of support vector machines into a model that gives other labels.
#
# Versions: skl2onnx 1.20.0, scikit-learn 1.7.2, onnxruntime 1.32.0, numpy 2.4.6.
# Expected: the ONNX model's labels are predict()'s (skl2onnx's documentation, "Supported scikit-learn Models", lists
#   OneVsRestClassifier, LinearSVC and SVC). scikit-learn decides a label of a decision function at 0.
# Seen: the converter compares the raw score with 0.5, a threshold for probabilities. With LinearSVC every label whose
#   score is between 0 and 0.5 is dropped. With SVC(kernel="linear") the score's sign is reversed as well, and nearly
#   every decision is the opposite. No warning; the single-label conversion of both is right.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  skl2onnx==1.20.0 scikit-learn==1.7.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
import onnxruntime as ort
from skl2onnx import to_onnx
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import SVC, LinearSVC

features = np.random.default_rng(0).standard_normal((200, 5)).astype(np.float32)
targets = np.stack([features[:, 0] > 0, features[:, 1] > 0.5, features[:, 2] + features[:, 3] > 1], 1).astype(int)


def converted(estimator):
    document = to_onnx(estimator, features[:1], options={"zipmap": False}).SerializeToString()
    return ort.InferenceSession(document, providers=["CPUExecutionProvider"]).run(None, {"X": features})


linear = OneVsRestClassifier(LinearSVC(random_state=0)).fit(features, targets)
found = converted(linear)[0]
scores = linear.decision_function(features)
print(f"LinearSVC: {(found != linear.predict(features)).mean():.1%} of the decisions differ")
assert ((scores > 0) == linear.predict(features)).all()
assert ((scores > 0.5) == found).all()
assert (found != linear.predict(features)).any()

kernel = OneVsRestClassifier(SVC(kernel="linear")).fit(features, targets)
found = converted(kernel)[0]
print(f"SVC: {(found != kernel.predict(features)).mean():.1%} of the decisions differ")
assert (found != kernel.predict(features)).mean() > 0.9

one = targets[:, 0]
for estimator in (LinearSVC(random_state=0), SVC(kernel="linear")):
    estimator.fit(features, one)
    document = to_onnx(estimator, features[:1]).SerializeToString()
    found = ort.InferenceSession(document, providers=["CPUExecutionProvider"]).run(None, {"X": features})[0]
    print(type(estimator).__name__, "with one label:", (found != estimator.predict(features)).sum(), "differ")
    assert (found == estimator.predict(features)).all()
PY
