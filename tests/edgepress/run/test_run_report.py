"""report.json: it is read as it was written, and what of an earlier one a run may keep."""

from __future__ import annotations

from pathlib import Path

from edgepress.multilabel.judgement import Reason, judge
from edgepress.run import run_report
from edgepress.run.result import EngineResult, OnHost
from edgepress.run.run_report import REPORT, RunReport, earlier_results, read_report, write_report


def rewritten(folder: Path, report: RunReport, *results: EngineResult) -> Path:
    folder.mkdir(exist_ok=True)
    write_report(folder, report.model_copy(update={"engines": results}))
    return folder


def test_a_report_is_read_as_it_was_written(run_folder, tmp_path):
    report = read_report(run_folder)
    write_report(tmp_path, report)
    assert (tmp_path / REPORT).read_bytes() == (run_folder / REPORT).read_bytes()
    assert read_report(tmp_path) == report


def test_what_was_judged_and_what_a_host_found_is_not_kept(run_folder, tmp_path):
    report = read_report(run_folder)
    (one,) = (one for one in report.engines if one.engine == "onnx-fp32")
    told = one.model_copy(update={"on_host": OnHost(judgement=judge([])), "judgement": judge([])})
    kept = earlier_results(rewritten(tmp_path, report, told))
    assert kept == {one.key: one.model_copy(update={"judgement": None})}


def test_a_result_that_was_not_measured_whole_is_not_kept(run_folder, tmp_path):
    report = read_report(run_folder)
    refused = report.engines[-1].model_copy(update={"bench": None})
    unbuilt = EngineResult(engine="tensorrt-fp16", precision="fp16", refusal=Reason(kind="build", text="no room"))
    assert earlier_results(rewritten(tmp_path, report, refused, unbuilt)) == {}
    assert earlier_results(tmp_path / "none") == {}


def test_a_report_that_cannot_be_read_is_measured_again_and_that_is_said(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(run_report.log, "propagate", True)
    (tmp_path / REPORT).write_text('{"engines": [{"engine": "onnx-fp32", "verdict": "pass"}]}')
    with caplog.at_level("WARNING", logger="edgepress"):
        assert earlier_results(tmp_path) == {}
    (record,) = caplog.records
    assert "keeps the models and measures them" in record.getMessage()
