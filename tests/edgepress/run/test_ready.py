"""What is known to be wrong is refused before anything takes time: weights that cannot be had."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from edgepress.compress import step_time
from edgepress.compress.config import DistillConfig
from edgepress.compress.distill import require_pretrained
from edgepress.multilabel.bundle import rewrite_bundle
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.errors import InputError
from edgepress.run import latency_budget

NO_WEIGHTS = "no pretrained weights for test_resnet: "
SMALL = ("--backbone", "test_resnet", "--size", 32, "--epochs", 1)


def too_late(*given: Any, **more: Any) -> None:
    raise AssertionError("this takes time, and comes after what is refused")


@pytest.mark.parametrize(
    "verb",
    [
        ("run", "--engines", "onnx-fp32", "--latency-budget", "60000ms", "--students", "test_resnet,test_efficientnet"),
        ("tune", "--time-budget", "1h", "--distill-backbone", "test_resnet"),
        ("compare", "--methods", "alone", "--distill-backbone", "test_resnet"),
    ],
    ids=lambda verb: verb[0],
)
def test_weights_that_cannot_be_had_are_told_before_students_are_timed_or_trained(
    edgepress, micro, tiny_data, tmp_path, monkeypatch, verb
):
    """A test never reaches a hub."""
    monkeypatch.setattr(latency_budget, "time_student", too_late)
    monkeypatch.setattr(step_time, "step_seconds", too_late)
    distill = {key: value for key, value in micro["distill"].items() if key not in ("backbone", "weights")}
    settings = {**micro, "data": str(tiny_data), "out": str(tmp_path / "run"), "distill": distill}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings))
    told = edgepress(verb[0], "--recipe", tmp_path / "recipe.yaml", *verb[1:])
    assert told.code == 2
    assert NO_WEIGHTS in told.err
    assert not list((tmp_path / "run").glob("*/*"))


@pytest.mark.parametrize("verb", ["teach", "distill"])
def test_weights_that_cannot_be_had_are_told_before_pictures_are_read(
    edgepress, tiny_data, tmp_path, monkeypatch, verb
):
    monkeypatch.setattr(MultiLabelDataset, "check_pictures", too_late)
    alone = ("--preset", "alone") if verb == "distill" else ()
    told = edgepress(verb, tiny_data, "--out", tmp_path / "made", *SMALL, *alone)
    assert told.code == 2
    assert NO_WEIGHTS in told.err
    told = edgepress(verb, tiny_data, "--val", "nowhere", "--out", tmp_path / "made", *SMALL, *alone)
    assert "no split 'nowhere'" in told.err  # a hub may answer slowly, and labels are read at once
    assert NO_WEIGHTS not in told.err


def test_what_may_be_kept_needs_no_weights(student, tmp_path):
    """A finished bundle that began with them goes on to be kept where no hub answers."""
    config = DistillConfig(backbone="test_resnet", size=32)
    facts = student.manifest.facts.model_copy(update={"training": config.model_dump(mode="json")})
    kept = rewrite_bundle(student, tmp_path / "student", facts=facts)
    require_pretrained(config, [tmp_path, kept.path])
    with pytest.raises(InputError, match=NO_WEIGHTS):
        require_pretrained(config, [tmp_path, student.path])
    (kept.path / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match=NO_WEIGHTS):
        require_pretrained(config, [kept.path])
