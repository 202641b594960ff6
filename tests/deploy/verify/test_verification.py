"""verify: honest engines pass, and whatever is wrong with one makes it fail, in the verdict and in the exit code."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from sklearn.metrics import average_precision_score, f1_score, precision_recall_fscore_support

from edgepress.deploy.build.compile import compile_openvino
from edgepress.deploy.build.reference import REFERENCE, Reference
from edgepress.deploy.engines import open_engine
from edgepress.deploy.engines.base import Ran
from edgepress.deploy.verify.agreement import ALLOWED_DROP
from edgepress.deploy.verify.comparison import Comparison, LabelRow
from edgepress.deploy.verify.verification import Verification, compare, verify
from edgepress.multilabel.bundle import rewrite_bundle
from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.decisions import Affine, Decisions
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.label_groups import LabelGroups
from edgepress.multilabel.labels import LabelSpace
from tests.deploy.verify.corruptions import CORRUPTIONS, wrap

ENGINES = ["onnx-fp32", "onnx-fp16", "onnx-int8-onnxruntime", "openvino-fp32", "openvino-fp16", "openvino-int8"]


KEYS = {
    "engine",
    "precision",
    "reference",
    "num_images",
    "labels_counted",
    "mAP",
    "mAP_reference",
    "drop_points",
    "drop_interval",
    "max_abs_diff",
    "mean_abs_diff",
    "sqnr_db",
    "not_finite",
    "flip_rate",
    "flip_rate_kept",
    "top1_agreement",
    "topk_agreement",
    "top_k",
    "budget_points",
    "gate",
    "verdict",
    "reasons",
    "reason_kinds",
    "cautions",
    "ran",
    "labels",
    "groups",
    "by_frequency",
    "f1",
    "stages",
    "promise",
    "caller",
    "caller_moves",
    "diverged_at",
    "layers",
}


@pytest.mark.parametrize("name", ENGINES)
def test_an_honest_engine_passes(build, edgepress, tiny_data, name):
    answer = edgepress("verify", build(name).path, "--data", tiny_data, "--json")
    result = answer.json
    assert (answer.code, result["verdict"], result["reasons"]) == (0, "pass", [])
    assert result["engine"] == name
    assert result["reference"] == f"torch ({REFERENCE})"
    assert result["drop_points"] <= result["budget_points"] == ALLOWED_DROP[result["precision"]]
    assert result["ran"]["runtime"] == ("openvino" if name.startswith("openvino") else "onnxruntime")


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_a_corrupted_engine_fails(onnx_bundle, edgepress, tiny_data, tmp_path, corruption):
    corrupt, reason = CORRUPTIONS[corruption]
    graph = onnx.load(onnx_bundle.model_path)
    corrupt(graph)
    bundle = wrap(tmp_path / "corrupted", graph, onnx_bundle)
    answer = edgepress("verify", bundle.path, "--data", tiny_data, "--json")
    assert (answer.code, answer.json["verdict"]) == (1, "fail")
    assert any(reason in line for line in answer.json["reasons"]), answer.json["reasons"]


@pytest.mark.parametrize("corruption", ["head rows permuted", "wrong mean"])
def test_what_is_corrupt_stays_so_in_openvino(onnx_bundle, splits, tmp_path, corruption):
    graph = onnx.load(onnx_bundle.model_path)
    CORRUPTIONS[corruption][0](graph)
    bundle = compile_openvino(wrap(tmp_path / "corrupted", graph, onnx_bundle), tmp_path / "openvino", "fp32")
    assert verify(bundle, splits.test).verdict == "fail"


def test_a_corrupted_int8_engine_fails(build, splits, tmp_path):
    """INT8 has no bound on a single logit; its mAP and its decisions must tell."""
    honest = build("onnx-int8-onnxruntime")
    for number, corruption in enumerate(("head rows permuted", "logits negated", "NaN")):
        graph = onnx.load(honest.model_path)
        CORRUPTIONS[corruption][0](graph)
        assert verify(wrap(tmp_path / str(number), graph, honest), splits.test).verdict == "fail", corruption


def test_a_manifest_with_permuted_labels_fails(onnx_bundle, edgepress, tiny_data, tmp_path):
    names = onnx_bundle.manifest.labels
    bundle = wrap(tmp_path / "permuted", onnx.load(onnx_bundle.model_path), onnx_bundle, labels=(*names[1:], names[0]))
    answer = edgepress("verify", bundle.path, "--data", tiny_data, "--json")
    assert (answer.code, answer.json["verdict"]) == (1, "fail")
    assert answer.json["drop_points"] > 1
    assert answer.json["flip_rate"] > 0.1


def test_another_preprocess_fails(onnx_bundle, splits, tmp_path):
    other = onnx_bundle.preprocess.model_copy(update={"resize": "crop"})
    bundle = wrap(tmp_path / "cropped", onnx.load(onnx_bundle.model_path), onnx_bundle, preprocess=other)
    assert verify(bundle, splits.test).verdict == "fail"


def copied(tiny_data: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_data, tmp_path / "data"))


def test_labels_permuted_among_pictures_after_the_export_fail(onnx_bundle, edgepress, tiny_data, tmp_path):
    data = copied(tiny_data, tmp_path)
    listing = data / "test" / "metadata.jsonl"
    rows = [json.loads(line) for line in listing.read_text().splitlines()]
    moved = [{**row, "labels": other["labels"]} for row, other in zip(rows, rows[1:] + rows[:1], strict=True)]
    listing.write_text("".join(json.dumps(row) + "\n" for row in moved))
    answer = edgepress("verify", onnx_bundle.path, "--data", data, "--json")
    assert (answer.code, answer.json["verdict"]) == (1, "fail")
    assert any("labels of" in reason and "have changed" in reason for reason in answer.json["reasons"])
    assert answer.json["drop_points"] > 1


def test_labels_txt_in_another_order_fails_but_is_matched_by_name(onnx_bundle, edgepress, tiny_data, tmp_path):
    data = copied(tiny_data, tmp_path)
    labels = data / "labels.txt"
    labels.write_text("\n".join(labels.read_text().split()[::-1]) + "\n")
    answer = edgepress("verify", onnx_bundle.path, "--data", data, "--json")
    assert (answer.code, answer.json["verdict"]) == (1, "fail")
    (reason,) = answer.json["reasons"]
    assert reason.startswith("the data set has the bundle's labels in another order")
    assert answer.json["drop_points"] == 0
    assert answer.json["max_abs_diff"] < 1e-4


def test_an_order_that_no_labels_txt_gives_is_matched_by_name(onnx_bundle, edgepress, tiny_data, tmp_path):
    data = copied(tiny_data, tmp_path)
    (data / "labels.txt").unlink()
    assert load_dataset(data, "test").labels.names != onnx_bundle.manifest.labels
    answer = edgepress("verify", onnx_bundle.path, "--data", data, "--json")
    assert (answer.code, answer.json["verdict"]) == (0, "pass")
    assert answer.json["drop_points"] == 0


def test_other_label_names_are_bad_input(onnx_bundle, edgepress, tiny_data, tmp_path):
    data = copied(tiny_data, tmp_path)
    for file in (data / "labels.txt", data / "test" / "metadata.jsonl"):
        file.write_text(re.sub(r"\bred\b", "scarlet", file.read_text()))
    answer = edgepress("verify", onnx_bundle.path, "--data", data, "--json")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.count("\n") == 1
    assert re.search(r"only in the bundle .*: red; only in the data set .*: scarlet", answer.err)


def test_stdout_is_one_object_with_the_documented_keys(onnx_bundle, edgepress, tiny_data):
    answer = edgepress("verify", onnx_bundle.path, "--data", tiny_data, "--split", "test", "--json")
    assert answer.json.keys() == KEYS
    assert Verification.from_dict(answer.json).as_dict() == answer.json
    assert answer.out.count("\n") == 1
    table = edgepress("verify", onnx_bundle.path, "--data", tiny_data)
    assert table.code == 0
    words = (
        "CF1, OF1",
        "largest difference",
        "signal to noise",
        "changed",
        "flips per predicted positive",
        "drop of OF1",
        "best label",
        "95 % interval",
        "AP reference",
        "moved",
    )
    assert all(word in table.out for word in words)
    assert table.out.rstrip().endswith("onnx-fp32: pass")


def test_the_numbers_are_those_of_scikit_learn_and_numpy(build, splits):
    """Everything the verdict rests on, computed again from the engine's logits, on pictures it does not know."""
    bundle = build("onnx-int8-onnxruntime")
    result = verify(bundle, splits.val)
    targets = splits.val.targets
    images = np.stack([bundle.preprocess.load(path) for path in splits.val.paths])
    with open_engine(bundle) as engine, open_engine(build("onnx-fp32")) as parent:
        logits, reference = engine(images), parent(images)
    expected = average_precision_score(targets, logits, average="macro")
    expected_reference = average_precision_score(targets, reference, average="macro")
    assert expected < 1  # a perfect score would hide an error
    assert result.mAP == pytest.approx(expected, abs=1e-9)
    assert result.mAP_reference == pytest.approx(expected_reference, abs=1e-9)
    assert result.drop_points == pytest.approx(100 * (expected_reference - expected), abs=1e-9)
    assert result.max_abs_diff == pytest.approx(np.abs(logits - reference).max(), rel=1e-6)
    assert result.mean_abs_diff == pytest.approx(np.abs(logits - reference).mean(), rel=1e-5)
    assert result.flip_rate == pytest.approx(((logits >= 0) != (reference >= 0)).mean())
    ratio = np.square(reference, dtype=float).sum() / np.square(logits - reference, dtype=float).sum()
    assert result.sqnr_db == pytest.approx(10 * np.log10(ratio), rel=1e-4)
    assert result.top1_agreement == pytest.approx((logits.argmax(axis=1) == reference.argmax(axis=1)).mean())
    best = [[set(np.argsort(-row)[:3].tolist()) for row in scores] for scores in (logits, reference)]
    alike = np.mean([one == other for one, other in zip(*best, strict=True)])
    assert (result.top_k, result.topk_agreement) == (3, pytest.approx(alike))
    assert result.drop_interval[0] <= result.drop_points <= result.drop_interval[1]
    chosen = np.zeros_like(targets)
    np.put_along_axis(chosen, np.argsort(-logits, axis=1)[:, :3], 1, axis=1)
    for name, answers in (("0.5", logits >= 0), ("top_3", chosen)):
        precision, recall, _, _ = precision_recall_fscore_support(targets, answers, average="macro", zero_division=0)
        assert pytest.approx(2 * precision * recall / (precision + recall)) == result.f1[name].CF1
        assert pytest.approx(f1_score(targets, answers, average="micro")) == result.f1[name].OF1
    assert result.f1["thresholds"] == result.f1["0.5"]  # the plain bundle's thresholds are 0.5
    assert result.f1["top_3"] != result.f1["0.5"]
    assert (result.num_images, result.labels_counted) == targets.shape


