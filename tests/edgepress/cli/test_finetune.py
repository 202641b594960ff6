"""finetune: the verb makes a student of a student, beside which the first one stays as it was."""

from __future__ import annotations

from edgepress.multilabel.bundle import Bundle


def test_a_student_is_trained_on(edgepress, run_folder, tiny_data, tmp_path):
    student = Bundle.open(run_folder / "student")
    settings = ("--epochs", "1", "--pictures", "8", "--workers", "0")
    answer = edgepress(
        "finetune", student.path, "--data", tiny_data, "--teacher", run_folder / "teacher", "--out", tmp_path / "tuned",
        *settings,
    )  # fmt: skip
    assert answer.code == 0, answer.err
    tuned = Bundle.open(tmp_path / "tuned", kind="torch")
    assert answer.out.strip() == str(tuned.path)
    assert tuned.digest != student.digest
    assert tuned.manifest.architecture == student.manifest.architecture
    assert Bundle.open(run_folder / "student").digest == student.digest


def test_an_engine_is_no_student(bad, run_folder, tiny_data, tmp_path):
    said = bad("finetune", run_folder / "onnx-fp32", "--data", tiny_data, "--out", tmp_path / "tuned")
    assert "a bundle of kind onnx; expected torch" in said
    assert not (tmp_path / "tuned").exists()
