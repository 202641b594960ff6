"""verify: honest engines pass, and whatever is wrong with one makes it fail, in the verdict and in the exit code."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from sklearn.metrics import average_precision_score

from deploy.agreement import DROP_BUDGET
from deploy.compile import compile_openvino, derived_bundle
from deploy.engines import open_engine
from deploy.reference import REFERENCE, Reference
from deploy.verify import Verification, compare, verify
from multilabel.bundle import Bundle, write_bundle
from multilabel.datasets import MultiLabelDataset, load_dataset
from multilabel.errors import InputError

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
    "verdict",
    "reasons",
    "cautions",
    "ran",
    "labels",
    "stages",
    "diverged_at",
    "layers",
}


def wrap(path: Path, graph: onnx.ModelProto, like: Bundle, **fields: Any) -> Bundle:
    """A changed graph as the bundle that it pretends to be, with the honest one's labels and reference."""
    manifest = like.manifest
    given = {name: getattr(manifest, name) for name in ("precision", "labels", "preprocess", "parent")} | fields
    with write_bundle(path, kind="onnx", model=manifest.model, **given) as (folder, _):
        onnx.save(graph, folder / manifest.model)
        shutil.copyfile(like.path / REFERENCE, folder / REFERENCE)
    return Bundle.open(path)


def gathered(graph: onnx.ModelProto, order: list[int]) -> None:
    """The head's rows in another order: column i of the logits becomes column order[i]."""
    after(graph, "Gather", [numpy_helper.from_array(np.array(order), "order")], axis=1)


def scaled(graph: onnx.ModelProto, factor: float) -> None:
    after(graph, "Mul", [numpy_helper.from_array(np.array(factor, np.float32), "factor")])


def after(graph: onnx.ModelProto, operator: str, constants: list[onnx.TensorProto], **attributes: Any) -> None:
    """One more operator between the logits and the output."""
    (output,) = graph.graph.output
    for node in graph.graph.node:
        for place, name in enumerate(node.output):
            if name == output.name:
                node.output[place] = "honest"
    graph.graph.initializer.extend(constants)
    inputs = ["honest", *(tensor.name for tensor in constants)]
    graph.graph.node.append(helper.make_node(operator, inputs, [output.name], **attributes))


def other_normalisation(graph: onnx.ModelProto, what: str) -> None:
    """ImageNet's mean or std in the place of the model's (or the other way round), as numbers of 0 to 255."""
    operator, value = {"mean": ("Sub", [103.53, 116.28, 123.675]), "std": ("Mul", [1 / 127.5] * 3)}[what]
    (node,) = [node for node in graph.graph.node if node.op_type == operator][:1]
    (constant,) = [tensor for tensor in graph.graph.initializer if tensor.name in node.input]
    before = numpy_helper.to_array(constant)
    new = np.array(value, np.float32).reshape(before.shape)
    assert np.abs(new - before).max() > 1e-4
    constant.CopyFrom(numpy_helper.from_array(new, constant.name))


def perturbed_weights(graph: onnx.ModelProto, share: float) -> None:
    """Noise on every convolution's weights, a share of their own spread."""
    rng = np.random.default_rng(0)
    names = {node.input[1] for node in graph.graph.node if node.op_type == "Conv"}
    for tensor in graph.graph.initializer:
        if tensor.name in names:
            weight = numpy_helper.to_array(tensor)
            noise = rng.normal(0, share * weight.std(), weight.shape).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(weight + noise, tensor.name))


def not_finite(graph: onnx.ModelProto, value: float) -> None:
    """One label's bias is NaN or infinite."""
    offset = np.zeros(5, np.float32)
    offset[2] = value
    after(graph, "Add", [numpy_helper.from_array(offset, "offset")])


