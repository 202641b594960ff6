"""Fitted decisions on their way: from export or `calibrate` into bundles, INT8 and verify, predict and plots."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from edgepress import open_engine, open_tagger
from edgepress.calibration.decide.thresholds import align_decisions, fit_decisions
from edgepress.deploy.build.export import export_onnx, torch_logits
from edgepress.deploy.verify.verification import predict_split, verify
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.decisions import changed_share
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.facts import DecisionsChanged
from edgepress.run.build import calibrate_bundle, compile_bundle, decided, export_student, quantize_bundle
from edgepress.run.recipe import CompileConfig, DecisionsConfig, QuantizeConfig


def logits_of(bundle: Bundle, data) -> np.ndarray:
    with open_engine(bundle) as engine:
        return predict_split(engine, data)


@pytest.fixture(scope="module")
def export(model, student, splits, tmp_path_factory) -> Callable[[str], Bundle]:
    """Export with decisions of a criterion, as a run does."""

    def make(thresholds: str) -> Bundle:
        out = tmp_path_factory.mktemp("exported") / "onnx-fp32"
        config = DecisionsConfig(thresholds=thresholds, probabilities="platt")
        made = export_onnx(model, splits.test, out, identity=thresholds)
        return decided(made, splits.val, config, lambda: torch_logits(model, splits.val))

    return make


@pytest.fixture(scope="module")
def exported(export) -> Bundle:
    return export("recall=0.9")


@pytest.fixture(scope="module")
def calibrated(edgepress, onnx_bundle, tiny_data, tmp_path_factory):
    """What `edgepress calibrate` answers and makes of the plain ONNX bundle."""
    out = tmp_path_factory.mktemp("calibrated") / "onnx-mine"
    answer = edgepress("calibrate", onnx_bundle.path, "--data", tiny_data, "--out", out, "--thresholds", "recall=0.9")
    assert answer.code == 0, answer.err
    return answer, Bundle.open(out)


def test_an_export_fits_them_on_the_models_own_logits_of_val(exported, model, splits):
    expected = fit_decisions(logits_of(exported, splits.val), splits.val, "recall=0.9", "platt")
    assert exported.decisions.fit is not None
    assert exported.decisions.fit.fingerprint == splits.val.fingerprint()
    assert exported.decisions.thresholds == pytest.approx(expected.thresholds, abs=1e-3)
    assert exported.decisions.calibrator.slopes == pytest.approx(expected.calibrator.slopes, abs=1e-3)


def test_the_same_model_with_other_decisions(calibrated, onnx_bundle, splits):
    answer, bundle = calibrated
    before, after = onnx_bundle.manifest, bundle.manifest
    assert before.decisions is None
    changed = {name for name, sha256 in before.files.items() if after.files[name] != sha256}
    assert changed == {"golden/answers.json"}
    assert after.files.keys() == before.files.keys()
    assert (after.parent, after.labels, after.opset, after.preprocess) == (
        before.parent,
        before.labels,
        before.opset,
        before.preprocess,
    )
    assert after.decisions == fit_decisions(logits_of(onnx_bundle, splits.val), splits.val, "recall=0.9", "auto")
    assert after.facts == before.facts.model_copy(update={"calibrated_from": onnx_bundle.digest})
    assert answer.out.rstrip().endswith(str(bundle.path))
    for word in (*bundle.labels, "mean", "positives", "threshold", "ECE before", "recall=0.9"):
        assert word in answer.out
    method = bundle.decisions.calibrator.method
    assert (f"auto chose {method} by log loss" if method != "none" else "is the sigmoid, because") in answer.out


def test_its_plots_are_pictures_beside_it(calibrated):
    folder = calibrated[1].path.parent
    assert {path.name for path in folder.iterdir()} == {"onnx-mine", "plots"}
    assert {path.name for path in (folder / "plots").iterdir()} == {
        "reliability-onnx-mine.svg",
        "thresholds-onnx-mine.svg",
    }
    for path in (folder / "plots").iterdir():
        assert path.read_bytes().startswith(b"<svg")


def test_a_second_call_keeps_it_and_prints_json(calibrated, edgepress, onnx_bundle, tiny_data):
    _, bundle = calibrated
    flags = ["--data", tiny_data, "--out", bundle.path, "--thresholds", "recall=0.9", "--json"]
    answer = edgepress("calibrate", onnx_bundle.path, *flags)
    assert "unchanged, kept" in answer.err
    assert Bundle.open(bundle.path).digest == bundle.digest
    rows = answer.json["labels"]
    assert [row["label"] for row in rows] == [*bundle.labels, "mean"]
    assert [row["threshold"] for row in rows[:-1]] == list(bundle.decisions.thresholds)
    assert answer.json["method"] == bundle.decisions.calibrator.method


def test_predict_answers_by_them(calibrated, edgepress, splits):
    _, bundle = calibrated
    logits = logits_of(bundle, splits.test)
    with open_tagger(bundle) as tagger:
        for path, p, yes in zip(
            splits.test.paths, bundle.decisions.probabilities(logits), bundle.decisions.decide(logits), strict=True
        ):
            probabilities = tagger.predict(path)
            assert list(probabilities.values()) == pytest.approx(p, abs=1e-6)
            assert set(tagger.tags(probabilities)) == {
                name for name, one in zip(bundle.labels, yes, strict=True) if one
            }
    row = json.loads(edgepress("predict", bundle.path, splits.test.paths[0], "--json").out)
    assert list(row["probabilities"].values()) == pytest.approx(bundle.decisions.probabilities(logits)[0], abs=1e-6)


def test_verify_counts_changes_at_the_thresholds_of_the_bundle(calibrated, onnx_bundle, splits):
    _, bundle = calibrated
    result = verify(bundle, splits.test)
    assert (result.verdict, result.flip_rate, result.flip_rate_kept) == ("pass", 0, None)
    assert result.logits is not None
    assert "logits" not in result.as_dict()
    assert verify(onnx_bundle, splits.test).flip_rate == 0


def test_int8_gets_its_own_and_says_what_that_changed(exported, splits, tmp_path):
    bundle = quantize_bundle(exported, splits, "onnxruntime", tmp_path / "int8", QuantizeConfig(pictures=16))
    theirs, own = exported.decisions, bundle.decisions
    reference, logits = (logits_of(one, splits.val) for one in (exported, bundle))
    assert own == align_decisions(theirs, reference, logits)
    assert own.refitted_from == theirs
    assert own.calibrator != theirs.calibrator
    assert bundle.manifest.facts.decisions == DecisionsChanged(
        val_changed_kept=changed_share(theirs.decide(reference), theirs.decide(logits), splits.val.ignore),
        val_changed_refitted=changed_share(theirs.decide(reference), own.decide(logits), splits.val.ignore),
    )
    result = verify(bundle, splits.test)
    answers, int8 = logits_of(exported, splits.test), logits_of(bundle, splits.test)
    assert result.flip_rate == pytest.approx((theirs.decide(answers) != own.decide(int8)).mean(), abs=0.02)
    assert result.flip_rate_kept == pytest.approx((theirs.decide(answers) != theirs.decide(int8)).mean(), abs=0.02)


def test_a_torch_bundle_hands_them_to_its_onnx(student, splits, tmp_path):
    config = DecisionsConfig(thresholds="precision=0.5")
    torch_bundle, _ = calibrate_bundle(student, splits.val, tmp_path / "student", config)
    onnx = export_student(torch_bundle.path, None, None, {}, splits.test, tmp_path / "onnx")
    assert onnx.decisions == torch_bundle.decisions
    assert onnx.decisions.fit is not None


@pytest.mark.parametrize("engine", ["onnx-fp16", "openvino-fp32", "openvino-fp16"])
def test_float_engines_inherit_them(exported, tmp_path, engine):
    made = compile_bundle(exported, engine, tmp_path / engine, CompileConfig())
    assert exported.manifest.decisions is not None
    assert made.manifest.decisions == exported.manifest.decisions


def test_what_cannot_be_done_is_told(onnx_bundle, edgepress, tiny_data, splits):
    arguments = ["calibrate", onnx_bundle.path, "--data", tiny_data, "--out"]
    for extra, said in (
        ([onnx_bundle.path], "is the bundle itself"),
        ([onnx_bundle.path.parent / "new", "--thresholds", "best"], "expected f1, recall=R, precision=P or fixed=T"),
        ([onnx_bundle.path.parent / "new", "--probabilities", "beta"], "--probabilities beta: input should be"),
        ([onnx_bundle.path.parent / "new", "--split", "nowhere"], "nowhere"),
    ):
        answer = edgepress("--quiet", *arguments, *extra)
        assert (answer.code, answer.out) == (2, ""), answer
        assert said in answer.err
        assert len(answer.err.splitlines()) == 1
    assert not (onnx_bundle.path.parent / "new").exists()
    few = splits.val.subset(np.array([0]))
    with pytest.raises(InputError, match="1 picture; expected at least 2"):
        calibrate_bundle(onnx_bundle, few, onnx_bundle.path.parent / "new", DecisionsConfig())


def test_a_promise_goes_with_the_bundle_and_is_fitted_again_for_int8(
    edgepress, onnx_bundle, splits, tiny_data, tmp_path
):
    """Of 24 pictures only a modest promise can be given."""
    arguments = ("calibrate", onnx_bundle.path, "--data", tiny_data, "--out", tmp_path / "promised", "--thresholds")
    answer = edgepress(*arguments, "recall=0.5@90%", "--json")
    assert answer.code == 0, answer.err
    promised = Bundle.open(tmp_path / "promised")
    fit = promised.decisions.fit
    assert answer.json["promise"] == fit.promise.model_dump(mode="json")
    assert fit.promise.counted == fit.positives
    assert "recall of at least 0.5 with 90 % confidence for each label" in edgepress(*arguments, "recall=0.5@90%").out
    inspected = edgepress("inspect", promised.path)
    assert "promise.level" in inspected.out
    config = QuantizeConfig(pictures=8, time_limit=0)
    int8 = quantize_bundle(promised, splits, "onnxruntime", tmp_path / "int8", config)
    again = int8.decisions.fit.promise
    assert (again.kind, again.level, again.counted) == (fit.promise.kind, fit.promise.level, fit.promise.counted)
    logits = logits_of(int8, splits.val)
    missed = ((splits.val.targets == 1) & ~int8.decisions.decide(logits)).sum(axis=0)
    assert missed.tolist() == list(again.errors)
    kept = verify(int8, splits.test).promise
    assert (kept.promise, len(kept.labels)) == (again, 5)
    table = edgepress("verify", int8.path, "--data", tiny_data).out
    assert "labels that reach a recall of at least 0.5" in table


def test_a_promise_that_val_cannot_give_is_refused_before_anything_is_written(
    edgepress, onnx_bundle, tiny_data, tmp_path
):
    out = tmp_path / "promised"
    command = ("calibrate", onnx_bundle.path, "--data", tiny_data, "--out", out, "--thresholds")
    for thresholds, said in (
        ("recall=0.9@95%", "needs 29 pictures that show each label; 5 of 5 labels have fewer"),
        ("recall=0.9@95", "expected KIND=LEVEL@CONFIDENCE%"),
        ("precision=1@95%", "no number of pictures shows"),
        ("fpr=0.1@150%", "from 50 % to below 100 %"),
    ):
        answer = edgepress(*command, thresholds)
        assert (answer.code, out.exists()) == (2, False)
        assert said in answer.err
        assert answer.err.count("\n") == 1
    run = edgepress("run", "--data", tiny_data, "--out", out, "--decisions-thresholds", "recall=0.9@95%")
    assert (run.code, (out / "teacher").exists(), (out / "student").exists()) == (2, False, False)
    assert "needs 29 pictures" in run.err


def test_a_split_that_is_called_train_is_cautioned_about(edgepress, onnx_bundle, tiny_data, tmp_path):
    command = ("calibrate", onnx_bundle.path, "--data", tiny_data, "--split", "train", "--out", tmp_path / "out")
    answer = edgepress(*command)
    assert answer.code == 0, answer.err
    assert "caution: the split is called train" in answer.err
    assert "are cross-fitted: each of five parts of the pictures is judged by a fit on the other four" in answer.out
    assert "A threshold is on the calibrated probability: a low one is no fault." in answer.out
