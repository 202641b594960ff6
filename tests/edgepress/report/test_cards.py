"""Model cards: what a run measured of a bundle, and nothing else."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgepress.multilabel.bundle import Bundle, rewrite_bundle
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.label_groups import LabelGroups
from edgepress.report.cards import card
from tests.edgepress.conftest import typed

GRAPH, INT8 = "onnx-fp32", "onnx-int8-onnxruntime"


def front_matter(text: str) -> dict[str, Any]:
    _, front, _ = text.split("---\n", 2)
    return yaml.safe_load(front)


def test_a_run_writes_a_card_for_every_bundle(run_folder, report, tiny_data):
    names = {"teacher", "student", *(row["engine"] for row in report["engines"] if "torch" not in row["engine"])}
    assert {path.name for path in (run_folder / "cards").iterdir()} == {f"{name}.md" for name in names}
    for row in report["engines"]:
        text = (run_folder / "cards" / f"{row['engine'].removesuffix(' (torch)')}.md").read_text()
        (model,) = front_matter(text)["model-index"]
        (result,) = model["results"]
        assert result["metrics"][0]["value"] == round(row["mAP"], 4)
        assert result["dataset"]["name"] == tiny_data.name
        assert "license" not in front_matter(text)
        assert f"{100 * row['mAP']:.2f} points" in text
        assert row["digest"] in text
        for heading in ("Intended use", "Labels and thresholds", "Training", "Measured", "Limits", "How to reproduce"):
            assert f"\n## {heading}\n" in text


def test_an_adopted_teacher_is_not_said_to_have_learnt_here(run_folder, report):
    teacher, adopted = Bundle.open(run_folder / "teacher"), copy.deepcopy(report)
    assert "pictures taught" in card(teacher, typed(report))
    adopted["recipe"]["teacher"] = ["elsewhere/teacher"]
    text = card(teacher, typed(adopted))
    assert "pictures taught" not in text
    assert "It was trained before the run that measured it" in text
    assert f"Trained on {teacher.manifest.facts.pictures} pictures." in text
    assert "pictures taught" in card(Bundle.open(run_folder / "student"), typed(adopted))


def test_the_verb_writes_the_same_card_and_the_bundle_stays_whole(edgepress, run_folder, tmp_path):
    folder = Path(shutil.copytree(run_folder, tmp_path / "run"))
    bundle = folder / "onnx-int8-onnxruntime"
    answer = edgepress("card", bundle, "--out", bundle / "README.md")
    assert answer.code == 0, answer.err
    assert (bundle / "README.md").read_bytes() == (run_folder / "cards" / "onnx-int8-onnxruntime.md").read_bytes()
    assert Bundle.open(bundle).digest == Bundle.open(run_folder / "onnx-int8-onnxruntime").digest


def test_without_a_report_nothing_is_claimed(edgepress, run_folder, tmp_path):
    alone = Path(shutil.copytree(run_folder / "onnx-fp32", tmp_path / "alone"))
    answer = edgepress("card", alone)
    assert answer.code == 0, answer.err
    assert "model-index" not in front_matter(answer.out)
    assert "no report of a run was given" in answer.out


def test_a_report_of_other_bundles_is_refused(bad, run_folder, tmp_path):
    other = json.loads((run_folder / "report.json").read_text())
    for row in (*other["engines"], other["student"]):
        row["digest"] = "0" * 64
    (tmp_path / "report.json").write_text(json.dumps(other))
    said = bad("card", run_folder / "onnx-fp32", "--report", tmp_path)
    assert said.startswith(f"edgepress: {run_folder / 'onnx-fp32'}: the report has no row of this bundle")


@pytest.fixture
def folder(run_folder, tmp_path) -> Path:
    """The folder of a run, which a test may change."""
    return Path(shutil.copytree(run_folder, tmp_path / "run"))


@pytest.fixture
def few(report) -> dict[str, Any]:
    """The report without the rows of the graph of the student and of its INT8 graph."""
    known = copy.deepcopy(report)
    known["engines"] = [row for row in known["engines"] if row["engine"] not in (GRAPH, INT8)]
    return known


def changed(bundle: Path, out: Path | None = None) -> Bundle:
    """Another bundle of the same parent: as if it were made again with other settings."""
    opened = Bundle.open(bundle)
    facts = opened.manifest.facts.model_copy(update={"calibrated_from": opened.digest})
    return rewrite_bundle(opened, out or bundle, decisions=opened.decisions, facts=facts)


def test_what_was_made_from_a_run_s_student_and_not_measured_has_a_card_that_says_so(folder, few):
    measured = ", ".join(row["engine"] for row in few["engines"])
    for name in (GRAPH, INT8):  # of the student, and of the graph beside it
        text = card(Bundle.open(folder / name), typed(few))
        said = f"made from the student of a run, which measured {measured}, as they were then, and not this one."
        assert f"Nothing: this bundle was {said}" in text
        assert "model-index" not in front_matter(text)
        assert "The student that it was made from: data set" in text
        assert "For the student that it was made from: edgepress " in text
    shutil.rmtree(folder / GRAPH)
    with pytest.raises(InputError, match="the report has no row of this bundle"):
        card(Bundle.open(folder / INT8), typed(few))


def test_another_content_of_a_measured_bundle_s_name_is_not_what_was_measured(folder, report):
    text = card(changed(folder / INT8), typed(report))
    assert "as they were then, and not this one" in text
    assert "model-index" not in front_matter(text)
    assert " points" not in text.split("## Measured")[1].split("##")[0]


def test_another_run_s_student_of_the_same_teacher_is_not_of_this_run(folder, report, few):
    student, graph = changed(folder / "student"), Bundle.open(folder / GRAPH)
    assert student.manifest.parent.digest in {row["digest"] for row in report["engines"]}  # its teacher was measured
    for known in (report, few):
        with pytest.raises(InputError, match="not made from the student of the report either"):
            card(student, typed(known))
    others = copy.deepcopy(few)  # the report of a run with the same teacher and another student
    others["student"]["digest"] = student.digest
    others["engines"] = [row for row in others["engines"] if row["role"] == "teacher"]
    with pytest.raises(InputError, match="not made from the student of the report either"):
        card(graph, typed(others))


def test_a_data_set_whose_name_is_markup_stays_text(run_folder, report):
    hurt = copy.deepcopy(report)
    hurt["data"]["root"] = "/data/evil: [x]\n---\n# hit <b>"
    text = card(Bundle.open(run_folder / "onnx-fp32"), typed(hurt))
    assert front_matter(text)["model-index"][0]["results"][0]["dataset"]["name"] == "evil: [x] --- # hit <b>"
    assert "\n# hit" not in text.split("---\n\n", 1)[1].split("## How to reproduce")[0]


def test_the_card_of_a_fine_tuned_engine_says_what_its_drop_is_from(run_folder, report):
    bundle, tuned = Bundle.open(run_folder / "onnx-int8-onnxruntime"), copy.deepcopy(report)
    row = next(row for row in tuned["engines"] if row["digest"] == bundle.digest)
    row |= {"student_drop": {"points": 1.25, "interval": (0.5, 2.0)}, "finetuned": True}
    said = "in points (95 % interval): 1.25 (0.50 to 2.00), fine-tuned"
    assert f"Drop against the student, {said}" in card(bundle, typed(tuned))
    assert "Drop against the model it was made from, " in card(bundle, typed(report))


def test_label_groups_are_told_and_their_labels_have_no_threshold(run_folder, tmp_path):
    bundle = Bundle.open(run_folder / "onnx-fp32")
    groups = LabelGroups(one_of=(("red", "green"),), at_most_one_of=(("circle", "bars"),), implies={"bars": ("blue",)})
    decisions = bundle.decisions.model_copy(update={"groups": groups})
    text = card(rewrite_bundle(bundle, tmp_path / "grouped", decisions=decisions), None)
    assert "Exactly one is answered yes of red, green." in text
    assert "At most one is answered yes of circle, bars." in text
    assert "Where bars is answered yes, so is blue." in text
    assert text.count("most probable") == 2
