"""The record of a verification: the JSON that programs read, and what of it may be missing or new."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from edgepress.deploy.engines.base import Ran
from edgepress.deploy.verify.comparison import LabelRow
from edgepress.deploy.verify.divergence import Stage
from edgepress.deploy.verify.layers import Inspection, LayerNoise
from edgepress.deploy.verify.verification import Verification
from edgepress.multilabel.judgement import Reason, judge
from edgepress.multilabel.metrics import F1Scores

STAGE = Stage(
    stage="onnx-int8-onnxruntime in ONNX Runtime",
    kind="onnx",
    precision="int8",
    after="onnx-fp32 in ONNX Runtime",
    beyond=("drop",),
    drop_points=0.2,
    max_abs_diff=1.0,
    sqnr_db=27.0,
    flip_rate=0.02,
)
LAYER = LayerNoise(
    layer="/backbone/blocks.0/conv_dw/Conv",
    operator="Conv",
    tensor="/backbone/blocks.0/conv_dw/Out",
    so_far_db=30.0,
    alone_db=35.0,
)
SCORES = F1Scores(CP=0.5, CR=0.5, CF1=0.5, OP=0.5, OR=0.5, OF1=0.6)
VERIFICATION = Verification(
    engine="onnx-int8-onnxruntime",
    precision="int8",
    reference="student",
    judgement=judge([]),
    num_images=240,
    labels_counted=30,
    budget_points=1.0,
    ran=Ran(runtime="onnxruntime", version="1.32", provider="CPU", precision="int8 + f32"),
    labels=(LabelRow(label="transport", positives=40, AP_reference=0.4, AP=0.41, moved_points=1.0),),
    f1={"thresholds": SCORES, "0.5": SCORES, "top_3": SCORES},
    max_abs_diff=1.2345,
    mean_abs_diff=0.1,
    sqnr_db=27.1,
    not_finite=0,
    flip_rate=0.0193,
    flip_rate_kept=0.0394,
    top1_agreement=0.99,
    topk_agreement=0.95,
    top_k=3,
    mAP=0.3443,
    mAP_reference=0.3439,
    drop_points=-0.04,
    drop_interval=(-0.59, 0.64),
    stages=(STAGE,),
    layers=Inspection(against="onnx-fp32", pictures=8, threshold_db=10.0, layers=(LAYER,)),
)


def test_the_record_is_plain_json_and_is_read_again():
    record = json.loads(json.dumps(VERIFICATION.as_dict()))
    assert list(record)[:6] == ["engine", "precision", "reference", "verdict", "reasons", "reason_kinds"]
    assert Verification.from_dict(record) == VERIFICATION
    failed = VERIFICATION.model_copy(update={"judgement": judge([Reason(kind="drop", text="mAP drops")])})
    record = json.loads(json.dumps(failed.as_dict()))
    assert Verification.from_dict(record) == failed


def test_a_record_of_an_earlier_or_a_later_version_is_read():
    record = json.loads(json.dumps(VERIFICATION.as_dict()))
    del record["f1"], record["ran"]["products"], record["cautions"]
    for part in (record, record["ran"], record["labels"][0], record["stages"][0], record["layers"]):
        part["later"] = {"unknown": 1}
    assert Verification.from_dict(record) == VERIFICATION.model_copy(update={"f1": None})


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"labels": [{"label": 1}]}, "labels.0.label"), ({"precision": "int4"}, "precision"), ({"verdict": 1}, "verdict")],
)
def test_another_record_is_refused(changed, said):
    with pytest.raises(ValidationError, match=said):
        Verification.from_dict({**VERIFICATION.as_dict(), **changed})
