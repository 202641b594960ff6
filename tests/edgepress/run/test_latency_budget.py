"""A latency budget: which student is trained, and which engine is named to be shipped."""

from __future__ import annotations

import copy
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgepress.calibration.int8.search import MOST_FLOAT
from edgepress.compress.gather import process_state
from edgepress.multilabel.errors import InputError
from edgepress.run import latency_budget
from edgepress.run.latency_budget import TIMES, OverBudgetError, choose_student, read_times
from edgepress.run.recipe import Recipe
from edgepress.run.splits import splits_of

STUDENTS = ("test_resnet", "test_efficientnet")


@pytest.fixture
def settings(micro, tiny_data) -> dict[str, Any]:
    """A recipe without a backbone, so that students may name it."""
    return {**copy.deepcopy(micro), "data": str(tiny_data), "engines": ["onnx-fp32", "onnx-fp16"]}


def recipe(settings: dict[str, Any], **more: Any) -> Recipe:
    distill = {key: value for key, value in settings["distill"].items() if key != "backbone"}
    return Recipe.parse({**settings, "distill": distill, **more}, "recipe")


def over(times: Path, **p50: float) -> None:
    """Write other times where the run keeps them, of every engine of a student."""
    rows = json.loads(times.read_text())
    for row in rows:
        for seen in row["engines"].values():
            seen["p50_ms"] = p50.get(row["student"], seen["p50_ms"])
    times.write_text(json.dumps(rows))


@pytest.mark.parametrize(("given", "kept"), [("8ms", 8.0), ("8.5 ms", 8.5), (8, 8.0), (0.25, 0.25), (None, None)])
def test_a_budget_is_milliseconds(settings, given, kept):
    made = recipe(settings, latency_budget=given)
    assert made.latency_budget_ms == kept
    assert (
        Recipe.parse(made.model_dump(mode="json", exclude={"distill"}) | {"data": "x"}, "again").latency_budget_ms
        == kept
    )


@pytest.mark.parametrize("given", ["", "0", "0ms", "-1", "8s", "ms", "8 8", "nan", "inf", True, [8]])
def test_what_is_no_time_is_refused(settings, given):
    with pytest.raises(InputError, match=r"expected (milliseconds|more than no time), such as 8ms"):
        recipe(settings, latency_budget=given)


def test_a_text_without_its_unit_is_refused_before_anything_is_read(edgepress, settings):
    """As by `students --budget` and `tune --time-budget`."""
    told = edgepress("run", "--data", "nowhere", "--latency-budget", "5")
    assert (told.code, told.out) == (2, "")
    assert told.err.strip() == "edgepress: --latency-budget 5: has no unit; expected milliseconds, such as 5ms"
    with pytest.raises(InputError, match=r"has no unit; expected milliseconds, such as 0\.5ms"):
        recipe(settings, latency_budget=" 0.5 ")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"students": ["test_resnet"]}, "students is for a latency budget"),
        ({"host_python": "python3.11"}, "host_python says how to reach a host: give host as well"),
        ({"ssh_option": ["Port=2222"]}, "ssh_option says how to reach a host: give host as well"),
        ({"latency_budget": 8, "bench": {"batch": 4}}, "bench.batch must begin with 1"),
    ],
)
def test_settings_that_do_not_fit_are_told(settings, more, said):
    with pytest.raises(InputError, match=said):
        recipe(settings, **more)


def test_a_backbone_that_is_not_among_the_students_is_told(settings):
    with pytest.raises(InputError, match="not among students"):
        Recipe.parse({**settings, "latency_budget": 8, "students": ["test_resnet"]}, "recipe")


