"""report and card: a run told again from what it left, several compared, a bundle described."""

from __future__ import annotations

import copy
import io
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from edgepress.compress.config import DistillConfig
from edgepress.compress.methods import PRESETS
from edgepress.multilabel.bundle import Bundle
from edgepress.report.blocks import Code, Document, Figure, Section, Table, Text, escaped, to_markdown
from edgepress.report.cards import card
from edgepress.report.details import recipe_text
from edgepress.report.figures import Model, draw_pareto, frontier
from edgepress.report.html import to_html
from edgepress.report.overview import MINUS, drop_text, headline, report_document, training
from edgepress.report.summary import print_report
from edgepress.report.terminal import UNBOUNDED
from edgepress.run.recipe import Recipe
from edgepress.run.result import EngineResult, StudentDrop
from edgepress.run.run_report import RunReport
from tests.edgepress.conftest import typed


@pytest.fixture
def copied(run_folder: Path, tmp_path: Path) -> Path:
    """Only what a report needs: no bundle and no data set stands beside it."""
    folder = tmp_path / "copied"
    folder.mkdir()
    shutil.copyfile(run_folder / "report.json", folder / "report.json")
    return folder


def test_a_run_is_told_again_from_report_json_alone(edgepress, copied, run_folder):
    answer = edgepress("report", copied)
    assert answer.code == 0, answer.err
    first, *told = answer.out.splitlines()
    verdict = json.loads((copied / "report.json").read_text())["verdict"]
    assert first == f"{verdict}: wrote {copied / 'report.html'} and {copied / 'report.md'}"
    assert told[0].startswith(edgepress("report", copied, "--json").json["to_ship"])
    assert told == headline(typed(json.loads((copied / "report.json").read_text())))
    for name in ("report.html", "report.md"):
        assert (copied / name).read_bytes() == (run_folder / name).read_bytes()
    before = (copied / "report.html").stat().st_mtime_ns
    again = edgepress("report", copied, "--json")
    assert again.json["html"] == str(copied / "report.html")
    assert (copied / "report.html").stat().st_mtime_ns == before


def test_the_markdown_says_the_same(run_folder, report):
    told = (run_folder / "report.md").read_text()
    assert f"**Verdict: {report['verdict']}**" in told.splitlines()[2]
    for row in report["engines"]:
        assert f"{100 * row['mAP']:.2f}" in told
    assert told.count("\n## ") == 9


def test_the_recipe_in_the_report_makes_the_same_run(report):
    more = {"latency_budget": "8ms", "host": "me@board", "ssh_option": ["Port=1"]}
    read = yaml.safe_load(recipe_text(Recipe.parse({**report["recipe"], **more}, "report")))
    assert "ssh_option" not in read
    assert (read.pop("latency_budget"), read.pop("host")) == ("8ms", "me@board")
    assert Recipe.parse(read, "report") == Recipe.parse(report["recipe"], "report.json")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no report.json"),
        ("{", "Invalid JSON"),
        ("[]", "not a report"),
        ("[" * 100_000, "Invalid JSON"),
        ('{"engines": [], "recipe": {}}', "the same edgepress run makes it again"),
        ('{"edgepress": "0", "student": {"backbone": NaN}, "teacher": {}}', "the same edgepress run makes it again"),
        ('{"edgepress": "0", "engines": [1], "student": 3}', "the same edgepress run makes it again"),
    ],
)
def test_what_is_no_report_is_refused_in_one_line(bad, copied, content, said):
    (copied / "report.json").unlink()
    if content is not None:
        (copied / "report.json").write_text(content)
    assert said in bad("report", copied)
    assert {path.name for path in copied.iterdir()} <= {"report.json"}


