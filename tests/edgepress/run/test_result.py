"""A row of report.json: what it holds is the record that the verbs print."""

from __future__ import annotations

import json

from edgepress.run.result import EngineResult
from tests.deploy.bench.test_benchmark import BENCHMARK
from tests.deploy.verify.test_verification_record import VERIFICATION


def test_a_row_of_report_json_holds_the_same_record():
    row = EngineResult(engine="onnx-int8", precision="int8", bench=BENCHMARK)
    written = json.loads(row.model_dump_json())
    assert json.dumps(written["bench"]) == json.dumps(BENCHMARK.as_dict())
    assert EngineResult.model_validate_json(row.model_dump_json()).bench == BENCHMARK


def test_the_figures_that_people_ask_for_are_at_the_top_and_not_read_again():
    row = EngineResult(engine="onnx-int8", precision="int8", bench=BENCHMARK, verification=VERIFICATION)
    written = json.loads(row.model_dump_json())
    found = (written["verdict"], written["drop_points"], written["flip_rate"], written["p50_ms"])
    assert found == ("incomplete", -0.04, 0.0193, 2.0)
    assert EngineResult.model_validate({**written, "p50_ms": 9.0}) == row
    student = EngineResult(engine="student (torch)", role="student", precision="fp32")
    assert (student.verdict, student.drop_points, student.p50_ms) == ("reference", None, None)
