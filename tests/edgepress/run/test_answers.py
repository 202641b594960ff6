"""The verb stores an engine's answers, and every verb that learns takes the file as a teacher."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml

from edgepress.deploy.engines import open_engine
from edgepress.deploy.verify.verification import predict_split
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.metrics import mean_average_precision
from edgepress.multilabel.stored_answers import StoredAnswers

FLAGS = ("--backbone", "test_efficientnet", "--size", 32, "--width", 32, "--weights", "none", "--epochs", 1)


@pytest.fixture(scope="module")
def answers(edgepress, run_folder, tiny_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("answers") / "answers.npz"
    answer = edgepress("answers", run_folder / "onnx-fp32", "--data", tiny_data, "--out", out)
    assert (answer.code, answer.out.strip()) == (0, str(out)), answer.err
    return out


def test_the_logits_are_the_engine_s_for_every_picture(answers, run_folder, tiny_data):
    stored = StoredAnswers.read(answers)
    assert (stored.by_hash, len(stored.pictures)) == (True, 48)
    bundle = Bundle.open(run_folder / "onnx-fp32")
    assert stored.labels == bundle.labels
    with open_engine(bundle) as engine:
        for split in ("train", "val", "test"):
            data = load_dataset(tiny_data, split)
            np.testing.assert_allclose(stored.logits[stored.rows(data)], predict_split(engine, data), atol=1e-5)


def test_some_splits_and_unlabelled_pictures(edgepress, run_folder, tiny_data, tmp_path):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed; it writes Parquet")
    out = tmp_path / "answers.parquet"
    which = ("--splits", "val,train[:50%]", "--unlabelled", tiny_data / "test")
    answer = edgepress("answers", run_folder / "onnx-fp32", "--data", tiny_data, "--out", out, *which)
    assert answer.code == 0, answer.err
    part = load_dataset(tiny_data, "train[:50%]")
    assert len(StoredAnswers.read(out).pictures) == 12 + len(part) + 12


def test_a_student_is_distilled_from_the_file(edgepress, answers, tiny_data, tmp_path):
    answer = edgepress("distill", tiny_data, "--teacher", answers, "--out", tmp_path / "student", *FLAGS)
    assert answer.code == 0, answer.err
    assert (
        f"{answers}, a file of answers: dist 1 instead of review_kd and simkd, the default, which it cannot teach"
        in answer.err
    )
    assert answer.err.index("it learns by bce 1 from the labels, and by dist 1 from the teacher") < answer.err.index(
        "epoch"
    )
    facts = Bundle.open(tmp_path / "student").manifest.facts
    assert "dist" in facts.history[0].model_dump()
    assert [one.name for one in facts.teachers] == ["answers.npz"]


def test_run_and_compare_take_the_file(edgepress, answers, micro, tiny_data, tmp_path):
    values = {**micro, "data": str(tiny_data), "out": str(tmp_path / "run"), "teacher": str(answers)}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**values, "engines": ["onnx-fp32"]}))
    answer = edgepress("run", "--recipe", tmp_path / "recipe.yaml")
    assert answer.code in (0, 1), answer.err
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    row, test = report["engines"][0], load_dataset(tiny_data, "test")
    stored = StoredAnswers.read(answers)
    assert (row["engine"], row["bench"]) == ("teacher (answers)", None)
    assert row["mAP"] == pytest.approx(mean_average_precision(test.targets, stored.logits[stored.rows(test)]))
    assert report["teacher"]["backbone"] == "answers in teacher.npz"
    assert StoredAnswers.read(tmp_path / "run" / "teacher.npz").digest == stored.digest
    assert "answers in teacher.npz" in (tmp_path / "run" / "report.html").read_text()
    answer = edgepress(
        "compare", "--recipe", tmp_path / "recipe.yaml", "--out", tmp_path / "compare", "--methods", "kd"
    )
    assert answer.code == 0, answer.err


@pytest.mark.parametrize("verb", ["run", "distill"])
def test_answers_for_97_of_100_pictures_are_refused_with_the_names(bad, answers, micro, tiny_data, tmp_path, verb):
    whole, train = StoredAnswers.read(answers), load_dataset(tiny_data, "train")
    gone = {train.hashes()[row] for row in (3, 7, 20)}
    kept = [row for row, name in enumerate(whole.pictures) if name not in gone]
    arrays = {"pictures": np.array(whole.pictures)[kept], "labels": np.array(whole.labels.names)}
    np.savez(tmp_path / "some.npz", logits=whole.logits[kept], **arrays)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**micro, "data": str(tiny_data), "out": str(tmp_path / "r")}))
    arguments = {
        "run": ("--recipe", tmp_path / "recipe.yaml"),
        "distill": (tiny_data, "--out", tmp_path / "r", *FLAGS),
    }
    line = bad(verb, *arguments[verb], "--teacher", tmp_path / "some.npz")
    assert "answers for 21 of 24 pictures of 'train'; missing" in line
    assert all(f"0000{row}.jpg" in line for row in (3, 7))
    assert not (tmp_path / "r").exists()


def test_a_file_of_another_kind_is_refused(bad, run_folder, tiny_data, tmp_path):
    line = bad("answers", run_folder / "onnx-fp32", "--data", tiny_data, "--out", tmp_path / "answers.csv")
    assert "answers.csv: expected a file that ends in .npz or .parquet" in line
