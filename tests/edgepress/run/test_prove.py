"""Results of a run: what is measured is kept while it is the same, and says only what holds for this run."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgepress.deploy.build.reference import REFERENCE, Reference
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.confidence import Scored, drop_interval
from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.errors import EngineUnavailableError
from edgepress.multilabel.judgement import Reason
from edgepress.multilabel.metrics import mean_average_precision
from edgepress.run import prove
from edgepress.run.build import Built
from edgepress.run.finetune import FINETUNED
from edgepress.run.prove import prove_engine, prove_model, student_drop
from edgepress.run.recipe import Recipe
from edgepress.run.result import EngineResult
from edgepress.run.run_report import earlier_results, read_report
from tests.edgepress.run.test_run_report import rewritten


def built(bundle: Bundle, **more: object) -> Built:
    given = {"name": bundle.name, "precision": bundle.manifest.precision, "required": False, "held_to": ()}
    return Built(**{**given, "bundle": bundle, **more})


@pytest.fixture
def settings(tiny_data: Path) -> Recipe:
    return Recipe.parse({"data": str(tiny_data), "bench": {"seconds": 0.05}}, "recipe")


def test_an_engine_that_was_refused_is_tried_again(run_folder, tiny_data, settings, tmp_path):
    """What refused it may be another runtime by now, or may not have been the engine at all."""
    test = load_dataset(tiny_data, "test")
    onnx, pictures = Bundle.open(run_folder / "onnx-fp32"), [path.read_bytes() for path in test.paths[:2]]
    first = prove_engine(built(onnx), onnx, test, settings, pictures, {})
    report = read_report(run_folder)
    kept = earlier_results(rewritten(tmp_path, report, first))
    assert prove_engine(built(onnx), onnx, test, settings, pictures, kept) == first  # and nothing was timed again
    refused = EngineResult(
        engine=first.engine, precision="fp32", key=first.key, refusal=Reason(kind="model", text="cannot load it")
    )
    again = prove_engine(
        built(onnx), onnx, test, settings, pictures, earlier_results(rewritten(tmp_path, report, refused))
    )
    assert again.refusal is None
    assert again.p50_ms > 0


def test_a_kept_torch_result_has_the_name_of_its_place_now(run_folder, tiny_data, settings, tmp_path):
    """Two adopted teachers may change places, and a student may become a teacher."""
    test = load_dataset(tiny_data, "test")
    onnx, teacher = Bundle.open(run_folder / "onnx-fp32"), Bundle.open(run_folder / "teacher")
    pictures = [path.read_bytes() for path in test.paths[:2]]
    first = prove_model("teacher-2", "teacher", teacher, onnx, test, settings, pictures, {})
    kept = earlier_results(rewritten(tmp_path, read_report(run_folder), first))
    again = prove_model("teacher", "teacher", teacher, onnx, test, settings, pictures, kept)
    assert (first.engine, again.engine) == ("teacher-2 (torch)", "teacher (torch)")
    assert again == first.model_copy(update={"engine": "teacher (torch)"})  # and nothing was timed again
    assert prove_model("student", "student", teacher, onnx, test, settings, pictures, kept).verdict == "reference"


def test_a_fine_tuned_engine_that_cannot_run_here_keeps_its_bundles_name(
    run_folder, tiny_data, settings, monkeypatch, tmp_path
):
    """A host may run it, and then its bundle is the one to ship."""
    tuned = Bundle.open(shutil.copytree(run_folder / "onnx-fp32", tmp_path / f"onnx-fp32{FINETUNED}"))

    def refused(*_, **__):
        raise EngineUnavailableError("not here")

    monkeypatch.setattr(prove, "verify", refused)
    made = built(tuned, name="onnx-fp32", finetuned=True)
    found = prove_engine(made, tuned, load_dataset(tiny_data, "test"), settings, [], {})
    assert (found.refusal.kind, found.engine, found.bundle) == ("machine", "onnx-fp32", tuned.name)
    assert found.finetuned


def test_an_engine_that_was_not_built_has_the_reason(run_folder, tiny_data, settings):
    onnx = Bundle.open(run_folder / "onnx-fp32")
    reason = Reason(kind="build", text="no TensorRT here")
    made = replace(built(onnx), name="tensorrt-fp16-sm86", bundle=None, refusal=reason)
    found = prove_engine(made, onnx, load_dataset(tiny_data, "test"), settings, [], {})
    assert (found.engine, found.bundle, found.refusal) == ("tensorrt-fp16-sm86", None, reason)


def test_the_drop_of_a_fine_tuned_engine_is_measured_from_the_student(run_folder, tiny_data):
    onnx, test = Bundle.open(run_folder / "onnx-fp32"), load_dataset(tiny_data, "test")
    student = Reference.load(onnx.path / REFERENCE).logits
    logits = student + np.random.default_rng(0).normal(0, np.ptp(student), student.shape).astype(np.float32)
    scored = [Scored(test.targets, one, test.ignore) for one in (student, logits)]
    before, after = (mean_average_precision(*one) for one in scored)
    found = student_drop(logits, onnx, test)
    assert found.points == pytest.approx(100 * (before - after))
    assert found.interval == drop_interval(*scored)
