"""verify: what passes, what fails, and what these pictures do not prove."""

from __future__ import annotations

import io
import re
import shutil

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from rich.console import Console

from edgepress.deploy.engines.base import Ran
from edgepress.deploy.verify.verification import Verification, compare, verify
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.confidence import LEAST_PICTURES
from edgepress.multilabel.datasets import MultiLabelDataset, load_dataset
from edgepress.multilabel.errors import InputError
from edgepress.report.verification import print_verification
from tests.deploy.verify.corruptions import after, perturbed_weights, wrap

RAN = Ran(runtime="onnxruntime", version="1", provider="CPUExecutionProvider", precision="f32")


def noisy(data: MultiLabelDataset, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """A reference of these labels and an engine's logits; all are above 0, so no decision at 0.5 changes."""
    rng = np.random.default_rng(0)
    reference = 8 + data.targets + rng.normal(size=data.targets.shape).clip(-3, 3)
    return reference, reference + noise * rng.normal(size=reference.shape).clip(-3, 3)


def compared(bundle: Bundle, data: MultiLabelDataset, noise: float, budget: float | None = None) -> Verification:
    reference, logits = noisy(data, noise)
    same = {"reference_targets": data.targets, "reference_ignore": data.ignore, "ran": RAN}
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
    ((kind, reason),) = [(one.kind, one.text) for one in unproven.judgement.reasons]
    assert kind == "interval"
    assert f"drops by {found.drop_points:.2f} points" in reason
    assert "on 24 pictures" in reason
    assert f"the allowed {budget:g}: give more test pictures, or allow a larger drop" in reason
    said = float(re.search(r"up to (\S+) ", reason).group(1))
    assert high <= said < high + 0.001 + 1e-9
    assert verdicts[high + 0.01].judgement.reasons == ()


def test_each_reason_is_printed_with_the_verdict_that_it_leads_to(build, splits):
    """Not with the worst of them all: what is unproven read like a fail."""
    found = compared(build("onnx-fp32"), splits.train, 0.5)
    found = compared(build("onnx-fp32"), splits.train, 0.5, (found.drop_points + found.drop_interval[1]) / 2)
    out = io.StringIO()
    print_verification(found, Console(file=out, width=120))
    assert found.verdict == "fail"
    told = [line for line in out.getvalue().splitlines() if line.startswith(("fail: ", "unproven: "))]
    assert [line.split(" by ")[0] for line in told] == ["fail: a logit differs", "unproven: mAP drops"]


def test_more_pictures_prove_what_few_cannot(build, splits):
    bundle, few = build("onnx-int8-onnxruntime"), splits.train
    many = few.subset(np.tile(np.arange(len(few)), 20))
    budget = compared(bundle, many, 0.5).drop_interval[1] + 0.01
    assert compared(bundle, many, 0.5, budget).verdict == "pass"
    assert compared(bundle, few, 0.5, budget).verdict != "pass"
    assert compared(bundle, many, 0.5).cautions == ()
    assert compared(bundle, few, 0.5).cautions[0].startswith("only 24 pictures")


def test_so_few_pictures_that_they_prove_nothing_are_no_pass(build, splits, edgepress, tiny_data, tmp_path):
    """Of two pictures, one with every label and one with none, the interval would be [0, 0], whatever the engine."""
    bundle = build("onnx-fp32")
    for count, verdict in ((2, "unproven"), (LEAST_PICTURES - 1, "unproven"), (LEAST_PICTURES, "pass")):
        found = compared(bundle, splits.train.subset(np.arange(count)), 0.0)
        assert (found.verdict, found.drop_interval is None) == (verdict, verdict == "unproven")
        assert len(found.judgement.reasons) == (verdict == "unproven")
    data = shutil.copytree(tiny_data, tmp_path / "data")
    listing = data / "test" / "metadata.jsonl"
    listing.write_text("\n".join(listing.read_text().splitlines()[:2]) + "\n")
    answer = edgepress("verify", bundle.path, "--data", data)
    assert answer.code == 1, answer.err
    assert (
        "unproven: mAP drops by 0.00 points, which is allowed, but 2 test pictures prove nothing: give at least 10"
        in answer.out
    )


def test_a_label_that_tells_nothing_apart_and_an_engine_that_does_not_are_cautioned(build, splits):
    data, bundle = splits.test, build("onnx-fp32")
    reference, logits = noisy(data, 0.1)
    same = {"reference_targets": data.targets, "reference_ignore": data.ignore, "ran": RAN}

    def cautions(changed: np.ndarray) -> list[str]:
        return compare(bundle, changed, reference, data, reference_name="r", budget=None, **same).cautions

    for columns, said in ((slice(1, 2), "1 of 5 labels have the same logit"), (slice(None), "gets the same answer")):
        changed = logits.copy()
        changed[:, columns] = 0.25
        assert sum(said in line for line in cautions(changed)) == 1
    assert not any("the same" in line for line in cautions(logits))


def test_labels_are_listed_by_what_moved(build, splits):
    rows = compared(build("onnx-int8-onnxruntime"), splits.train, 0.5).labels
    moved = [abs(row.moved_points) for row in rows]
    assert moved == sorted(moved, reverse=True)
    assert moved[0] > moved[-1]
    assert {row.label for row in rows} == set(splits.train.labels.names)
    for row in rows:
        assert row.moved_points == pytest.approx(100 * (row.AP - row.AP_reference))
        assert row.positives == splits.train.targets[:, splits.train.labels.names.index(row.label)].sum()


def test_what_is_unproven_is_no_success(onnx_bundle, edgepress, tiny_data):
    """An engine with some noise, as INT8, which has no bound on a logit; on pictures it does not know by heart."""
    graph = onnx.load(onnx_bundle.model_path)
    perturbed_weights(graph, 0.03)
    name, fields = onnx_bundle.path.parent / "noisy-int8", {"precision": "int8", "parent": onnx_bundle.as_parent}
    bundle, data = wrap(name, graph, onnx_bundle, **fields), load_dataset(tiny_data, "train")
    found = verify(bundle, data)
    assert found.drop_points < found.drop_interval[1]
    assert not [one for one in found.judgement.reasons if one.kind == "decisions"], found.judgement
    arguments = ("verify", bundle.path, "--data", tiny_data, "--split", "train", "--budget")
    answer = edgepress(*arguments, (found.drop_points + found.drop_interval[1]) / 2, "--json")
    assert (answer.code, answer.json["verdict"]) == (1, "unproven")
    assert [stage["stage"] for stage in answer.json["stages"]] == ["student", "onnx-fp32", "noisy-int8"]
    assert answer.json["diverged_at"] is None
    table = edgepress(*arguments, (found.drop_points + found.drop_interval[1]) / 2)
    assert table.code == 1
    assert "unproven: mAP drops by" in table.out
    assert "no stage that was compared goes beyond what is allowed for it" in table.out
    lines = [line for line in table.out.splitlines()[:-2] if not line.startswith("caution: ")]
    assert max(map(len, lines)) <= 140
    assert edgepress(*arguments, found.drop_interval[1] + 0.01).code == 0


def test_a_smaller_budget_is_kept(onnx_bundle, edgepress, tiny_data):
    """Of an engine that loses some mAP."""
    graph = onnx.load(onnx_bundle.model_path)
    perturbed_weights(graph, 0.3)
    name, fields = onnx_bundle.path.parent / "worse-int8", {"precision": "int8", "parent": onnx_bundle.as_parent}
    bundle = wrap(name, graph, onnx_bundle, **fields)
    known = verify(bundle, load_dataset(tiny_data, "val"))
    drop, bound = known.drop_points, known.drop_interval[1]
    assert drop > 0.01
    arguments = ("verify", bundle.path, "--data", tiny_data, "--split", "val", "--json", "--budget")
    tight = edgepress(*arguments, drop - 0.01).json
    assert tight["verdict"] == "fail"
    assert any(reason.startswith("mAP drops by") for reason in tight["reasons"])
    assert not any(reason.startswith("mAP drops by") for reason in edgepress(*arguments, bound + 0.01).json["reasons"])


def test_a_budget_that_is_no_number_of_points_is_refused(edgepress, onnx_bundle, tiny_data):
    """A drop below 0 would be a rise, which no engine owes to its model."""
    for budget in ("nan", "inf", "-1"):
        answer = edgepress("verify", onnx_bundle.path, "--data", tiny_data, "--budget", budget)
        assert answer.code == 2
        assert f"budget is {float(budget)}; expected the mAP points that may be lost" in answer.err
    with pytest.raises(InputError, match="budget is -1; expected the mAP points"):
        verify(onnx_bundle, load_dataset(tiny_data, "val"), budget=-1)


def test_a_torch_model_is_told_to_be_no_engine_whatever_is_asked(edgepress, student, tiny_data):
    """It was told to be given --golden, which was refused then."""
    for words in ((), ("--golden",), ("--data", tiny_data), ("--host", "nobody@host.invalid")):
        answer = edgepress("verify", student.path, *words)
        assert answer.code == 2
        assert "a torch bundle is what engines are verified against" in answer.err
        assert f"edgepress export {student.path} --data DIR --out ONNX makes" in answer.err


def test_golden_is_offered_only_where_there_are_golden_pictures(edgepress, build, tmp_path):
    whole = build("onnx-fp32")
    assert "--data DIR, or --golden to check" in edgepress("verify", whole.path).err
    bare = wrap(tmp_path / "bare", onnx.load(whole.model_path), whole)
    assert edgepress("verify", bare.path).err.strip().endswith("verify needs --data DIR")


def test_what_cannot_run_here_is_no_failure_unless_it_is_required(build, edgepress, tiny_data):
    command = ("verify", build("openvino-fp32").path, "--data", tiny_data, "--device", "npu", "--json")
    answer = edgepress(*command)
    if answer.json["verdict"] in ("pass", "fail"):
        pytest.skip("an NPU is present here")
    assert (answer.code, answer.json["verdict"]) == (0, "not run")
    assert "OpenVINO sees no NPU" in answer.json["reasons"][0]
    answer = edgepress(*command, "--required")
    assert (answer.code, answer.json["verdict"]) == (1, "not run")


@pytest.mark.parametrize(
    ("flag", "what"),
    [
        ("--flips", "decisions changed per predicted positive"),
        ("--net-flips", "predicted positives, as a share"),
        ("--f1-drop", "OF1 drops by"),
        ("--label-drop", "its recall drops by"),
    ],
)
def test_every_bound_on_decisions_is_an_option(build, splits, edgepress, tiny_data, tmp_path, flag, what):
    """An engine that answers no to everything is beyond each bound by itself, where the others allow all."""
    honest = build("onnx-fp32")
    graph = onnx.load(honest.model_path)
    after(graph, "Sub", [numpy_helper.from_array(np.array(30, np.float32), "far")])
    silent = wrap(tmp_path / "silent", graph, honest, decisions=honest.decisions)
    loose = {"--flips": "9", "--net-flips": "9", "--f1-drop": "100", "--label-drop": "100"}

    def said(bounds: dict[str, str]) -> list[str]:
        words = [word for pair in bounds.items() for word in pair]
        answer = edgepress("verify", silent.path, "--data", tiny_data, "--budget", 100, *words, "--json")
        assert answer.code == 1  # the logits are too far away for fp32 in any case
        return answer.json["reasons"]

    assert not any(what in reason for reason in said(loose))
    assert any(what in reason for reason in said({**loose, flag: "0.001"}))


def test_a_bound_below_zero_is_refused(build, edgepress, tiny_data):
    answer = edgepress("verify", build("onnx-fp32").path, "--data", tiny_data, "--flips", "-1")
    assert answer.code == 2
    assert "flips is -1.0; expected a number of at least 0" in answer.err


def test_swapped_arguments_are_named(build, edgepress, tiny_data):
    bundle = build("onnx-fp32").path
    answer = edgepress("verify", tiny_data, "--data", bundle)
    assert answer.code == 2
    assert f"swapped; expected edgepress verify {bundle} --data {tiny_data}" in answer.err
