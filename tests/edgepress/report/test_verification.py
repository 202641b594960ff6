"""What a person sees of a verification: its tables fit a terminal, and the verdict is the last line."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from edgepress.deploy.verify.verification import Verification
from edgepress.multilabel.judgement import NotRun, Reason, judge
from edgepress.report.verification import MINUS, print_verification
from tests.deploy.verify.test_verification_record import LAYER, STAGE, VERIFICATION


def shown(found: Verification | NotRun, width: int = 120) -> list[str]:
    console = Console(file=io.StringIO(), width=width, markup=False, highlight=False)
    print_verification(found, console)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 120])
def test_what_verify_found_fits(width):
    text = "\n".join(lines := shown(VERIFICATION, width))
    assert max(map(len, lines)) <= width
    drop = "-0.04 (-0.59 to 0.64)".replace("-", MINUS)
    for whole in (VERIFICATION.engine, drop, STAGE.stage, LAYER.layer, "50.00, 60.00"):
        assert whole in text


def test_what_is_not_known_is_left_out():
    text = "\n".join(shown(VERIFICATION.model_copy(update={"f1": None, "stages": None, "layers": None})))
    assert "CF1" not in text
    assert "stage" not in text
    assert "layers" not in text
    assert "drop in points" in text


def test_the_verdict_comes_last_after_its_cautions_and_reasons():
    judgement = judge([Reason(kind="drop", text="mAP drops"), Reason(kind="logits", text="a logit differs")])
    lines = shown(VERIFICATION.model_copy(update={"judgement": judgement, "cautions": ("only 12 pictures",)}))
    assert lines[-4:] == [
        "caution: only 12 pictures",
        "fail: mAP drops",
        "fail: a logit differs",
        "onnx-int8-onnxruntime: fail",
    ]


def test_an_engine_that_did_not_run_has_its_reason_alone():
    assert shown(NotRun(engine="tensorrt-fp16", reasons=("no GPU here",))) == [
        "not run: no GPU here",
        "tensorrt-fp16: not run",
    ]