def test_ignored_cells_and_labels_without_a_positive_do_not_count(onnx_bundle, splits):
    few = splits.val.subset(np.arange(12))
    few.targets[:, 1] = 0
    few.ignore[:4, 0] = True
    few.targets[few.ignore] = 0
    result = verify(onnx_bundle, few)
    assert result.labels_counted == 4
    images = np.stack([onnx_bundle.preprocess.load(path) for path in few.paths])
    with open_engine(onnx_bundle) as engine:
        logits = engine(images)
    kept = [~few.ignore[:, label] for label in (0, 2, 3, 4)]
    by_hand = [
        average_precision_score(few.targets[keep, label], logits[keep, label])
        for keep, label in zip(kept, (0, 2, 3, 4), strict=True)
    ]
    assert result.mAP == pytest.approx(np.mean(by_hand), abs=1e-9)
    assert result.labels[-1] == LabelRow(label="green", positives=0, AP_reference=None, AP=None, moved_points=None)
    assert {row.label: row.AP for row in result.labels[:-1]} == pytest.approx(
        dict(zip(("red", "blue", "circle", "bars"), by_hand, strict=True)), abs=1e-9
    )
    assert result.cautions == (
        "only 12 pictures: with fewer than 100 a drop in mAP says little",
        "1 of 5 labels have no positive picture and are not proven by mAP: green",
        "5 of 5 labels have fewer than 100 positives or predicted positives, so only a large drop of their recall or "
        "precision is found: red, green, blue, circle, bars",
    )


