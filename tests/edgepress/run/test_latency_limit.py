"""A latency budget: which student is trained, and which engine is named to be shipped."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgepress.compress.gather import process_state
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import InputError
from edgepress.run.latency_limit import TIMES, OverBudgetError, choose_engine, choose_student, val_map
from edgepress.run.latency_limit import _read as read_times
from edgepress.run.pipeline import splits_of
from edgepress.run.recipe import Recipe

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


@pytest.mark.parametrize(
    ("given", "kept"), [("8ms", 8.0), ("8.5 ms", 8.5), ("8", 8.0), (8, 8.0), (0.25, 0.25), (None, None)]
)
def test_a_budget_is_milliseconds(settings, given, kept):
    made = recipe(settings, latency_budget=given)
    assert made.latency_budget_ms == kept
    assert (
        Recipe.parse(made.model_dump(mode="json", exclude={"distill"}) | {"data": "x"}, "again").latency_budget_ms
        == kept
    )


@pytest.mark.parametrize("given", ["", "0", "0ms", "-1", "8s", "ms", "8 8", "nan", "inf", True, [8]])
def test_what_is_no_time_is_refused(settings, given):
    with pytest.raises(InputError, match="expected milliseconds, such as 8ms"):
        recipe(settings, latency_budget=given)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"students": ["test_resnet"]}, "students is for a latency budget"),
        ({"host": "user@jetson"}, "host is for a latency budget"),
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
        chosen, rows = choose_student(made, splits_of(made), tmp_path)
        assert chosen.distill.backbone == taken
        assert chosen.distill.size == made.distill.size
        assert [row["student"] for row in rows] == list(STUDENTS[: 1 + STUDENTS.index(taken)])
        assert (tmp_path / TIMES).read_bytes() == before  # nothing was timed again

    def test_another_process_of_a_launch_takes_the_times_of_the_main_one(self, settings, timed, tmp_path, monkeypatch):
        """Also of an engine that failed on the host, which the main process alone tries again."""
        rows = json.loads((timed[0] / TIMES).read_text())
        rows[0]["engines"] = {"onnx-fp32": {"p50_ms": 7.0}, "onnx-fp16": {"reason": "no room"}}
        (tmp_path / TIMES).write_text(json.dumps(rows))
        monkeypatch.setattr(process_state(), "process_index", 1)
        made = recipe(settings, latency_budget=8, students=STUDENTS, host="nobody@host.invalid")
        chosen, seen = choose_student(made, splits_of(made), tmp_path)
        assert (chosen.distill.backbone, seen) == ("test_resnet", rows[:1])
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
        assert read_times(tmp_path) == []
        (tmp_path / TIMES).write_text(whole)
        assert read_times(tmp_path) == json.loads(whole)

    def test_odd_times_are_taken_again(self, settings, timed, tmp_path):
        (tmp_path / TIMES).write_text("[1]")
        made = recipe(settings, latency_budget=60_000, students=STUDENTS)
        chosen, rows = choose_student(made, splits_of(made), tmp_path)
        assert chosen.distill.backbone == "test_resnet"
        assert json.loads((tmp_path / TIMES).read_text()) == rows

    def test_without_a_budget_nothing_is_timed(self, settings, tmp_path):
        made = recipe(settings)
        assert choose_student(made, splits_of(made), tmp_path) == (made, [])
        assert list(tmp_path.iterdir()) == []

    def test_a_student_that_nobody_knows_is_told(self, settings, tmp_path):
        made = recipe(settings, latency_budget=8, students=["test_resnett"])
        with pytest.raises(InputError, match="test_resnett"):
            choose_student(made, splits_of(made), tmp_path)
        assert list(tmp_path.iterdir()) == []


class TestEngine:
    """What is chosen of a finished run, with times and verdicts of our own."""

    @pytest.fixture
    def chosen(self, run_folder, settings):
        rows = [
            row
            for row in json.loads((run_folder / "report.json").read_text())["engines"]
            if "torch" not in row["engine"]
        ]
        built = {row["engine"]: Bundle.open(run_folder / row["engine"]) for row in rows}
        student = Bundle.open(run_folder / "student")

        def choose(**seen: tuple[str, float]) -> tuple[dict[str, Any], dict[str, list[str]]]:
            for row in rows:
                row["verdict"], row["p50_ms"] = seen[row["engine"].split("-")[0] + row["precision"]]
            made = recipe(settings, latency_budget=8)
            answer = choose_engine(made, rows, built, student, splits_of(made).test)
            return answer, {row["engine"]: row["reasons"] for row in rows}

        return choose

    def test_the_best_on_val_and_of_equals_the_faster(self, chosen, run_folder):
        bundles = {
            name: Bundle.open(run_folder / name) for name in ("onnx-fp32", "openvino-fp32", "onnx-int8-onnxruntime")
        }
        student = Bundle.open(run_folder / "student")
        values = {name: val_map(bundle, student) for name, bundle in bundles.items()}
        assert values["onnx-fp32"] == values["openvino-fp32"] == student.manifest.facts["val_mAP"]
        int8 = bundles["onnx-int8-onnxruntime"].manifest.calibration
        assert values["onnx-int8-onnxruntime"] == int8.val_mAP
        answer, reasons = chosen(onnxfp32=("pass", 5.0), openvinofp32=("pass", 3.0), onnxint8=("pass", 1.0))
        best = max(values, key=lambda name: (values[name], {"onnx-fp32": -5, "openvino-fp32": -3}.get(name, -1)))
        assert answer["ship"] == best
        assert answer["val_mAP"] == values[best]
        assert not any("latency budget" in reason for told in reasons.values() for reason in told)

    def test_an_engine_over_the_budget_is_told_and_not_shipped(self, chosen):
        times = {"onnxfp32": ("pass", 9.25), "openvinofp32": ("fail", 1.0), "onnxint8": ("pass", 8.0)}
        answer, reasons = chosen(**times)
        assert (answer["ship"], answer["p50_ms"]) == ("onnx-int8-onnxruntime", 8.0)
        told = [reason for reason in reasons["onnx-fp32"] if "latency budget" in reason]
        assert told == ["over the latency budget: p50 is 9.25 ms, 8 ms are allowed"]
        assert not any("latency budget" in reason for reason in reasons["onnx-int8-onnxruntime"])

    def test_where_none_is_left_none_is_shipped(self, chosen):
        answer, _ = chosen(onnxfp32=("pass", 9.0), openvinofp32=("fail", 1.0), onnxint8=("unproven", 1.0))
        assert answer["ship"] is None

    def test_what_is_shipped_is_called_as_its_bundle(self, run_folder, settings, tmp_path):
        """Not as its row: of INT8 it may be the fine-tuned student's."""
        bundle = Bundle.open(shutil.copytree(run_folder / "onnx-fp32", tmp_path / "onnx-fp32-finetuned"))
        rows = [{"engine": "onnx-fp32", "verdict": "pass", "p50_ms": 1.0}]
        made, student = recipe(settings, latency_budget=8), Bundle.open(run_folder / "student")
        answer = choose_engine(made, rows, {"onnx-fp32": bundle}, student, splits_of(made).test)
        assert answer["ship"] == "onnx-fp32-finetuned"


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
        none = edgepress("run", "--recipe", file, "--latency-budget", "0.000001")
        assert none.code == 1  # a gate, as that after the training
        assert none.out.startswith("fail: no student is within 1e-06 ms: test_efficientnet: ")
        assert "Traceback" not in none.err
        assert (folder / "report.json").read_bytes() == kept
        # With other times the student passes, and its engines are over.
        over(folder / TIMES, test_efficientnet=0.0000005)
        second = edgepress("run", "--recipe", file, "--latency-budget", "0.000001")
        report = json.loads((folder / "report.json").read_text())
        assert (second.code, report["verdict"], report["latency_budget"]["ship"]) == (1, "fail", None)
        assert "over the latency budget" in second.out
        # Without a budget nothing is left of it, though every row is kept.
        third = edgepress("run", "--recipe", file)
        assert third.code == (0 if before["verdict"] == "pass" else 1), third.err
        after = json.loads((folder / "report.json").read_text())
        assert "latency_budget" not in after
        assert after["engines"] == before["engines"]