CORRUPTIONS: dict[str, tuple[Callable[[onnx.ModelProto], None], str]] = {
    "head rows permuted": (lambda graph: gathered(graph, [1, 2, 3, 4, 0]), "mAP drops"),
    "two head rows swapped": (lambda graph: gathered(graph, [1, 0, 2, 3, 4]), "a logit differs"),
    "wrong mean": (lambda graph: other_normalisation(graph, "mean"), "a logit differs"),
    "wrong std": (lambda graph: other_normalisation(graph, "std"), "a logit differs"),
    "weights perturbed": (lambda graph: perturbed_weights(graph, 0.3), "a logit differs"),
    "weights perturbed a little": (lambda graph: perturbed_weights(graph, 0.03), "a logit differs"),
    "logits doubled": (lambda graph: scaled(graph, 2), "a logit differs by"),
    "logits negated": (lambda graph: scaled(graph, -1), "of the decisions changed"),
    "NaN": (lambda graph: not_finite(graph, np.nan), "12 logits are not finite"),
    "infinity": (lambda graph: not_finite(graph, np.inf), "12 logits are not finite"),
}


@pytest.mark.parametrize("name", ENGINES)
def test_an_honest_engine_passes(build, edgepress, tiny_data, name):
    answer = edgepress("verify", build(name).path, "--data", tiny_data, "--json")
    result = answer.json
    assert (answer.code, result["verdict"], result["reasons"]) == (0, "pass", [])
    assert result["engine"] == name
    assert result["reference"] == f"torch ({REFERENCE})"
    assert result["drop_points"] <= result["budget_points"] == DROP_BUDGET[result["precision"]]
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


def test_other_label_names_are_bad_input(onnx_bundle, edgepress, tiny_data, tmp_path):
    data = copied(tiny_data, tmp_path)
    for file in (data / "labels.txt", data / "test" / "metadata.jsonl"):
        file.write_text(re.sub(r"\bred\b", "scarlet", file.read_text()))
    answer = edgepress("verify", onnx_bundle.path, "--data", data, "--json")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.count("\n") == 1
    assert re.search(r"only in the bundle .*: red; only in the data set .*: scarlet", answer.err)


@pytest.mark.parametrize(("name", "reference"), [("onnx-fp16", "onnx-fp32"), ("openvino-int8", "onnx-fp32")])
def test_pictures_without_a_reference_are_compared_with_the_float_onnx(build, edgepress, tiny_data, name, reference):
    answer = edgepress("verify", build(name).path, "--data", tiny_data, "--split", "val", "--json")
    assert answer.json["reference"] == reference
    assert reference in answer.err
    assert "does not cover these pictures" in answer.err
    assert answer.json["num_images"] == 12
    assert answer.json["max_abs_diff"] > 0
    if name == "onnx-fp16":
        assert (answer.code, answer.json["verdict"]) == (0, "pass")


def test_the_float_onnx_itself_is_then_compared_with_its_student(onnx_bundle, splits):
    result = verify(onnx_bundle, splits.val)
    assert (result.reference, result.verdict) == ("student", "pass")


def test_one_uncovered_picture_is_enough_for_the_parent(build, splits):
    both = splits.test.subset(np.arange(3))
    both.paths[1] = splits.val.paths[1]
    assert verify(build("onnx-fp16"), both).reference == "onnx-fp32"


def test_no_reference_at_all_is_bad_input(build, edgepress, tiny_data, tmp_path):
    alone = Path(shutil.copytree(build("onnx-fp16").path, tmp_path / "alone"))
    assert edgepress("verify", alone, "--data", tiny_data, "--json").code == 0
    answer = edgepress("verify", alone, "--data", tiny_data, "--split", "val", "--json")
    assert (answer.code, answer.out) == (2, "")
    assert "onnx-fp32" in answer.err


def test_another_bundle_under_the_parents_name_is_no_reference(build, splits, tmp_path):
    alone = Path(shutil.copytree(build("onnx-fp16").path, tmp_path / "onnx-fp16"))
    wrap(tmp_path / "onnx-fp32", onnx.load(build("onnx-fp32").model_path), build("onnx-fp32"))
    with pytest.raises(InputError, match="does not stand beside it, unchanged"):
        verify(Bundle.open(alone), splits.val)