class TestStudent:
    @pytest.fixture(scope="class")
    def timed(self, micro, tiny_data, tmp_path_factory) -> tuple[Path, list[dict[str, Any]], str]:
        """A folder in which both students were timed, none of them within a millionth of a millisecond."""
        out = tmp_path_factory.mktemp("timed")
        wanted = {**copy.deepcopy(micro), "data": str(tiny_data), "engines": ["onnx-fp32", "onnx-fp16"]}
        made = recipe(wanted, latency_budget=0.000001, students=STUDENTS)
        with pytest.raises(OverBudgetError) as told:
            choose_student(made, splits_of(made), out)
        return out, json.loads((out / TIMES).read_text()), str(told.value)

    def test_each_engine_was_timed_and_nothing_else_is_left(self, timed):
        out, rows, _ = timed
        assert [path.name for path in out.iterdir()] == [TIMES]
        assert [row["student"] for row in rows] == list(STUDENTS)
        for row in rows:
            assert list(row["engines"]) == ["onnx-fp32", "onnx-fp16"]
            assert all(seen["p50_ms"] > 0 for seen in row["engines"].values())

    def test_where_none_fits_each_ones_best_time_is_told(self, timed):
        _, rows, told = timed
        for row in rows:
            best = min(seen["p50_ms"] for seen in row["engines"].values())
            assert f"{row['student']}: {best:.3g} ms" in told

    @pytest.mark.parametrize(
        ("resnet", "efficientnet", "taken"),
        [(7, 5, "test_resnet"), (9, 5, "test_efficientnet"), (9, 8, "test_efficientnet")],
    )
    def test_the_first_within_the_budget_is_taken(self, settings, timed, tmp_path, resnet, efficientnet, taken):
        shutil.copyfile(timed[0] / TIMES, tmp_path / TIMES)
        over(tmp_path / TIMES, test_resnet=resnet, test_efficientnet=efficientnet)
        before = (tmp_path / TIMES).read_bytes()
        made = recipe(settings, latency_budget="8ms", students=STUDENTS)
        chosen, budget = choose_student(made, splits_of(made), tmp_path)
        assert chosen.distill.backbone == taken
        assert chosen.distill.size == made.distill.size
        assert [row.student for row in budget.students] == list(STUDENTS[: 1 + STUDENTS.index(taken)])
        assert (tmp_path / TIMES).read_bytes() == before  # nothing was timed again

    def test_another_process_of_a_launch_takes_the_times_of_the_main_one(self, settings, timed, tmp_path, monkeypatch):
        """Also of an engine that failed on the host, which the main process alone tries again."""
        rows = json.loads((timed[0] / TIMES).read_text())
        rows[0]["engines"] = {"onnx-fp32": {"p50_ms": 7.0}, "onnx-fp16": {"reason": "no room"}}
        (tmp_path / TIMES).write_text(json.dumps(rows))
        monkeypatch.setattr(process_state(), "process_index", 1)
        made = recipe(settings, latency_budget=8, students=STUDENTS, host="nobody@host.invalid")
        chosen, budget = choose_student(made, splits_of(made), tmp_path)
        assert (chosen.distill.backbone, budget.students) == ("test_resnet", read_times(tmp_path)[:1])
        (tmp_path / TIMES).unlink()
        with pytest.raises(InputError, match="no times of test_resnet"):
            choose_student(made, splits_of(made), tmp_path)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        "odd",
        [
            "[1]",
            "null",
            "7",
            '{"student": 1}',
            "[" * 100_000,
            '[{"student": "a", "key": "b"}]',
            '[{"student": "a", "key": "b", "engines": {"c": 1}}]',
            '[{"student": "a", "key": "b", "engines": {"c": {"p50_ms": NaN}}}]',
            '[{"student": "a", "key": "b", "engines": {"c": {"reason": null}}}]',
        ],
    )
    def test_what_is_no_row_of_times_is_not_read(self, timed, tmp_path, odd):
        whole = (timed[0] / TIMES).read_text()
        (tmp_path / TIMES).write_text(odd)
        assert read_times(tmp_path) == ()
        (tmp_path / TIMES).write_text(whole)
        assert [row.student for row in read_times(tmp_path)] == [row["student"] for row in json.loads(whole)]

    def test_odd_times_are_taken_again(self, settings, timed, tmp_path):
        (tmp_path / TIMES).write_text("[1]")
        made = recipe(settings, latency_budget=60_000, students=STUDENTS)
        chosen, budget = choose_student(made, splits_of(made), tmp_path)
        assert chosen.distill.backbone == "test_resnet"
        assert read_times(tmp_path) == budget.students

    def test_int8_is_timed_as_the_slowest_graph_that_its_search_may_end_with(
        self, settings, tmp_path, monkeypatch, caplog
    ):
        seen = []
        monkeypatch.setattr(logging.getLogger("edgepress"), "propagate", True)
        caplog.set_level("INFO", "edgepress")

        def timed(bundle, recipe, host):
            seen.append(bundle.manifest.calibration)
            return 7.0

        monkeypatch.setattr(latency_budget, "_p50", timed)
        made = recipe({**settings, "engines": ["onnx-int8-onnxruntime"]}, latency_budget=8, students=STUDENTS[:1])
        _, budget = choose_student(made, splits_of(made), tmp_path)
        assert budget.students[0].engines["onnx-int8-onnxruntime"].p50_ms == 7.0
        (calibration,) = seen
        assert "quantising for onnxruntime" in caplog.text
        assert "calibration picture" not in caplog.text  # they matter to a student that learnt something
        assert [one.kept for one in calibration.tried] == [0, int(MOST_FLOAT * calibration.products)]
        assert len(calibration.kept_float) >= calibration.tried[-1].kept > 0

    def test_without_a_budget_nothing_is_timed(self, settings, tmp_path):
        made = recipe(settings)
        assert choose_student(made, splits_of(made), tmp_path) == (made, None)
        assert list(tmp_path.iterdir()) == []

    def test_a_student_that_nobody_knows_is_told(self, settings, tmp_path):
        made = recipe(settings, latency_budget=8, students=["test_resnett"])
        with pytest.raises(InputError, match="test_resnett"):
            choose_student(made, splits_of(made), tmp_path)
        assert list(tmp_path.iterdir()) == []