def test_ignored_cells_count_in_no_difference(build, splits):
    bundle, data = build("onnx-fp32"), splits.test
    logits = Reference.load(bundle.path / "reference.npz").logits
    ignore = np.zeros(data.ignore.shape, bool)
    ignore[3, 2] = True
    masked = dataclasses.replace(data, ignore=ignore)
    broken = logits.copy()
    broken[3, 2] = -50 * np.sign(broken[3, 2])
    ran = Ran(runtime="onnxruntime", version="1", provider="CPUExecutionProvider", precision="f32")
    same = {"reference_name": "r", "reference_targets": data.targets, "budget": None, "ran": ran}
    assert compare(bundle, broken, logits, masked, reference_ignore=ignore, **same).verdict == "pass"
    assert compare(bundle, broken, logits, data, reference_ignore=data.ignore, **same).verdict == "fail"


def test_at_one_half_and_the_best_three_are_of_the_probabilities_that_predict_prints(splits):
    data = splits.val
    rng = np.random.default_rng(0)
    logits = rng.normal(size=data.targets.shape)
    count = len(data.labels)
    shifted = Affine(method="platt", slopes=(1.0,) * count, offsets=tuple(rng.normal(size=count, scale=3)))
    calibrated = Decisions(labels=data.labels.names, thresholds=(0.5,) * count, calibrator=shifted)
    plain = Decisions.plain(data.labels.names)
    rows = Comparison.on(data, logits, logits, calibrated).f1()
    assert rows == Comparison.on(data, logits + np.array(shifted.offsets), logits, plain).f1()
    assert rows["0.5"] == rows["thresholds"]
    assert rows["top_3"] != Comparison.on(data, logits, logits, plain).f1()["top_3"]