def test_two_runs_are_compared(edgepress, copied, run_folder, tmp_path):
    other = json.loads((copied / "report.json").read_text())
    other["recipe"]["distill"]["epochs"] = 77
    other["made_with"]["fingerprints"]["test"] = "another"
    (copied / "report.json").write_text(json.dumps(other))
    out = tmp_path / "compared.html"
    answer = edgepress("report", run_folder, copied, "--out", out, "--json")
    assert answer.code == 0, answer.err
    assert [run["run"] for run in answer.json["runs"]] == [str(run_folder), str(copied)]
    assert answer.json["differences"] == [{"key": "distill.epochs", "values": [1, 77]}]
    assert any("cannot be compared" in line for line in answer.json["cautions"])
    page = out.read_text()
    assert "distill.epochs" in page
    assert page.count("<figure>") == 4  # no line goes through models that cannot be compared
    table = edgepress("report", run_folder, copied)
    assert "distill.epochs" in table.out
    assert "caution" in table.out


def test_runs_of_the_same_pictures_on_one_machine_share_a_plot(edgepress, copied, run_folder, tmp_path):
    out = tmp_path / "compared.html"
    assert edgepress("report", run_folder, copied, "--out", out, "--json").json["cautions"] == []
    assert out.read_text().count("<figure>") == 2


def test_the_fine_tuned_engine_that_a_run_took_was_not_made_again(edgepress, run_folder, tmp_path):
    """Its row has the engine's name, whose folder holds the bundle that missed its budget."""
    folder = Path(shutil.copytree(run_folder, tmp_path / "run"))
    report = json.loads((folder / "report.json").read_text())
    shutil.copytree(folder / "onnx-fp32", folder / "openvino-fp32-finetuned")
    row = report["engines"][-1]
    row |= {"bundle": "openvino-fp32-finetuned", "digest": Bundle.open(folder / "onnx-fp32").digest, "finetuned": True}
    (folder / "report.json").write_text(json.dumps(report))
    answer = edgepress("report", folder, "--json")
    assert answer.json["made_again"] == []
    assert "made again" not in answer.err


def test_an_engine_that_was_made_again_since_is_told(edgepress, run_folder, tmp_path):
    folder = Path(shutil.copytree(run_folder, tmp_path / "run"))
    manifest = folder / "onnx-fp32" / "manifest.json"
    digest = Bundle.open(folder / "onnx-fp32").digest
    assert edgepress("report", folder, "--json").json["made_again"] == []
    manifest.write_text(manifest.read_text().replace(digest, "0" * 64))
    answer = edgepress("report", folder, "--json")
    assert answer.json["made_again"] == ["onnx-fp32"]
    assert f"{folder / 'onnx-fp32'}: made again since; the report is of the earlier one" in answer.err


def test_a_misspelt_folder_is_not_made(bad, copied, run_folder, tmp_path):
    for arguments in (("report", run_folder, copied), ("card", run_folder / "onnx-fp32")):
        assert "is no folder" in bad(*arguments, "--out", tmp_path / "misspelt" / "file")
    assert not (tmp_path / "misspelt").exists()


def test_a_run_named_twice_and_an_out_for_one_run_are_refused(bad, run_folder, tmp_path):
    assert "twice" in bad("report", run_folder, run_folder)
    assert "--out" in bad("report", run_folder, "--out", tmp_path / "one.html")
    assert not (tmp_path / "one.html").exists()


def test_an_interrupted_report_leaves_the_old_one_and_no_half_file(edgepress, copied, monkeypatch):
    (copied / "report.html").write_text("the old one")

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("edgepress.multilabel.durable.os.fsync", interrupted)
    assert edgepress("report", copied).code == 130
    assert {path.name for path in copied.iterdir()} == {"report.json", "report.html"}
    assert (copied / "report.html").read_text() == "the old one"


def test_an_interrupted_run_claims_nothing(report):
    document = report_document(typed({**report, "verdict": "incomplete"}))
    assert document.verdict == "incomplete"
    assert len(document.headline) == 1
    assert "interrupted" in document.headline[0]


def test_what_is_absent_is_said_and_not_left_out(report):
    bare = copy.deepcopy(report)
    bare["engines"] = [row for row in bare["engines"] if row["precision"] != "int8"]
    bare["training"] = [{"model": "teacher", "terms": {}, "val_mAP": [], "best_epoch": None}]
    bare["flips"] = None
    told = to_markdown(report_document(typed(bare)))
    for said in (
        "No INT8 engine was asked for",
        "teacher: no curves",
        "No INT8 engine was measured",
        "nothing is known",
    ):
        assert said in told
    refused = {"verdict": "not built", "reasons": [{"kind": "build", "text": "no room"}]}
    bare["engines"] = [{"engine": "onnx-fp32", "precision": "fp32", "judgement": refused}]
    told = to_markdown(report_document(typed({**bare, "verdict": "fail"})))
    for said in ("No engine passes", "No model was timed", "No AP by label", "No engine was measured", "no room"):
        assert said in told


