#!/usr/bin/env bash
# OpenVINO Model API splits a label that has a space, and every label after it moves to another class.
#
# Versions: openvino-model-api 0.4.7, openvino 2026.4.1, numpy 2.4.6.
# Expected: labels that are set as a list in the model's rt_info (openvino.Model.set_rt_info takes one) come back as
#   that list, and where the number of labels and of outputs differ something is said.
# Seen: OpenVINO stores the list as one string with spaces between the items, and Model API splits that string at
#   spaces: 3 classes become the 5 labels hot, dog, cat, teddy, bear. A picture of a cat (class 1) is tagged "dog", one
#   of a teddy bear "cat". Nothing compares 5 labels with 3 outputs. The same list given in `configuration` is right, so
#   a check on the developer's machine passes and the saved model on the device is wrong.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  openvino-model-api==0.4.7 openvino==2026.4.1 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import logging

import numpy as np
import openvino
from model_api.models import ClassificationModel
from openvino import opset13 as ops

logging.disable(logging.WARNING)
labels = ["hot dog", "cat", "teddy bear"]


def tagger():
    """A model that scores class c by the mean of channel c."""
    pixels = ops.parameter([1, 3, 8, 8], np.float32, name="pixels")
    centred = ops.subtract(ops.reduce_mean(pixels, [2, 3], False), ops.constant(np.float32(100)))
    scores = ops.multiply(centred, ops.constant(np.float32(0.1)))
    pixels.output(0).set_names({"pixels"})
    scores.output(0).set_names({"scores"})
    model = openvino.Model([scores], [pixels], "tagger")
    model.set_rt_info("Classification", ["model_info", "model_type"])
    model.set_rt_info("True", ["model_info", "multilabel"])
    return model


def tags(path, **configuration):
    wrapper = ClassificationModel.create_model(path, configuration=configuration, preload=True, device="CPU")
    answers = []
    for channel in range(3):
        picture = np.zeros((8, 8, 3), np.uint8)
        picture[..., channel] = 255
        answers.append([(label.id, label.name) for label in wrapper(picture).top_labels])
    return answers


model = tagger()
openvino.save_model(model, "plain.xml")
model.set_rt_info(labels, ["model_info", "labels"])
openvino.save_model(model, "labelled.xml")
given = tags("plain.xml", labels=labels)
stored = tags("labelled.xml")
print("labels given:   ", given)
print("labels in model:", stored)
assert given == [[(0, "hot dog")], [(1, "cat")], [(2, "teddy bear")]]
assert stored == [[(0, "hot")], [(1, "dog")], [(2, "cat")]]
PY
