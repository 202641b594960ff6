"""Finished teachers from elsewhere: run, compare, distill and finetune take the same ones, in the same words."""

from __future__ import annotations

import json
import shutil

import pytest
import timm
import torch
import yaml

from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.metrics import mean_average_precision

FLAGS = ("--backbone", "test_efficientnet", "--size", 32, "--width", 32, "--weights", "none", "--epochs", 1)


@pytest.fixture(scope="module")
def graph(edgepress, run_folder, tiny_data, tmp_path_factory):
    """The run's own student, as an ONNX file of somebody else's that was adopted."""
    folder = tmp_path_factory.mktemp("adopted")
    shutil.copyfile(run_folder / "onnx-fp32" / "model.onnx", folder / "big.onnx")
    labels = ("--labels", tiny_data / "labels.txt")
    answer = edgepress("adopt", folder / "big.onnx", "--data", tiny_data, *labels, "--out", folder / "big")
    assert answer.code == 0, answer.err
    return folder / "big"


@pytest.fixture(scope="module")
def checkpoint(edgepress, tiny_data, tmp_path_factory):
    """A checkpoint of timm that was adopted."""
    folder = tmp_path_factory.mktemp("timm")
    torch.manual_seed(3)
    torch.save(timm.create_model("test_efficientnet", num_classes=5).state_dict(), folder / "net.pth")
    whose = ("--backbone", "test_efficientnet", "--size", 32, "--labels", tiny_data / "labels.txt")
    answer = edgepress("adopt", folder / "net.pth", *whose, "--data", tiny_data, "--out", folder / "net")
    assert answer.code == 0, answer.err
    return folder / "net"


def recipe_of(micro, tiny_data, tmp_path, **more):
    values = {**micro, "data": str(tiny_data), "out": str(tmp_path / "run"), "engines": ["onnx-fp32"], **more}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    return tmp_path / "recipe.yaml"


def test_run_takes_a_graph_and_takes_what_it_can_teach(edgepress, micro, graph, tiny_data, tmp_path):
    answer = edgepress("run", "--recipe", recipe_of(micro, tiny_data, tmp_path, teacher=str(graph)))
    assert answer.code in (0, 1), answer.err
    assert "big, an ONNX graph: dist 1 instead of review_kd and simkd, the default" in answer.err
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert (report["recipe"]["distill"]["dist"], report["recipe"]["distill"]["review_kd"]) == (1, 0)
    assert report["teacher"]["backbone"] == "adopted from big.onnx"
    rows = {row["engine"]: row for row in report["engines"]}
    assert list(rows) == ["teacher (onnx)", "student (torch)", "onnx-fp32"]
    assert rows["teacher (onnx)"]["bench"] is not None
    copied, student = Bundle.open(tmp_path / "run" / "teacher"), Bundle.open(tmp_path / "run" / "student")
    assert (copied.manifest.kind, copied.manifest.role) == ("onnx", "teacher")
    assert student.manifest.parent == copied.as_parent
    assert "dist" in student.manifest.facts.history[0].terms
    test = load_dataset(tiny_data, "test")
    from edgepress.deploy.engines import open_engine
    from edgepress.deploy.verify.verification import predict_split

    with open_engine(graph) as engine:
        assert rows["teacher (onnx)"]["mAP"] == mean_average_precision(test.targets, predict_split(engine, test))
    card = (tmp_path / "run" / "cards" / "teacher.md").read_text()
    assert "It was trained before the run that measured it" in card
    assert "Distilled from" not in card
    assert "Distilled from adopted from big.onnx" in (tmp_path / "run" / "cards" / "student.md").read_text()


def test_run_takes_a_checkpoint_of_timm_with_the_terms_on_maps(edgepress, micro, checkpoint, tiny_data, tmp_path):
    answer = edgepress("run", "--recipe", recipe_of(micro, tiny_data, tmp_path, teacher=str(checkpoint)))
    assert answer.code in (0, 1), answer.err
    student = Bundle.open(tmp_path / "run" / "student")
    assert "review_kd" in student.manifest.facts.history[0].terms


def test_compare_takes_a_graph_and_leaves_out_what_it_cannot_teach(edgepress, micro, graph, tiny_data, tmp_path):
    methods = {"soft": {"kd": 1.0}, "shape": {"fitnet": 1.0}}
    recipe = recipe_of(micro, tiny_data, tmp_path, teacher=str(graph), methods=methods)
    answer = edgepress("compare", "--recipe", recipe)
    assert answer.code == 0, answer.err
    record = json.loads((tmp_path / "run" / "compare.json").read_text())
    on_answers = {"mse", "ps", "kd", "mld", "soft_bce", "dist", "refined"}
    assert {row["method"] for row in record["students"]} == {"alone", "ours", "soft", *on_answers}
    assert "left out, because they need what is inside the teacher: rkd, pkt, review_kd" in answer.err
    assert answer.err.count("dist 1 instead of") == 1
    refused = edgepress("--quiet", "compare", "--recipe", recipe, "--methods", "shape")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "fitnet needs what is inside it: name its feature maps (teacher_features), or set fitnet to 0" in refused.err


def test_distill_and_finetune_take_a_graph(edgepress, graph, tiny_data, tmp_path):
    answer = edgepress("distill", tiny_data, "--teacher", graph, "--out", tmp_path / "student", *FLAGS)
    assert answer.code == 0, answer.err
    assert "dist 1 instead of review_kd and simkd, the default" in answer.err
    which = ("--data", tiny_data, "--teacher", graph, "--epochs", 1, "--pictures", 8)
    answer = edgepress("finetune", tmp_path / "student", *which, "--out", tmp_path / "tuned")
    assert answer.code == 0, answer.err
    tuned = Bundle.open(tmp_path / "tuned").manifest.facts
    assert tuned.teachers == (Bundle.open(graph).as_parent,)


@pytest.mark.parametrize("verb", ["run", "compare", "distill", "finetune"])
def test_every_verb_says_how_a_file_becomes_a_teacher(bad, micro, run_folder, tiny_data, tmp_path, verb):
    shutil.copyfile(run_folder / "onnx-fp32" / "model.onnx", tmp_path / "big.onnx")
    teacher = ("--teacher", tmp_path / "big.onnx")
    arguments = {
        "distill": (tiny_data, *teacher, "--out", tmp_path / "student"),
        "finetune": (run_folder / "student", "--data", tiny_data, *teacher, "--out", tmp_path / "tuned"),
    }.get(verb, ("--recipe", recipe_of(micro, tiny_data, tmp_path, teacher=str(tmp_path / "big.onnx"))))
    command = f"edgepress adopt {tmp_path}/big.onnx --data {tiny_data} --out {tmp_path}/big"
    told = f"{tmp_path}/big.onnx: an ONNX file, and a teacher is a bundle; make one and give its folder: {command}"
    assert told in bad(verb, *arguments)
    assert {path.name for path in tmp_path.iterdir()} <= {"big.onnx", "recipe.yaml"}


def test_a_teacher_without_the_inside_is_refused_before_anything_is_trained(bad, micro, graph, tiny_data, tmp_path):
    recipe = recipe_of(micro, tiny_data, tmp_path, teacher=str(graph), distill={**micro["distill"], "cd": 1.0})
    assert "an ONNX graph teaches by its logits, but cd needs what is inside it" in bad("run", "--recipe", recipe)
    assert {path.name for path in tmp_path.iterdir()} == {"recipe.yaml"}
