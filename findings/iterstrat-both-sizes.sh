#!/usr/bin/env bash
# iterative-stratification gives the whole data set to train and test where both sizes are named and leave a rest.
#
# Versions: iterative-stratification 0.1.9, scikit-learn 1.9.1, numpy 2.4.6.
# Expected: MultilabelStratifiedShuffleSplit(train_size=0.3, test_size=0.1) gives about 300 and 100 of 1000 pictures, as
#   scikit-learn's ShuffleSplit does: each is "the proportion of the dataset to include in the ... split", or "the
#   absolute number" (its docstring; sizes "may be slightly different").
# Seen: 750 and 250: the sizes count only as a ratio. Whoever sets 600 pictures aside for a later test by naming less
#   than everything has trained on them; with train_size=300 and test_size=100 it is the same. With one size named it
#   is right. Reported as trent-b/iterative-stratification#15, open since 2021. No message.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  iterative-stratification==0.1.9 scikit-learn==1.9.1 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit
from sklearn.model_selection import ShuffleSplit

labels = (np.random.default_rng(0).random((1000, 5)) < [0.5, 0.3, 0.2, 0.1, 0.05]).astype(int)
pictures = np.zeros((1000, 1))


def sizes(splitter, **named):
    train, test = next(splitter(n_splits=1, random_state=0, **named).split(pictures, labels))
    assert not set(train) & set(test)
    return len(train), len(test)


for named, right in (
    ({"test_size": 0.1}, (900, 100)),
    ({"train_size": 0.3, "test_size": 0.7}, (300, 700)),
    ({"train_size": 0.3, "test_size": 0.1}, (300, 100)),
    ({"train_size": 300, "test_size": 100}, (300, 100)),
):
    plain, found = sizes(ShuffleSplit, **named), sizes(MultilabelStratifiedShuffleSplit, **named)
    print(f"{named}: scikit-learn {plain}, iterative-stratification {found}")
    assert plain == right
    assert found == (right if sum(right) == 1000 else (750, 250))
PY
