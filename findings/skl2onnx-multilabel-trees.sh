#!/usr/bin/env bash
# skl2onnx converts a multi-label decision tree whose ONNX probabilities are not scikit-learn's, and do not sum to 1.
#
# Versions: skl2onnx 1.20.0, scikit-learn 1.7.2, onnxruntime 1.32.0, numpy 2.4.6.
# Expected: output 1 of the ONNX model is predict_proba (skl2onnx's documentation, "Supported scikit-learn Models",
#   lists DecisionTreeClassifier). A label that is in every training picture has a probability of 1.
# Seen: in a leaf that is not pure, (0.87, 0.13) comes out as (1, 1): every class that is there at all gets 1, so a
#   threshold or a ranking by these scores (average precision) is meaningless, while the labels are right and hide it.
#   In a RandomForestClassifier a label that every training picture has gets (1, 0), "absent for sure", where
#   scikit-learn answers one column of 1 for the class 1.
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
from sklearn.ensemble import RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

features = np.random.default_rng(0).standard_normal((200, 5)).astype(np.float32)
targets = np.stack([features[:, 0] > 0, features[:, 1] > 0.5, features[:, 2] + features[:, 3] > 1], 1).astype(int)


def converted(estimator):
    document = to_onnx(estimator, features[:1], options={"zipmap": False}).SerializeToString()
    return ort.InferenceSession(document, providers=["CPUExecutionProvider"]).run(None, {"X": features})


tree = DecisionTreeClassifier(max_depth=3, random_state=0).fit(features, targets)
labels, probabilities = converted(tree)
right = np.stack(tree.predict_proba(features))
worst = np.abs(probabilities - right).max(axis=(1, 2))
print("decision tree: labels equal:", (labels == tree.predict(features)).all(), "largest difference per label:", worst)
print("third label, first pictures:", right[2, :2].round(2).tolist(), "as ONNX:", probabilities[2, :2].tolist())
assert (labels == tree.predict(features)).all()
assert worst[2] > 0.9 and (probabilities[2].sum(1) > 1.5).any()
np.testing.assert_array_equal(probabilities, right > 0)

targets[:, 1] = 1
forest = RandomForestClassifier(5, random_state=0).fit(features, targets)
labels, probabilities = converted(forest)
print("forest, label in every picture:", forest.predict_proba(features)[1][0], "as ONNX:", probabilities[1][0])
assert (labels == forest.predict(features)).all() and forest.classes_[1].tolist() == [1]
assert (probabilities[1] == [1, 0]).all()
PY
