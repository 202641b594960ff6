#!/usr/bin/env bash
# datasets casts labels to a list of the same names in another order by renaming them: every cat becomes a dog.
#
# Versions: datasets 5.2.0, pyarrow 26.0.1, numpy 2.4.6.
# Expected: after cast(features) or cast_column a label has the name that it had, or the cast is refused.
#   concatenate_datasets does refuse two lists of names in different orders ("The features can't be aligned"), and a
#   cast to the first one's features is what lets them be joined. A cast of the names themselves, as texts, is right.
# Seen: the numbers stay and the list of names is exchanged, for one label and for a list of labels. So of two joined
#   data sets the second has its labels swapped. A list that is too short is taken as well
#   (huggingface/datasets#8494 reports that). align_labels_with_mapping does it rightly. No message.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  datasets==5.2.0 pyarrow==26.0.1 numpy==2.4.6
cd "$work"
HF_HOME="$work/hub" HF_HUB_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1 venv/bin/python - <<'PY'
from datasets import ClassLabel, Dataset, Features, List, Value, concatenate_datasets, disable_progress_bars

disable_progress_bars()
ORDERS = (["cat", "dog"], ["dog", "cat"])
PICTURES = {"a.jpg": ["cat"], "b.jpg": ["dog"], "c.jpg": ["cat", "cat"]}


def written(names):
    features = Features({"file": Value("string"), "labels": List(ClassLabel(names=names))})
    numbers = [[names.index(label) for label in labels] for labels in PICTURES.values()]
    return Dataset.from_dict({"file": list(PICTURES), "labels": numbers}, features=features)


def read(data):
    names = data.features["labels"].feature.names
    return [(row["file"], [names[number] for number in row["labels"]]) for row in data]


right = list(PICTURES.items())
first, second = (written(names) for names in ORDERS)
assert read(first) == read(second) == right
try:
    concatenate_datasets([first, second])
except ValueError as error:
    print("joined as they are:", str(error)[:35])
else:
    raise SystemExit("different orders are joined")
for cast in (second.cast(first.features), second.cast_column("labels", first.features["labels"])):
    swapped = [(name, ["dog" if label == "cat" else "cat" for label in labels]) for name, labels in right]
    print("the second cast to the first one's features:", read(cast))
    assert read(cast) == swapped
    assert read(concatenate_datasets([first, cast])) == right + swapped

texts = Dataset.from_dict({"file": list(PICTURES), "labels": list(PICTURES.values())})
assert read(texts.cast(first.features)) == read(texts.cast(second.features)) == right
print("texts cast to either list of names: as they were")
PY