def test_stdout_is_one_object_with_the_documented_keys(onnx_bundle, edgepress, tiny_data):
    answer = edgepress("verify", onnx_bundle.path, "--data", tiny_data, "--split", "test", "--json")
    assert answer.json.keys() == KEYS
    assert answer.out.count("\n") == 1
    table = edgepress("verify", onnx_bundle.path, "--data", tiny_data)
    assert table.code == 0
    words = ("largest difference", "signal to noise", "changed", "best label", "95 % interval", "AP reference", "moved")
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
    assert result.labels[-1] == {
        "label": "green",
        "positives": 0,
        "AP_reference": None,
        "AP": None,
        "moved_points": None,
    }
    assert {row["label"]: row["AP"] for row in result.labels[:-1]} == pytest.approx(
        dict(zip(("red", "blue", "circle", "bars"), by_hand, strict=True)), abs=1e-9
    )
    assert result.cautions == [
        "only 12 pictures: with fewer than 100 a drop in mAP says little",
        "1 of 5 labels have no positive picture and are not proven by mAP: green",
    ]


def noisy(data: MultiLabelDataset, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """A reference of these labels and an engine's logits; all are above 0, so no decision at 0.5 changes."""
    rng = np.random.default_rng(0)
    reference = 8 + data.targets + rng.normal(size=data.targets.shape).clip(-3, 3)
    return reference, reference + noise * rng.normal(size=reference.shape).clip(-3, 3)


def compared(bundle: Bundle, data: MultiLabelDataset, noise: float, budget: float | None = None) -> Verification:
    reference, logits = noisy(data, noise)
    same = {"reference_targets": data.targets, "reference_ignore": data.ignore, "ran": {}}
    return compare(bundle, logits, reference, data, reference_name="r", budget=budget, **same)


def test_only_an_interval_within_the_budget_passes(build, splits):
    bundle = build("onnx-int8-onnxruntime")
    found = compared(bundle, splits.train, 0.5)
    low, high = found.drop_interval
    assert low < found.drop_points < high
    verdicts = {
        budget: compared(bundle, splits.train, 0.5, budget)
        for budget in (found.drop_points - 0.01, found.drop_points + 0.01, high - 0.01, high + 0.01)
    }
    assert [one.verdict for one in verdicts.values()] == ["fail", "unproven", "unproven", "pass"]
    budget, unproven = list(verdicts.items())[1]
    (reason,) = unproven.reasons
    assert f"drops by {found.drop_points:.2f} points" in reason
    assert "on 24 pictures" in reason
    assert f"the budget of {budget:g}: give more test pictures or a larger budget" in reason
    said = float(re.search(r"up to (\S+) ", reason).group(1))
    assert high <= said < high + 0.001 + 1e-9
    assert verdicts[high + 0.01].reasons == []


def test_more_pictures_prove_what_few_cannot(build, splits):
    bundle, few = build("onnx-int8-onnxruntime"), splits.train
    many = few.subset(np.tile(np.arange(len(few)), 20))
    budget = compared(bundle, many, 0.5).drop_interval[1] + 0.01
    assert compared(bundle, many, 0.5, budget).verdict == "pass"
    assert compared(bundle, few, 0.5, budget).verdict != "pass"
    assert compared(bundle, many, 0.5).cautions == []
    assert compared(bundle, few, 0.5).cautions[0].startswith("only 24 pictures")


def test_labels_are_listed_by_what_moved(build, splits):
    rows = compared(build("onnx-int8-onnxruntime"), splits.train, 0.5).labels
    moved = [abs(row["moved_points"]) for row in rows]
    assert moved == sorted(moved, reverse=True)
    assert moved[0] > moved[-1]
    assert {row["label"] for row in rows} == set(splits.train.labels.names)
    for row in rows:
        assert row["moved_points"] == pytest.approx(100 * (row["AP"] - row["AP_reference"]))
        assert row["positives"] == splits.train.targets[:, splits.train.labels.names.index(row["label"])].sum()


def test_what_is_unproven_is_no_success(onnx_bundle, edgepress, tiny_data):
    """An engine with some noise, as INT8, which has no bound on a logit; on pictures it does not know by heart."""
    graph = onnx.load(onnx_bundle.model_path)
    perturbed_weights(graph, 0.03)
    name, fields = onnx_bundle.path.parent / "noisy-int8", {"precision": "int8", "parent": onnx_bundle.as_parent}
    bundle, data = wrap(name, graph, onnx_bundle, **fields), load_dataset(tiny_data, "train")
    found = verify(bundle, data)
    assert found.drop_points < found.drop_interval[1]
    assert not [reason for reason in found.reasons if "decisions" in reason], found.reasons
    arguments = ("verify", bundle.path, "--data", tiny_data, "--split", "train", "--budget")
    answer = edgepress(*arguments, (found.drop_points + found.drop_interval[1]) / 2, "--json")
    assert (answer.code, answer.json["verdict"]) == (1, "unproven")
    assert [stage["stage"] for stage in answer.json["stages"]] == ["student", "onnx-fp32", "noisy-int8"]
    assert answer.json["diverged_at"] is None
    table = edgepress(*arguments, (found.drop_points + found.drop_interval[1]) / 2)
    assert table.code == 1
    assert "unproven: mAP drops by" in table.out
    assert "no stage that was compared goes beyond its own budgets" in table.out
    assert max(map(len, table.out.splitlines()[:-2])) <= 140
    assert edgepress(*arguments, found.drop_interval[1] + 0.01).code == 0


def test_a_smaller_budget_is_kept(build, edgepress, tiny_data):
    bundle = build("onnx-int8-onnxruntime")
    data = load_dataset(tiny_data, "val")
    known = verify(bundle, data)
    drop, bound = known.drop_points, known.drop_interval[1]
    arguments = ("verify", bundle.path, "--data", tiny_data, "--split", "val", "--json", "--budget")
    tight = edgepress(*arguments, drop - 0.01).json
    assert tight["verdict"] == "fail"
    assert any(reason.startswith("mAP drops by") for reason in tight["reasons"])
    assert not any(
        reason.startswith("mAP drops by") for reason in edgepress(*arguments, max(bound, 0) + 0.01).json["reasons"]
    )


def test_what_cannot_run_here_is_no_failure_unless_it_is_required(build, edgepress, tiny_data):
    command = ("verify", build("openvino-fp32").path, "--data", tiny_data, "--device", "npu", "--json")
    answer = edgepress(*command)
    if answer.json["verdict"] in ("pass", "fail"):
        pytest.skip("an NPU is present here")
    assert (answer.code, answer.json["verdict"]) == (0, "not run")
    assert "OpenVINO sees no NPU" in answer.json["reasons"][0]
    answer = edgepress(*command, "--required")
    assert (answer.code, answer.json["verdict"]) == (1, "not run")


def test_a_reference_file_that_is_none_is_one_line(onnx_bundle, splits, tmp_path):
    with write_bundle(
        tmp_path / "odd",
        kind="onnx",
        precision="fp32",
        model="model.onnx",
        labels=onnx_bundle.manifest.labels,
        preprocess=onnx_bundle.preprocess,
    ) as (folder, _):
        shutil.copyfile(onnx_bundle.model_path, folder / "model.onnx")
        (folder / REFERENCE).write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(InputError, match="not a reference that edgepress made"):
        verify(Bundle.open(tmp_path / "odd"), splits.test)


def test_a_reference_is_read_back_as_it_was_written(splits, tmp_path):
    logits = np.random.default_rng(0).normal(size=splits.test.targets.shape)
    Reference.of(splits.test, logits).save(tmp_path / REFERENCE)
    again = Reference.load(tmp_path / REFERENCE)
    assert np.array_equal(again.logits, logits.astype(np.float32))
    hashes = splits.test.hashes()
    assert again.rows(hashes[5:2:-1]).tolist() == [5, 4, 3]
    assert again.rows([*hashes, "0" * 64]) is None


def test_a_budget_that_is_no_number_of_points_is_refused(edgepress, onnx_bundle, tiny_data):
    for budget in ("nan", "inf"):
        answer = edgepress("verify", onnx_bundle.path, "--data", tiny_data, "--budget", budget)
        assert answer.code == 2
        assert "budget" in answer.err


def test_a_file_that_stands_twice_keeps_its_two_answers(tmp_path):
    reference = Reference(
        hashes=["a", "b", "a"],
        logits=np.array([[1.0], [2.0], [3.0]], np.float32),
        targets=np.array([[1], [0], [0]], np.uint8),
        ignore=np.zeros((3, 1), bool),
        labels=("x",),
    )
    reference.save(tmp_path / "reference.npz")
    loaded = Reference.load(tmp_path / "reference.npz")
    assert loaded.rows(["a", "b", "a"]).tolist() == [0, 1, 2]
    assert loaded.rows(["b", "a"]).tolist() == [1, 0]
    assert loaded.rows(["a", "c"]) is None


def test_ignored_cells_count_in_no_difference(build, splits):
    bundle, data = build("onnx-fp32"), splits.test
    logits = Reference.load(bundle.path / "reference.npz").logits
    ignore = np.zeros(data.ignore.shape, bool)
    ignore[3, 2] = True
    masked = dataclasses.replace(data, ignore=ignore)
    broken = logits.copy()
    broken[3, 2] = -50 * np.sign(broken[3, 2])
    same = {"reference_name": "r", "reference_targets": data.targets, "budget": None, "ran": {}}
    assert compare(bundle, broken, logits, masked, reference_ignore=ignore, **same).verdict == "pass"
    assert compare(bundle, broken, logits, data, reference_ignore=data.ignore, **same).verdict == "fail"


def test_an_int8_engine_without_its_float_parent_is_not_compared_with_itself(build, tmp_path, tiny_data):
    """As on a device to which only the INT8 graph was copied, and an engine compiled from it there."""
    source = build("onnx-int8-onnxruntime")
    parent = Bundle.open(shutil.copytree(source.path, tmp_path / source.name))
    with derived_bundle(parent, tmp_path / "engine", kind="onnx", precision="int8", model="model.onnx") as (folder, _):
        shutil.copyfile(parent.model_path, folder / "model.onnx")
    engine = Bundle.open(tmp_path / "engine")
    assert engine.open_parent() is not None
    assert verify(engine, load_dataset(tiny_data, "test")).reference.startswith("torch")  # reference.npz came along
    with pytest.raises(InputError, match="does not cover these pictures"):
        verify(engine, load_dataset(tiny_data, "train"))


def broken(bundle: Bundle, name: str, **fields: Any) -> Bundle:
    """A bundle with noise on its weights, beside the honest ones."""
    graph = onnx.load(bundle.model_path)
    perturbed_weights(graph, 0.3)
    return wrap(bundle.path.parent / name, graph, bundle, **fields)


def stages_of(result: Verification) -> dict[str, tuple[str | None, bool, bool]]:
    """Of each stage what it was compared with, whether it is beyond its budgets, and whether it was left out."""
    return {stage.stage: (stage.after, bool(stage.beyond), stage.not_run is not None) for stage in result.stages}


def test_the_engine_is_named_where_it_diverged_itself(onnx_bundle, splits):
    bundle = broken(onnx_bundle, "broken-fp16", precision="fp16", parent=onnx_bundle.as_parent)
    result = verify(bundle, splits.test)
    assert (result.verdict, result.diverged_at) == ("fail", "broken-fp16")
    assert stages_of(result) == {
        "student": (None, False, False),
        "onnx-fp32": ("student", False, False),
        "broken-fp16": ("onnx-fp32", True, False),
    }


def test_the_first_stage_that_diverged_is_named_and_each_runs_once(onnx_bundle, splits, monkeypatch):
    first = broken(onnx_bundle, "broken-fp32")
    fields = {"precision": "fp16", "parent": first.as_parent}
    bundle = wrap(first.path.parent / "after-broken", onnx.load(first.model_path), first, **fields)
    opened = []
    monkeypatch.setattr(
        "deploy.verify.open_engine", lambda one, *more: opened.append(one.name) or open_engine(one, *more)
    )
    # Pictures that reference.npz does not cover, so all must run; a broken float ONNX passes as its own reference.
    result = verify(bundle, splits.val, stages=True)
    assert (result.reference, result.diverged_at) == ("broken-fp32", "broken-fp32")
    assert sorted(opened) == ["after-broken", "broken-fp32", "student"]
    assert stages_of(result) == {
        "student": (None, False, False),
        "broken-fp32": ("student", True, False),
        "after-broken": ("broken-fp32", False, False),
    }


def test_a_pass_is_walked_only_where_it_is_asked_for(build, edgepress, tiny_data):
    command = ("verify", build("onnx-fp16").path, "--data", tiny_data)
    plain = edgepress(*command, "--json").json
    assert (plain["stages"], plain["diverged_at"]) == (None, None)
    walked = edgepress(*command, "--json", "--stages").json
    assert [stage["stage"] for stage in walked["stages"]] == ["student", "onnx-fp32", "onnx-fp16"]
    assert walked["stages"][1]["max_abs_diff"] < walked["stages"][2]["max_abs_diff"]
    assert walked["stages"][2]["max_abs_diff"] == pytest.approx(plain["max_abs_diff"], rel=0.1)  # of torch there
    table = edgepress(*command, "--stages").out
    assert "from torch to the engine" in table
    assert "the start" in table


def test_a_stage_that_is_absent_is_said_and_not_blamed_alone(onnx_bundle, splits, tmp_path):
    beside = broken(onnx_bundle, "broken-fp16", precision="fp16", parent=onnx_bundle.as_parent)
    alone = Bundle.open(shutil.copytree(beside.path, tmp_path / "broken-fp16"))
    result = verify(alone, splits.test)
    assert stages_of(result) == {
        "torch (reference.npz)": (None, False, False),
        "onnx-fp32": (None, False, True),
        "broken-fp16": ("torch (reference.npz)", True, False),
    }
    assert "does not stand beside broken-fp16" in result.stages[1].not_run
    assert result.diverged_at == "broken-fp16, or onnx-fp32 before it"


def test_a_stage_that_its_runtime_refuses_is_said(onnx_bundle, edgepress, tiny_data):
    run = onnx_bundle.path.parent
    fields = {"kind": "onnx", "precision": "fp32", "model": "model.onnx", "parent": onnx_bundle.as_parent}
    same = {"labels": onnx_bundle.manifest.labels, "preprocess": onnx_bundle.preprocess}
    with write_bundle(run / "no-graph", **fields, **same) as (folder, _):
        (folder / "model.onnx").write_bytes(b"no graph")
    graph = onnx.load(onnx_bundle.model_path)
    bundle = wrap(run / "after-no-graph", graph, onnx_bundle, parent=Bundle.open(run / "no-graph").as_parent)
    answer = edgepress("verify", bundle.path, "--data", tiny_data, "--json", "--stages")
    assert answer.code == 0
    refused, last = answer.json["stages"][2:]
    assert (refused["stage"], refused["drop_points"]) == ("no-graph", None)
    assert "ONNX Runtime cannot load it" in refused["not_run"]
    assert (last["after"], last["beyond"]) == ("onnx-fp32", [])


@pytest.mark.parametrize("corruption", ["two head rows swapped", "wrong mean", "wrong std", "NaN"])
def test_every_corruption_is_traced_to_its_stage(onnx_bundle, splits, corruption):
    graph = onnx.load(onnx_bundle.model_path)
    CORRUPTIONS[corruption][0](graph)
    fields = {"precision": "fp16", "parent": onnx_bundle.as_parent}
    bundle = wrap(onnx_bundle.path.parent / "traced", graph, onnx_bundle, **fields)
    result = verify(bundle, splits.test)
    assert (result.verdict, result.diverged_at) == ("fail", "traced"), result.reasons
