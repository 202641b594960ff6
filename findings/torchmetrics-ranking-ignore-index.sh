#!/usr/bin/env bash
# torchmetrics' multi-label ranking metrics count the labels that ignore_index leaves out.
#
# Versions: torchmetrics 1.9.0, torch 2.14.1 (its build for CUDA, run on a CPU), numpy 2.4.6.
# Expected: ignore_index "is ignored and does not contribute to the metric calculation" (docstrings of
#   multilabel_coverage_error, multilabel_ranking_loss). A label that nobody looked at in any picture is then the same
#   as a label that is not there.
# Seen: the coverage error is the number of labels whatever the scores are, as soon as each picture has an ignored one:
#   its score is made the lowest, and it is then taken for a label that must be found. The ranking loss takes it for one
#   that is not there and is last, so it divides by pairs that it should leave out, and the loss is too good. The
#   ranking average precision, and the exact match, are as without the label. No message.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  torchmetrics==1.9.0 torch==2.14.1 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import torch
from torchmetrics.functional import classification as metrics

LABELS, UNKNOWN = 4, -1
generator = torch.Generator().manual_seed(0)
scores = torch.rand(6, LABELS, generator=generator)
truth = torch.randint(0, 2, (6, LABELS), generator=generator)
RIGHT = {"multilabel_ranking_average_precision", "multilabel_exact_match"}

for name in ("multilabel_coverage_error", "multilabel_ranking_loss", *sorted(RIGHT)):
    metric = getattr(metrics, name)
    for label in range(LABELS):
        partly = truth.clone()
        partly[:, label] = UNKNOWN
        others = [one for one in range(LABELS) if one != label]
        ignored = float(metric(scores, partly, LABELS, ignore_index=UNKNOWN))
        without = float(metric(scores[:, others], truth[:, others], LABELS - 1))
        print(f"{name}: label {label} ignored {ignored:.4f}, without it {without:.4f}")
        if name == "multilabel_coverage_error":
            assert ignored == LABELS and without < LABELS - 0.1
        elif name == "multilabel_ranking_loss":
            assert ignored < without - 0.05
        else:
            assert abs(ignored - without) < 1e-6
PY
