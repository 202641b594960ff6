#!/usr/bin/env bash
# cleanlab ranks a label of which a third is wrong as better than one with few errors, where the first is rare.
#
# Versions: cleanlab 2.9.0, scikit-learn 1.9.1, pandas 3.1.1, numpy 2.4.6.
# Expected: rank_classes_by_multilabel_quality gives for each label the share of its own pictures that are wrong: its
#   docstring says that the label noise of class k is the number of examples labeled k with an issue over the number of
#   examples labeled k, that the quality is 1 minus that, and that the worst label comes first.
# Seen: it divides by the number of all pictures. Of 30 pictures of a lynx 10 are wrong and cleanlab doubts 8, and the
#   label gets a quality of 0.99; of 330 of a cat 30 are wrong and 19 are doubted, and that label comes first as the
#   worst, with 0.98. With 9000 more pictures that have none of the labels, all labels are nearly perfect.
#   multilabel_health_summary prints this table. No message.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  cleanlab==2.9.0 scikit-learn==1.9.1 pandas==3.1.1 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
from cleanlab.multilabel_classification.dataset import common_multilabel_issues, rank_classes_by_multilabel_quality

NAMES = ["cat", "lynx", "dog"]


def table(pictures):
    """What cleanlab says of each label, and how many pictures have it."""
    truth = np.zeros((pictures, 3), dtype=int)
    truth[:300, 0] = truth[300:320, 1] = truth[320:600, 2] = 1
    given = truth.copy()
    given[500:530, 0] = given[540:550, 1] = 1  # 30 pictures that are no cat, and 10 that are no lynx
    scores = np.where(truth == 1, 0.9, 0.1) + np.random.default_rng(0).uniform(-0.05, 0.05, truth.shape)
    labels = [np.flatnonzero(row).tolist() for row in given]
    doubts = common_multilabel_issues(labels, scores, class_names=NAMES)
    doubts = doubts[doubts["In Given Label"]].set_index("Class Name")["Num Examples"]
    return rank_classes_by_multilabel_quality(labels, scores, class_names=NAMES), doubts, given.sum(axis=0)


for pictures in (1000, 10000):
    ranked, doubts, counts = table(pictures)
    for row in ranked.to_dict("records"):
        name, noise, score = row["Class Name"], row["Label Noise"], row["Label Quality Score"]
        has, doubted = int(counts[NAMES.index(name)]), int(doubts[name])
        print(f"{pictures} pictures, {name}: {doubted} of {has} in doubt, so a noise of {doubted / has:.3f};", end=" ")
        print(f"said are {noise:.4f} and a quality of {score:.4f}")
        assert abs(noise - doubted / pictures) < 1e-9 and abs(score - 1 + noise) < 1e-9
    shares = {name: doubts[name] / counts[NAMES.index(name)] for name in NAMES}
    assert shares["lynx"] > 2 * shares["cat"] and shares["dog"] == 0
    assert ranked["Class Name"].tolist() == ["cat", "lynx", "dog"], "the worst label is first"
PY