def test_the_engine_to_ship_is_what_the_budget_chose_else_the_fastest_that_passes(report):
    (own,) = (one for one in report["engines"] if one["engine"] == "onnx-fp32")

    def shown(*rows: tuple[str, str, float, int], **more: Any) -> RunReport:
        """Rows of engine, verdict, p50 and flipped decisions."""
        made = []
        for engine, verdict, p50, flipped in rows:
            row = copy.deepcopy({**own, "engine": engine, "bundle": f"{engine}-finetuned"})
            reasons = [] if verdict == "pass" else [{"kind": "drop", "text": "mAP drops"}]
            row["judgement"] = {"verdict": verdict, "reasons": reasons}
            row["bench"]["cells"][0]["model"]["p50_ms"] = p50
            row["flips"]["flipped"] = flipped
            made.append(row)
        return typed({**report, "engines": made, **more})

    def named(one: EngineResult | None) -> str | None:
        return one and one.engine

    a, b, c, d = ("a", "pass", 3.0, 0), ("b", "pass", 2.0, 0), ("c", "fail", 1.0, 0), ("d", "pass", 4.0, 0)
    assert named(shown(a, b, c, d).to_ship) == "b"
    budget = {"budget_ms": 8.0, "ship": "d"}
    assert shown(a, b, c, d, latency_budget=budget).to_ship.bundle == "d-finetuned"
    assert shown(a, b, c, d, latency_budget={"budget_ms": 8.0}).to_ship is None
    assert named(shown(c).telling) == "c"
    assert shown().telling is None
    # What changed most is shown where the one to ship changed nothing, and of what failed where anything did.
    a, e = ("a", "pass", 3.0, 2), ("e", "pass", 5.0, 1)
    assert named(shown(a, b, c, d, e).telling) == "a"
    b = ("b", "pass", 2.0, 1)
    assert named(shown(a, b, c, d, e).telling) == "b"
    assert named(shown(a, b, ("c", "fail", 1.0, 9), d, e).telling) == "c"


def test_a_failure_is_named_with_its_reason(report):
    hurt = copy.deepcopy(report)
    hurt["verdict"] = "fail"
    failed = {"verdict": "fail", "reasons": [{"kind": "drop", "text": "mAP drops by 7 points"}]}
    hurt["engines"][-1] |= {"judgement": failed}
    assert any("mAP drops by 7 points" in line for line in headline(typed(hurt)))


def test_a_student_far_below_its_teacher_is_cautioned_about(report, capsys):
    """Engines are held to the student, so that a pass says nothing of the teacher."""

    def with_mAPs(student: float, teacher: float) -> RunReport:
        changed = copy.deepcopy(report)
        for row in changed["engines"]:
            if row["role"] != "engine":
                row["mAP"] = student if row["role"] == "student" else teacher
        return typed(changed)

    far = with_mAPs(0.30, 0.35)
    assert any("5.00 points of mAP less than its teacher" in line for line in headline(far))
    print_report(far, Console(width=300))
    assert "caution: the student has 5.00 points of mAP less" in capsys.readouterr().out
    near = with_mAPs(0.30, 0.31)
    assert not any("less than its teacher" in line for line in headline(near))


