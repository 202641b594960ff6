"""Judgements: the worst reason decides, and every reason is kept in order."""

import pytest
from pydantic import ValidationError

from edgepress.multilabel.judgement import Judgement, NotRun, Reason, judge

DROP, INTERVAL = Reason(kind="drop", text="drops"), Reason(kind="interval", text="wide")
MACHINE = Reason(kind="machine", text="no GPU here")


@pytest.mark.parametrize(
    ("checks", "verdict"),
    [
        ([], "pass"),
        ([None, None], "pass"),
        ([INTERVAL], "unproven"),
        ([INTERVAL, None, DROP], "fail"),
        ([DROP, INTERVAL], "fail"),
        ([MACHINE], "not run"),
        ([MACHINE, DROP], "not run"),
    ],
)
def test_the_worst_reason_decides(checks, verdict):
    judgement = judge(checks)
    assert judgement.verdict == verdict
    assert list(judgement.reasons) == [check for check in checks if check is not None]


def test_a_kind_that_nobody_knows_is_refused():
    with pytest.raises(ValueError, match="kind"):
        Reason(kind="mood", text="bad")


@pytest.mark.parametrize("checks", [[], [INTERVAL], [MACHINE, DROP]])
def test_a_record_is_read_as_it_was_written(checks):
    judgement = judge(checks)
    assert Judgement.from_dict({"engine": "onnx-fp32", **judgement.as_dict()}) == judgement


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"reason_kinds": []}, "1 reasons and 0 kinds"),
        ({"reason_kinds": ["mood"]}, "reason_kinds.0"),
        ({"verdict": "fine"}, "verdict"),
        ({"reasons": "drops"}, "reasons"),
    ],
)
def test_another_record_is_refused(changed, said):
    with pytest.raises(ValidationError, match=said):
        Judgement.from_dict({**judge([DROP]).as_dict(), **changed})


def test_an_engine_that_did_not_run():
    found = NotRun(engine="tensorrt-fp16", reasons=("no GPU here",))
    assert found.judgement == judge([MACHINE])
    record = found.model_dump(mode="json")
    assert record == {"engine": "tensorrt-fp16", "verdict": "not run", "reasons": ["no GPU here"]}
    assert NotRun.model_validate({**record, "reason_kinds": ["machine"]}) == found