class TestRun:
    """The finished run, gone on with under a budget."""

    @pytest.fixture
    def again(self, recipe: Path, run_folder, tmp_path):
        folder = shutil.copytree(run_folder, tmp_path / "run")
        settings = yaml.safe_load(recipe.read_text())
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**settings, "out": str(folder)}))
        return tmp_path / "recipe.yaml", folder

    def test_the_report_names_the_engine_and_a_budget_that_none_keeps_fails(self, edgepress, again):
        file, folder = again
        before = json.loads((folder / "report.json").read_text())
        first = edgepress("run", "--recipe", file, "--latency-budget", "60000ms")
        assert first.code == (0 if before["verdict"] == "pass" else 1), first.err
        found = json.loads((folder / "report.json").read_text())["latency_budget"]
        passing = [row["engine"] for row in before["engines"] if row["verdict"] == "pass"]
        assert found["ship"] in passing
        assert f"ship {found['ship']}" in first.err
        assert [row["student"] for row in found["students"]] == ["test_efficientnet"]
        # With the times of before: no student is within a millionth, and nothing is trained or reported.
        kept = (folder / "report.json").read_bytes()
        none = edgepress("run", "--recipe", file, "--latency-budget", "0.000001ms")
        assert none.code == 1  # a gate, as that after the training
        assert none.out.startswith("fail: no student is within 1e-06 ms: test_efficientnet: ")
        assert "Traceback" not in none.err
        assert (folder / "report.json").read_bytes() == kept
        # With other times the student passes, and its engines are over.
        over(folder / TIMES, test_efficientnet=0.0000005)
        second = edgepress("run", "--recipe", file, "--latency-budget", "0.000001ms")
        report = json.loads((folder / "report.json").read_text())
        assert (second.code, report["verdict"], report["latency_budget"]["ship"]) == (1, "fail", None)
        assert "fail: over the latency budget" in second.out
        assert "pass: over" not in second.out
        # Without a budget nothing is left of it, though every row is kept.
        third = edgepress("run", "--recipe", file)
        assert third.code == (0 if before["verdict"] == "pass" else 1), third.err
        after = json.loads((folder / "report.json").read_text())
        assert after["latency_budget"] is None
        assert after["engines"] == before["engines"]