def test_an_engine_that_only_a_host_ran_can_be_the_one_to_ship(report, capsys):
    there = copy.deepcopy(report)
    row = there["engines"][-1]
    kept = {name: row[name] for name in ("engine", "precision", "size_bytes", "digest", "int8", "bundle")}
    refused = {"verdict": "not run", "reasons": [{"kind": "machine", "text": "not here"}]}
    seen = {"judgement": {"verdict": "pass"}, "p50_ms": 2.0}
    there["engines"][-1] = {**kept, "judgement": refused, "on_host": seen}
    there["recipe"] |= {"host": "me@board", "latency_budget": "8ms"}
    budget = {"budget_ms": 8.0, "host": "me@board", "ship": row["engine"]}
    told = to_markdown(report_document(typed({**there, "latency_budget": budget})))
    assert f"{row['engine']} is to ship within 8 ms" in told
    assert "2.00 ms on me@board" in told
    there["recipe"] |= {"latency_budget": None}
    free = typed(there)
    assert f"{row['engine']} is the fastest engine that passes on me@board" in headline(free)[0]
    print_report(free, Console(width=300))
    assert f"{row['engine']} on me@board: pass; p50 2.00 ms\n" in capsys.readouterr().out
    there["engines"][-1]["required"] = True
    assert not any(line.startswith(f"{row['engine']}: ") for line in headline(typed(there)))
    lost = {"verdict": "fail", "reasons": [{"kind": "drop", "text": "mAP drops there"}]}
    there["engines"][-1]["on_host"] = {**seen, "judgement": lost}
    told = headline(typed(there))
    assert f"{row['engine']} is the fastest" not in told[0]
    assert f"{row['engine']}: fail: mAP drops there" in told


def alone(report: dict[str, Any]) -> dict[str, Any]:
    """The report of a student that learnt from labels alone, as the preset has it."""
    hurt = copy.deepcopy(report)
    distill = {**hurt["recipe"]["distill"], **PRESETS["alone"], "preset": "alone"}
    hurt["recipe"]["distill"] = DistillConfig.parse(distill, "distill").model_dump(mode="json")
    return hurt


def test_a_student_that_no_teacher_taught_is_not_said_to_be_taught(report, run_folder, capsys):
    teacher, student = report["teacher"]["backbone"], report["student"]["backbone"]
    assert report_document(typed(report)).title == f"{student} taught by {teacher}"
    assert report_document(typed(alone(report))).title == f"{student} taught by no teacher"
    told = to_markdown(report_document(typed(alone(report))))
    assert f"Teacher, not learnt from: {escaped(teacher)}" in told
    assert "Teacher, not learnt from" not in to_markdown(report_document(typed(report)))
    bundle = Bundle.open(run_folder / "student")
    assert "Distilled from" in card(bundle, typed(report))
    text = card(bundle, typed(alone(report)))
    assert "Trained on the labels alone" in text
    for claim in ("Distilled from", "knowledge-distillation", "Made from the bundle teacher"):
        assert claim in card(bundle, typed(report))
        assert claim not in text
    print_report(typed(alone(report)), Console(width=200))
    assert f"{student}, taught by no teacher" in capsys.readouterr().out


def test_the_drop_of_a_fine_tuned_engine_is_from_the_student(report):
    one = next(one for one in typed(report).engines if one.verification is not None)
    drop = one.verification.model_copy(update={"drop_points": 0.1, "drop_interval": (-0.2, 0.4)})
    one = one.model_copy(update={"verification": drop})
    assert drop_text(one) == f"0.10 ({MINUS}0.20 to 0.40)"
    student = StudentDrop(points=1.25, interval=(0.5, 2.0))
    tuned = one.model_copy(update={"student_drop": student, "finetuned": True})
    assert drop_text(tuned) == "1.25 (0.50 to 2.00), fine-tuned"
    unsure = student.model_copy(update={"interval": None})
    assert drop_text(tuned.model_copy(update={"student_drop": unsure})) == "1.25, fine-tuned"


def test_int8_is_shown_beside_its_float_engine(report):
    timed = copy.deepcopy(report)
    row = next(row for row in timed["engines"] if row["precision"] == "int8")
    ratio = {"ratio": 0.481, "low": 0.46, "high": 0.5}
    row["held_to"] = {"engine": "onnx-fp16", "digest": "d", "ratio": ratio}
    said = f"{row['engine']}, time against onnx-fp16: 0.48 times, 0.46 to 0.50."
    assert said in to_markdown(report_document(typed(timed)))
    assert said in to_html(report_document(typed(timed)))
    row["held_to"] = None
    assert "time against onnx" not in to_markdown(report_document(typed(timed)))


