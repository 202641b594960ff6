#!/usr/bin/env bash
# imbalanced-learn gives the first label to every picture that has no label.
#
# Versions: imbalanced-learn 0.14.2, scikit-learn 1.9.1, numpy 2.4.6.
# Expected: a table of zeros and ones that its samplers return has the rows that were given, some of them more than
#   once or left out; or it is refused, as a table in which a row has two ones is ("Multilabel and multioutput targets
#   are not supported"). The issue that brought this in asks for tables where "the sum of each row should be one"
#   (scikit-learn-contrib/imbalanced-learn#340).
# Seen: only rows with more than one label are refused. A row without a label becomes label 0 (the argmax of zeros), and
#   comes back as one: after RandomOverSampler 24 of the 60 given rows have another truth, no negative is left, and
#   label 0 counts as the frequent label and is not repeated. No message.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  imbalanced-learn==0.14.2 scikit-learn==1.9.1 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
from imblearn.over_sampling import RandomOverSampler
from imblearn.under_sampling import RandomUnderSampler

names = np.arange(60).reshape(-1, 1)  # the pictures, by number
truth = np.zeros((60, 3), dtype=int)
truth[:20, 1] = truth[20:30, 2] = truth[30:36, 0] = 1  # and 24 pictures without a label


def counts(table):
    return table.sum(axis=0).tolist(), int((table.sum(axis=1) == 0).sum())


print("given: pictures per label, and without one:", counts(truth))
for sampler in (RandomOverSampler(random_state=0), RandomUnderSampler(random_state=0)):
    picked, found = sampler.fit_resample(names, truth)
    changed = {int(name) for name, row in zip(picked[:, 0], found) if (row != truth[name]).any()}
    print(f"{type(sampler).__name__}: {counts(found)}; {len(changed)} pictures with another truth")
    assert changed and changed <= set(range(36, 60)) and counts(found)[1] == 0
    assert all(row.tolist() == [1, 0, 0] for name, row in zip(picked[:, 0], found) if name in changed)
    if isinstance(sampler, RandomOverSampler):
        assert len(changed) == 24 and counts(found)[0] == [30, 30, 30]

truth[0] = [1, 1, 0]
try:
    RandomOverSampler(random_state=0).fit_resample(names, truth)
except ValueError as error:
    print("with one picture of two labels:", str(error)[-60:])
else:
    raise SystemExit("two labels are no longer refused")
PY
