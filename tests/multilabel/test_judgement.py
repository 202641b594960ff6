"""Judgements: the worst reason decides, and every reason is kept in order."""

import pytest

from edgepress.multilabel.judgement import Reason, judge

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
