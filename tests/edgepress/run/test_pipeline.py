"""run: one command from pictures to a report, and a second one that finds everything done."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sklearn.metrics import average_precision_score, f1_score

from edgepress.deploy.build import compile, export
from edgepress.deploy.engines import open_engine
from edgepress.deploy.verify.verification import predict_split
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.golden_answers import ANSWERS
from edgepress.run import quantize
from tests.clock import jump, scatter_dates

BUNDLES = {"teacher", "student", "onnx-fp32", "onnx-int8-onnxruntime", "openvino-fp32"}


@pytest.fixture(scope="module")
def report(run_folder: Path) -> dict[str, Any]:
    return json.loads((run_folder / "report.json").read_text())


@pytest.fixture(scope="module")
def rows(report) -> dict[str, dict[str, Any]]:
    return {row["engine"]: row for row in report["engines"]}


def test_the_folder_is_as_promised_and_nothing_else_is_left(run_folder):
    assert {path.name for path in run_folder.iterdir()} == BUNDLES | {
        "report.json",
        "report.html",
        "report.md",
        "cards",
        "plots",
    }
    assert {path.name for path in (run_folder / "plots").iterdir()} == {
        "int8-onnx-int8-onnxruntime.svg",
        *(f"{what}-{name}.svg" for what in ("reliability", "thresholds") for name in BUNDLES - {"teacher", "student"}),
    }
    for name in BUNDLES:
        Bundle.open(run_folder / name)


def test_a_loss_of_power_at_any_moment_leaves_the_old_or_the_new_one_whole(disk):
    assert disk.faults == []
    names = {path.name for path in disk.named}
    assert names >= BUNDLES | {"state.pt", "result.json", "report.json", "report.html", "report.md"}


def test_every_bundle_names_the_one_it_was_made_from(run_folder):
    parents = {name: Bundle.open(run_folder / name).open_parent() for name in BUNDLES}
    assert parents.pop("teacher") is None
    assert {name: parent.name for name, parent in parents.items()} == {
        "student": "teacher",
        "onnx-fp32": "student",
        "onnx-int8-onnxruntime": "onnx-fp32",
        "openvino-fp32": "onnx-fp32",
    }


def test_a_row_an_engine_with_everything_measured(rows, run_folder):
    assert list(rows) == ["teacher (torch)", "student (torch)", "onnx-fp32", "onnx-int8-onnxruntime", "openvino-fp32"]
    for name, row in rows.items():
        assert row["precision"] == ("int8" if "int8" in name else "fp32")
        assert row["size_bytes"] > 10_000
        assert 0 <= row["mAP"] <= 1
        # On a machine that is busy there may be too few calls for the tails.
        timing = row["bench"]["cells"][0]["model"]
        known = [timing[name] for name in ("p50_ms", "p90_ms", "p99_ms") if timing[name] is not None]
        assert known == sorted(known)
        assert row["p50_ms"] == timing["p50_ms"] > 0
        if "torch" not in name:
            assert row["verdict"] in ("pass", "fail", "unproven")
            (low, high), budget = row["verification"]["drop_interval"], row["verification"]["budget_points"]
            assert row["drop_points"] <= budget or row["verdict"] == "fail"
            assert low <= high <= budget or row["verdict"] in ("fail", "unproven")
            assert {label["label"] for label in row["labels"]} == set(Bundle.open(run_folder / name).labels.names)
            assert 0 <= row["flip_rate"] <= 1
            assert row["size_bytes"] == Bundle.open(run_folder / name).size_bytes
            assert row["digest"] == Bundle.open(run_folder / name).digest
    assert [rows[name]["verdict"] for name in ("teacher (torch)", "student (torch)")] == ["teacher", "reference"]
    assert [rows[name]["verdict"] for name in ("onnx-fp32", "openvino-fp32")] == ["pass", "pass"]


def test_thresholds_fitted_on_val_are_measured_on_test(rows, run_folder, tiny_data):
    onnx, int8 = (Bundle.open(run_folder / name) for name in ("onnx-fp32", "onnx-int8-onnxruntime"))
    assert onnx.decisions.fit.fingerprint == load_dataset(tiny_data, "val").fingerprint()
    assert int8.decisions.refitted_from == onnx.decisions
    assert int8.manifest.facts.decisions is not None
    assert rows["onnx-fp32"]["verification"]["flip_rate_kept"] is None
    assert 0 <= rows["onnx-int8-onnxruntime"]["verification"]["flip_rate_kept"] <= 1
    test = load_dataset(tiny_data, "test")
    with open_engine(onnx) as engine:
        answers = onnx.decisions.decide(predict_split(engine, test))
    measured = rows["onnx-fp32"]["decisions"]
    assert measured["macro_F1"] == pytest.approx(f1_score(test.targets, answers, average="macro", zero_division=0))
    assert measured.keys() >= {"macro_F1_at_half", "ece_before", "ece_after", "ece_pooled_after", "ece_by_chance"}


def test_its_maps_are_scikit_learns(rows, run_folder, tiny_data):
    test = load_dataset(tiny_data, "test")
    for row, folder in (("teacher (torch)", "teacher"), ("student (torch)", "student"), ("onnx-fp32", "onnx-fp32")):
        with open_engine(run_folder / folder) as engine:
            logits = predict_split(engine, test)
        assert np.ptp(logits) > 0
        assert rows[row]["mAP"] == pytest.approx(
            average_precision_score(test.targets, logits, average="macro"), abs=0.01
        )


def test_the_report_says_on_what_and_where(report, tiny_data, recipe):
    assert report["data"] == {
        "root": str(tiny_data),
        "labels": 5,
        "labels_counted": 5,
        "prevalence": pytest.approx(load_dataset(tiny_data, "test").targets.mean()),
        "train_pictures": 24,
        "val_pictures": 12,
        "test_pictures": 12,
        "splits": [{"split": split, "values": [], "notes": []} for split in ("train", "val", "test")],
        "passed_over": [],
    }
    assert report["student"]["backbone"] == report["teacher"]["backbone"] == "test_efficientnet"
    assert report["machine"]["cores"] >= 1
    given = yaml.safe_load(recipe.read_text())
    assert {key: report["recipe"][key] for key in ("data", "out")} == {key: given[key] for key in ("data", "out")}
    for section in ("teach", "distill", "quantize", "bench"):
        assert report["recipe"][section].items() >= given[section].items()


def test_verdict_exit_code_and_table_agree(first, report):
    failed = [row["engine"] for row in report["engines"] if row["verdict"] in ("fail", "unproven")]
    assert report["verdict"] == ("fail" if failed else "pass")
    assert first.code == bool(failed)
    assert "Traceback" not in first.err
    for word in (
        "engine",
        "precision",
        "mAP",
        "drop",
        "changed",
        "p50 ms",
        "p99 ms",
        "images/s",
        "verdict",
        "prevalence",
    ):
        assert word in first.out
    assert first.out.rstrip().endswith(f"report.html: {report['verdict']}")


def test_the_losses_are_told_by_name(first):
    for term in ("asl", "bce", "review_kd"):
        assert term in first.err


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith("report.")
    }


def test_a_second_run_keeps_everything_and_is_quick(edgepress, recipe, first, run_folder, report):
    before = snapshot(run_folder)
    again = edgepress("run", "--recipe", recipe)
    assert snapshot(run_folder) == before
    assert (again.code, again.out) == (first.code, first.out)
    assert json.loads((run_folder / "report.json").read_text()) == report
    assert again.err.count("unchanged, kept") == len(BUNDLES)
    assert again.seconds < first.seconds / 2


def test_a_clock_that_jumps_ahead_between_stages_changes_nothing(
    edgepress, recipe, run_folder, report, tmp_path, monkeypatch
):
    copy = Path(shutil.copytree(run_folder, tmp_path / "run"))
    before = {name: Bundle.open(copy / name) for name in BUNDLES}
    shutil.rmtree(copy / "openvino-fp32")
    scatter_dates(copy)
    jump(monkeypatch, 1)
    answer = edgepress("run", "--recipe", recipe, "--out", copy)
    assert answer.code in (0, 1), answer.err
    after = {name: Bundle.open(copy / name) for name in BUNDLES}
    made = after["openvino-fp32"].manifest
    assert {name for name in BUNDLES if after[name].digest != before[name].digest} == {"openvino-fp32"}
    assert made.files["model.bin"] == before["openvino-fp32"].manifest.files["model.bin"]
    assert made.created[:10] > before["openvino-fp32"].manifest.created[:10]  # the clock did jump
    again = json.loads((copy / "report.json").read_text())
    assert [row["mAP"] for row in again["engines"]] == [row["mAP"] for row in report["engines"]]
    assert 0 < again["engines"][-1]["p50_ms"] < 10_000


def test_a_changed_setting_makes_again_only_what_follows_from_it(edgepress, recipe, run_folder, tmp_path):
    copy = Path(shutil.copytree(run_folder, tmp_path / "run"))
    digests = {name: Bundle.open(copy / name).digest for name in BUNDLES}
    answer = edgepress("run", "--recipe", recipe, "--out", copy, "--quantize-pictures", "9", "--quantize-seed", "1")
    assert answer.code in (0, 1), answer.err
    changed = {name for name in BUNDLES if Bundle.open(copy / name).digest != digests[name]}
    assert changed == {"onnx-int8-onnxruntime"}


def test_other_thresholds_make_again_the_decisions_alone(edgepress, recipe, run_folder, tmp_path, monkeypatch):
    """Nothing is exported, compiled or quantised: every file stays, and INT8 gets what a new search would give it."""
    fresh = Path(shutil.copytree(run_folder, tmp_path / "fresh"))
    plain = ["--decisions-probabilities", "none", "--decisions-thresholds"]

    def searched_again(threshold: str) -> None:
        shutil.rmtree(fresh / "onnx-int8-onnxruntime")
        assert edgepress("run", "--recipe", recipe, "--out", fresh, *plain, threshold).code in (0, 1)

    searched_again("fixed=0.25")  # at both thresholds a search takes the same graph
    copy = Path(shutil.copytree(fresh, tmp_path / "run"))
    before = {name: Bundle.open(copy / name) for name in BUNDLES}
    flags = [*plain, "fixed=0.3"]
    with monkeypatch.context() as patch:
        for module, name in ((export, "_to_onnx"), (compile, "openvino_model"), (quantize, "quantize")):
            patch.setattr(module, name, lambda *_, name=name, **__: pytest.fail(f"{name} was called"))
        answer = edgepress("run", "--recipe", recipe, "--out", copy, *flags)
    assert answer.code in (0, 1), answer.err
    after = {name: Bundle.open(copy / name) for name in BUNDLES}
    assert {name for name in BUNDLES if after[name].digest != before[name].digest} == BUNDLES - {"teacher", "student"}
    for name in BUNDLES:  # the answers to the golden pictures follow from the decisions
        files = (dict(one[name].manifest.files) for one in (before, after))
        assert len({frozenset((file, sha) for file, sha in one.items() if file != ANSWERS) for one in files}) == 1
    for name in ("onnx-fp32", "openvino-fp32"):
        assert after[name].decisions.thresholds == (0.3,) * 5
        assert after[name].open_parent() is not None
    searched_again("fixed=0.3")
    searched, aligned = Bundle.open(fresh / "onnx-int8-onnxruntime"), after["onnx-int8-onnxruntime"]
    assert aligned.decisions == searched.decisions
    assert aligned.manifest.facts == searched.manifest.facts
    assert aligned.manifest.parent == after["onnx-fp32"].as_parent
    kept = edgepress("run", "--recipe", recipe, "--out", copy, *flags)
    assert kept.err.count("unchanged, kept") == len(BUNDLES)


@pytest.mark.parametrize("budget", [0, 100])
def test_a_drop_that_is_not_proven_within_the_budget_does_not_pass(
    edgepress, recipe, run_folder, rows, tmp_path, budget
):
    copy = Path(shutil.copytree(run_folder, tmp_path / "run"))
    answer = edgepress("run", "--recipe", recipe, "--out", copy, "--verify-int8", budget)
    report = json.loads((copy / "report.json").read_text())
    again = {row["engine"]: row for row in report["engines"]}
    allowed = {name: report["recipe"]["verify"][name] for name in ("fp32", "fp16", "int8")}
    assert allowed == {"fp32": 0.1, "fp16": 0.2, "int8": budget}
    assert again["onnx-fp32"] == rows["onnx-fp32"]  # its own budget is the same: measured once
    row = again["onnx-int8-onnxruntime"]
    low, high = row["verification"]["drop_interval"]
    assert row["verification"]["budget_points"] == budget
    if high <= budget:
        assert not any("mAP drops" in reason["text"] for reason in row["judgement"]["reasons"])
    else:
        assert row["verdict"] in ("fail", "unproven")
        assert (report["verdict"], answer.code) == ("fail", 1)
    assert f"({low:.2f} to {high:.2f})".replace("-", "\N{MINUS SIGN}") in answer.out
    table = [line for line in answer.out.splitlines() if ": " not in line]  # reasons are sentences of any length
    assert len(table) > len(rows)
    assert max(map(len, table)) <= 140


def test_a_damaged_bundle_is_made_again(edgepress, recipe, run_folder, tmp_path):
    copy = Path(shutil.copytree(run_folder, tmp_path / "run"))
    model = copy / "openvino-fp32" / "model.bin"
    model.write_bytes(model.read_bytes()[:-1] + b"\x55")
    answer = edgepress("run", "--recipe", recipe, "--out", copy)
    assert answer.code in (0, 1), answer.err
    again, before = (Bundle.open(folder / "openvino-fp32") for folder in (copy, run_folder))
    assert again.digest != before.digest
    assert (again.path / "model.bin").read_bytes() == (before.path / "model.bin").read_bytes()


def test_the_order_in_which_engines_are_named_changes_nothing(edgepress, recipe, run_folder, tmp_path):
    """INT8 was held to fp16's speed only where fp16 was named before it."""
    flags = ["--engines", "onnx-fp16,onnx-int8-onnxruntime,onnx-fp32"]
    copy = Path(shutil.copytree(run_folder, tmp_path / "run"))
    first = edgepress("run", "--recipe", recipe, "--out", copy, *flags)
    assert first.code in (0, 1), first.err
    before = (copy / "report.json").read_bytes()
    (int8,) = (row for row in json.loads(before)["engines"] if row["precision"] == "int8")
    assert int8["held_to"]["engine"] == "onnx-fp16"
    assert 0 < int8["held_to"]["ratio"]["low"] <= int8["held_to"]["ratio"]["ratio"] <= int8["held_to"]["ratio"]["high"]
    again = edgepress(
        "run", "--recipe", recipe, "--out", copy, "--engines", "onnx-int8-onnxruntime,onnx-fp32,onnx-fp16"
    )
    assert (copy / "report.json").read_bytes() == before
    assert (again.code, again.out) == (first.code, first.out)


def test_an_old_report_is_measured_again_and_nothing_is_trained(edgepress, recipe, run_folder, tmp_path):
    copy = Path(shutil.copytree(run_folder, tmp_path / "run"))
    (copy / "report.json").write_text('{"engines": [{"engine": "onnx-fp32", "verdict": "pass"}], "recipe": {}}')
    answer = edgepress("run", "--recipe", recipe, "--out", copy, "--engines", "onnx-fp32")
    assert answer.code == 0, answer.err
    assert answer.err.count("not a report that this version reads") == 1
    assert "epoch 1/1" not in answer.err
    assert json.loads((copy / "report.json").read_text())["engines"][-1]["verdict"] == "pass"
