"""The ablation: a student without its teacher, and what distillation, INT8 and thresholds change after it."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from edgepress.compress.checkpoint import load_model
from edgepress.compress.config import DistillConfig
from edgepress.compress.methods import PRESETS
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.metrics import mean_average_precision, sigmoid
from edgepress.run.ablation import STUDENT_ALONE, ablation, without_teacher
from edgepress.run.run_report import read_report


@pytest.fixture(scope="module")
def ablated(edgepress, micro, tiny_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("ablated")
    values = {**micro, "data": str(tiny_data), "out": str(out / "run"), "ablation": True}
    (out / "recipe.yaml").write_text(yaml.safe_dump(values | {"engines": ["onnx-int8-onnxruntime"]}))
    return out, edgepress("run", "--recipe", out / "recipe.yaml")


def test_a_run_tells_what_each_step_changes(ablated, tiny_data):
    out, answer = ablated
    assert answer.code in (0, 1), answer.err
    report = read_report(out / "run")
    steps = {step.name: step for step in ablation(report)}
    assert list(steps) == ["teacher", "labels alone", "+ distillation", "+ INT8", "+ thresholds"]
    alone, student = (Bundle.open(out / "run" / name) for name in (STUDENT_ALONE, "student"))
    assert steps["labels alone"].result.digest == alone.digest
    assert alone.manifest.facts.teachers == ()
    told = [one.manifest.facts.training for one in (alone, student)]
    differ = {name for name in told[0] if told[0][name] != told[1][name]}
    assert differ == {"preset", "review_kd", "simkd", "inherit_head"}
    # Test is read with the weights on disk, and a yes is a probability of at least one half.
    import torch

    test, model = load_dataset(tiny_data, "test"), load_model(alone.path)
    with torch.inference_mode():
        logits = model.logits(torch.from_numpy(np.stack([model.preprocess.load(path) for path in test.paths]))).numpy()
    step = steps["labels alone"]
    assert step.result.mAP == pytest.approx(mean_average_precision(test.targets, logits), abs=1e-6)
    yes, shown = sigmoid(logits) >= 0.5, test.targets == 1
    f1 = 2 * (yes & shown).sum(axis=0) / (yes.sum(axis=0) + shown.sum(axis=0))
    assert step.macro_F1 == pytest.approx(float(f1.mean()), abs=1e-6)
    assert steps["+ INT8"].result is steps["+ thresholds"].result
    decisions = steps["+ INT8"].result.decisions
    assert (steps["+ INT8"].macro_F1, steps["+ thresholds"].macro_F1) == (
        decisions.macro_F1_at_half, decisions.macro_F1)  # fmt: skip


def test_the_card_of_the_student_alone_claims_no_distillation(edgepress, ablated):
    out, _ = ablated
    cards = {name: edgepress("card", out / "run" / name).out for name in (STUDENT_ALONE, "student")}
    assert ["knowledge-distillation" in card for card in cards.values()] == [False, True]
    assert "Trained on the labels alone, by no teacher" in cards[STUDENT_ALONE]
    assert "Made from the bundle" not in cards[STUDENT_ALONE]


def test_the_steps_are_printed_and_written(ablated):
    out, answer = ablated
    lines = [line.split() for line in answer.out.splitlines()]
    start = next(row for row, words in enumerate(lines) if words[:2] == ["labels", "alone"])
    assert lines[start][2:4] == [STUDENT_ALONE, "(torch)"]
    assert "What each step changes" in (out / "run" / "report.md").read_text()
    assert "What each step changes" in (out / "run" / "report.html").read_text()


def test_an_ablation_without_a_teacher_is_refused(edgepress, micro, tiny_data, tmp_path):
    values = {**micro, "data": str(tiny_data), "out": str(tmp_path / "run"), "ablation": True}
    values["distill"] = {**micro["distill"], "preset": "alone"}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    answer = edgepress("run", "--recipe", tmp_path / "recipe.yaml")
    assert answer.code == 2
    assert "ablation compares the student with one that learns alone, and distill has no teacher" in answer.err


@pytest.mark.parametrize("preset", sorted(set(PRESETS) - {"alone"}))
def test_every_method_has_a_student_alone(preset):
    taught = DistillConfig(preset=preset, teacher_mirrored=True, unlabelled="pictures")
    alone = without_teacher(taught)
    assert not alone.taught
    assert (alone.auxiliary, alone.unlabelled, alone.teacher_mirrored) == ("none", None, False)
    kept = ("task", "mixup", "epochs", "lr", "size", "augment", "seed")
    assert [getattr(alone, name) for name in kept] == [getattr(taught, name) for name in kept]


def test_labels_without_a_weight_are_refused_before_a_training(bad, micro, tiny_data, tmp_path):
    values = {**micro, "data": str(tiny_data), "out": str(tmp_path / "run"), "ablation": True}
    values["distill"] = {**micro["distill"], "task": 0.0, "mld": 1.0}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    assert "on the labels alone, and distill.task is 0" in bad("run", "--recipe", tmp_path / "recipe.yaml")
    assert not (tmp_path / "run").exists()