def test_groups_have_an_accuracy_and_ap_is_that_of_their_distribution(onnx_bundle, splits, tmp_path, edgepress):
    """By hand: the softmax of the engine's own logits, on the pictures that show one colour alone."""
    groups = LabelGroups(one_of=(("red", "green", "blue"),))
    decisions = Decisions.plain(onnx_bundle.labels.names, groups=groups)
    grouped = rewrite_bundle(onnx_bundle, tmp_path / "grouped", decisions=decisions)
    found = verify(grouped, splits.test)
    (row,) = found.groups
    colours, targets = found.logits[:, :3], splits.test.targets[:, :3]
    alone = targets.sum(axis=1) == 1
    right = (colours.argmax(axis=1) == targets.argmax(axis=1))[alone]
    assert (row.labels, row.pictures) == (("red", "green", "blue"), alone.sum())
    assert row.accuracy == row.accuracy_reference == pytest.approx(right.mean())
    p = np.exp(colours) / np.exp(colours).sum(axis=1, keepdims=True)
    by_label = {one.label: one.AP for one in found.labels}
    for column, name in enumerate(("red", "green", "blue")):
        assert by_label[name] == pytest.approx(average_precision_score(targets[:, column], p[:, column]))
    assert Verification.from_dict(json.loads(json.dumps(found.as_dict()))).groups == found.groups
    assert verify(onnx_bundle, splits.test).groups == ()
    other = dataclasses.replace(splits.test, groups=groups)
    assert any("no label groups" in caution for caution in verify(onnx_bundle, other).cautions)
    said = edgepress("verify", grouped.path, "--data", splits.test.root).out
    assert "red, green, blue" in said
    assert "answered right" in said


def test_where_labels_are_many_frequent_and_rare_ones_are_told_apart(splits):
    """The rare third alone is broken: its drop is its own, and the others lose nothing."""
    rng, count = np.random.default_rng(0), 90
    names = tuple(f"label {number}" for number in range(count))
    targets = (rng.random((200, count)) < np.linspace(0.5, 0.05, count)).astype(np.uint8)
    data = dataclasses.replace(
        splits.test,
        labels=LabelSpace(names),
        paths=[*splits.test.paths] * 17,
        targets=targets,
        ignore=np.zeros(targets.shape, bool),
    )
    reference = 4.0 * targets - 2 + rng.normal(0, 1, targets.shape)
    rarest = np.argsort(-targets.sum(axis=0), kind="stable")[60:]
    logits = reference.copy()
    logits[:, rarest] = rng.normal(0, 1, (200, 30))
    found = Comparison.on(data, logits, reference, Decisions.plain(names)).by_frequency()
    assert [(row.part, row.labels) for row in found] == [("head", 30), ("middle", 30), ("tail", 30)]
    assert [round(row.drop_points, 6) for row in found[:2]] == [0, 0]
    by_hand = [
        average_precision_score(targets[:, rarest], one[:, rarest], average="macro") for one in (reference, logits)
    ]
    assert (found[2].mAP_reference, found[2].mAP) == pytest.approx(tuple(by_hand))
    assert found[2].drop_points > 30
    assert found[0].fewest >= found[1].most >= found[1].fewest >= found[2].most > 0


def test_what_is_no_data_set_or_no_number_is_refused_in_words(onnx_bundle, splits, tiny_data):
    with pytest.raises(InputError, match=r"received PosixPath .*; expected verify\(bundle, data\), where data is what"):
        verify(onnx_bundle, tiny_data)
    with pytest.raises(InputError, match=r"the bounds \{'flips': 1\}; expected"):
        verify(onnx_bundle, splits.test, bounds={"flips": 1})
    with pytest.raises(InputError, match="budget is '1'; expected the mAP points that may be lost"):
        verify(onnx_bundle, splits.test, budget="1")