def test_what_the_int8_search_tried_is_shown_with_its_flips(report, micro):
    """A candidate of an earlier version has none, and its cell is empty."""
    row = next(row for row in report["engines"] if row["int8"])
    (one, *_) = row["int8"]["tried"]
    row["int8"]["tried"] = [{**one, "candidate": name, "flips": flips} for name, flips in (("a", 0.1234), ("b", None))]
    told = to_markdown(report_document(typed(report))).splitlines()
    (head,) = [number for number, line in enumerate(told) if line.startswith("| candidate | ") and " flips " in line]
    place = [cell.strip() for cell in told[head].split("|")].index("flips")
    assert [told[head + 2 + at].split("|")[place].strip() for at in (0, 1)] == ["0.123", ""]
    allowed = f"{micro['quantize']['flips']:g} allowed"
    assert any(f"flips {row['int8']['val_flips']:.3f} per predicted positive, {allowed}" in line for line in told)


def test_the_frontier_is_what_none_beats_in_both():
    models = [
        Model(name=name, series="b", points=points, cost=ms)
        for name, points, ms in (("slow", 30.0, 9.0), ("best", 35.0, 5.0), ("fast", 32.0, 1.0), ("beaten", 31.0, 2.0))
    ]
    assert [model.name for model in frontier(models)] == ["fast", "best"]
    drawn = draw_pareto(models, "latency", "ms")
    assert drawn.svg.count('class="mark b"') == len(models) + 1  # and one in the legend
    assert "beaten" not in drawn.caption


def test_of_many_curves_the_students_is_drawn_and_what_is_not_is_said(report):
    own = report["training"][-1]
    others = [{**own, "model": f"teacher-{number}", "terms": {}} for number in range(1, 5)]
    plot = training(typed({**report, "training": [*others, own]}))[-1]
    drawn, _, left_out = plot.alt.partition(" Not drawn: ")
    assert [name in drawn for name in ("student", "teacher-1", "teacher-3", "teacher-4")] == [True, True, True, False]
    assert left_out == "teacher-4."
    assert plot.caption.endswith("Not drawn: teacher-4.")
    assert ">student<" in plot.svg
    assert "teacher-4" not in plot.svg
    assert "Not drawn" not in training(typed({**report, "training": [*others[1:], own]}))[-1].alt


def test_a_term_without_a_finite_value_is_named(report):
    own = {**report["training"][-1], "terms": {"bce": [1.0, 0.5]}}
    hurt = {**own, "model": "teacher", "terms": {"bce": [math.nan, math.inf]}}
    blocks = training(typed({**report, "training": [hurt, own]}))
    assert Text("Loss term bce of teacher: no value is finite.") in blocks
    assert any(isinstance(block, Figure) and block.alt.startswith("Loss term bce") for block in blocks)


def test_one_model_alone_can_be_drawn():
    assert "1  only" in draw_pareto([Model(name="only", series="a", points=50.0, cost=2.0)], "size", "MB").svg


def test_markdown_shows_text_as_it_is():
    assert escaped("a|b_c*d`e<f>\n# g") == r"a\|b\_c\*d\`e&lt;f&gt; \# g"
    table = Table(caption="c", columns=("x", "y"), rows=[["a|b", "1"]])
    code = Code(caption="k", text="````\nrm -rf", language="yaml")
    told = to_markdown(Document(title="t", sections=[Section("s", [table, code])]))
    assert r"| a\|b | 1 |" in told
    assert "`````yaml\n````\nrm -rf\n`````" in told


# Cards.


@pytest.mark.parametrize("width", [80, 120, UNBOUNDED])
def test_the_table_of_a_run_fits_a_terminal_and_cuts_no_engine(report, width):
    text = io.StringIO()
    print_report(typed(report), Console(file=text, width=width, markup=False, highlight=False))
    table = text.getvalue().split("mAP over")[0]
    assert max(map(len, table.splitlines())) <= width
    assert all(row["engine"] in table for row in report["engines"])
    assert not set("…│┃") & set(table)
