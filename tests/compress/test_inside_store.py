"""What lies inside a teacher is kept where there is room for it."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

from edgepress.compress.config import DistillConfig, TeachConfig
from edgepress.compress.distill import answers_of, distill, teach
from edgepress.multilabel.datasets import load_dataset

SMALL = {"backbone": "test_efficientnet", "width": 32, "weights": "none", "batch_size": 8, "workers": 0, "epochs": 2}


def test_a_disk_without_room_leaves_the_teacher_beside_the_student_and_says_so(
    tiny_data, tmp_path, monkeypatch, caplog
):
    train, val = load_dataset(tiny_data, "train"), load_dataset(tiny_data, "val")
    teacher = teach(train, val, TeachConfig(**SMALL, size=32), tmp_path / "teacher")
    config = DistillConfig(**SMALL, size=32, variations=1)
    free = [0]
    caplog.set_level("INFO", logger="edgepress")
    monkeypatch.setattr("edgepress.compress.inside_store.shutil.disk_usage", lambda _: SimpleNamespace(free=free[0]))

    def kept(name: str) -> int:
        caplog.clear()
        distill(train, val, teacher, config, tmp_path / name)
        return len(list(answers_of(tmp_path / name).rglob("*.inside")))

    assert kept("live") == 0
    assert "the teacher runs beside the student, because what lies inside it would take 1 MB for 1 variation of 24" in (
        caplog.text
    )
    free[0] = 10**9
    assert kept("student") == 1
    assert "what lies inside the teacher is kept as well: 1 MB for 1 variation of 24 pictures" in caplog.text
    free[0] = 0
    shutil.rmtree(tmp_path / "student")
    assert kept("student") == 1  # and nothing of it is lacking
    assert "inside" not in caplog.text
