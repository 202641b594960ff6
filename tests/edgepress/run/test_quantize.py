"""quantize: what the bundle says of the search, what it may look at, and where INT8 that is no gain is stopped."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (pip install 'edgepress[quantize]')")
pytest.importorskip("sympy", reason="sympy is not installed (pip install 'edgepress[quantize]')")

from edgepress.calibration.int8.subset import calibration_hash
from edgepress.deploy.bench import against
from edgepress.deploy.engines.passport import unsound
from edgepress.deploy.machine.device import describe_machine
from edgepress.multilabel.bundle import Bundle, rewrite_bundle
from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.ratio import Ratio
from edgepress.multilabel.saturation import weight_bits_here
from edgepress.run import aligned_decisions, candidates, quantize
from edgepress.run.build import build_engine
from edgepress.run.judge import slower_than_fp32
from edgepress.run.quantize import quantize_bundle
from edgepress.run.recipe import CompileConfig, QuantizeConfig, Recipe
from edgepress.run.splits import Splits

SLOWER = Ratio(ratio=1.12, low=1.05, high=1.2)


@pytest.fixture(scope="module")
def made(onnx_bundle, splits, tmp_path_factory) -> Bundle:
    run = tmp_path_factory.mktemp("int8")
    shutil.copytree(onnx_bundle.path, run / "onnx-fp32")
    config = QuantizeConfig(pictures=8, time_limit=3.0)
    return quantize_bundle(Bundle.open(run / "onnx-fp32"), splits, "onnxruntime", run / "int8", config)


def test_everything_that_was_found_is_in_the_bundle(made, splits):
    found = made.manifest.calibration
    assert (found.choice, found.pictures, found.missing_labels, found.budget) == ("covering", 8, (), 0.5)
    assert found.weight_bits in (7, 8)
    assert 1 <= len([row for row in found.tried if not row.kept]) <= found.planned == 9
    assert found.tried[0].candidate == "min-max"
    taken = [row for row in found.tried if row.val_mAP == found.val_mAP and row.int8_share == found.int8_share]
    assert any(row.candidate.startswith(found.method) for row in taken)
    for row in found.tried:
        assert row.drop_points == pytest.approx(100 * (found.val_mAP_float - row.val_mAP))
        assert 0 < row.latency.low <= row.latency.ratio <= row.latency.high
    assert found.measured_on == describe_machine().processor
    noise = [row.sqnr for row in found.sensitivity]
    assert len(noise) == found.products > 17
    assert noise == sorted(noise)
    assert sum(row.macs for row in found.sensitivity) == pytest.approx(1, abs=0.01)


def test_the_plot_stands_beside_it_and_nothing_of_the_search(made):
    assert {path.name for path in made.path.parent.iterdir()} == {"onnx-fp32", "int8", "plots"}
    assert (made.path.parent / "plots" / "int8-int8.svg").read_bytes().startswith(b"<svg")


def test_it_is_kept_until_a_setting_changes(made, splits, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("edgepress"), "propagate", True)
    monkeypatch.setattr(quantize, "quantize", lambda *_, **__: pytest.fail("searched again"))
    parent, config = Bundle.open(made.path.parent / "onnx-fp32"), QuantizeConfig(pictures=8, time_limit=3.0)
    with caplog.at_level(logging.INFO, logger="edgepress"):
        kept = quantize_bundle(parent, splits, "onnxruntime", made.path, config, tell=lambda *_: pytest.fail("told"))
        assert kept.digest == made.digest
    assert "unchanged, kept" in caplog.text
    for other in (
        {"budget": 0.1},
        {"flips": 0.1},
        {"choice": "random"},
        {"time_limit": 4.0},
        {"weight_bits": 15 - weight_bits_here()},
    ):
        with pytest.raises(pytest.fail.Exception, match="searched again"):
            quantize_bundle(parent, splits, "onnxruntime", made.path, config.model_copy(update=other))
    assert Bundle.open(made.path).digest == made.digest


@pytest.mark.parametrize(("flips", "again"), [(0.2, False), (0.21, True)])
def test_other_decisions_of_the_parent_are_searched_again_where_too_many_change(
    made, splits, tmp_path, monkeypatch, flips, again
):
    monkeypatch.setattr(quantize, "quantize", lambda *_, **__: pytest.fail("searched again"))
    monkeypatch.setattr(aligned_decisions, "flips_per_yes", lambda *_: flips)
    parent = Bundle.open(shutil.copytree(made.path.parent / "onnx-fp32", tmp_path / "onnx-fp32"))
    kept = shutil.copytree(made.path, tmp_path / "int8")
    strict = parent.decisions.model_copy(update={"thresholds": (0.4,) * len(parent.labels)})
    other = rewrite_bundle(parent, parent.path, decisions=strict)
    config = QuantizeConfig(pictures=8, time_limit=3.0)
    if again:
        with pytest.raises(pytest.fail.Exception, match="searched again"):
            quantize_bundle(other, splits, "onnxruntime", kept, config)
        return
    aligned = quantize_bundle(other, splits, "onnxruntime", kept, config)
    assert aligned.decisions.refitted_from == strict
    assert aligned.manifest.calibration.val_flips == flips
    assert {row.flips for row in aligned.manifest.calibration.tried} == {None}
    assert {row.flips for row in made.manifest.calibration.tried} != {None}


def test_a_folder_of_something_else_is_refused_before_the_search(onnx_bundle, splits, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    monkeypatch.setattr(quantize, "quantize", lambda *_, **__: pytest.fail("searched"))
    with pytest.raises(InputError, match="a folder with other files in it"):
        quantize_bundle(onnx_bundle, splits, "onnxruntime", tmp_path / "mine", QuantizeConfig())


def test_the_search_never_reads_test(onnx_bundle, tiny_data, tmp_path):
    """Its file hashes are asked for, against leaks; then its pictures are gone, and nobody knows its labels."""
    data = Path(shutil.copytree(tiny_data, tmp_path / "data"))
    train, val, test = (load_dataset(data, split) for split in ("train", "val", "test"))
    blind = replace(test, targets=None, ignore=None)
    blind.hashes()
    shutil.rmtree(data / "test")
    config = QuantizeConfig(pictures=8, time_limit=0.0)
    made = quantize_bundle(
        onnx_bundle, Splits(train=train, val=val, test=blind), "onnxruntime", tmp_path / "int8", config
    )
    assert made.manifest.calibration.val_mAP > 0


@pytest.mark.parametrize("choice", ["random", "k-centre"])
def test_pictures_can_be_chosen_otherwise(onnx_bundle, splits, tmp_path, choice):
    config = QuantizeConfig(pictures=9, time_limit=0.0, choice=choice)
    sets = []
    for name in ("first", "second"):
        made = quantize_bundle(onnx_bundle, splits, "tensorrt", tmp_path / name, config)
        sets.append(made.manifest.calibration.sha256)
    assert made.manifest.calibration.choice == choice
    assert sets[0] == sets[1]
    covering = quantize._calibration_set(onnx_bundle, splits, config.model_copy(update={"choice": "covering"}))
    assert sets[0] != calibration_hash(covering)
    assert made.manifest.calibration.latency is None  # TensorRT does not run here


def test_an_interrupted_search_is_taken_up_again(onnx_bundle, splits, tmp_path, monkeypatch):
    def interrupt(*_: object, **__: object) -> Any:
        raise KeyboardInterrupt

    config = QuantizeConfig(pictures=8, time_limit=0.0)
    with monkeypatch.context() as patch:
        patch.setattr(quantize._Job, "_record", interrupt)
        with pytest.raises(KeyboardInterrupt):
            quantize_bundle(onnx_bundle, splits, "onnxruntime", tmp_path / "int8", config)
    (left,) = tmp_path.iterdir()
    assert left.name == ".int8.quantizing"
    with monkeypatch.context() as patch:
        patch.setattr(candidates, "compare_latency", lambda *_, **__: pytest.fail("measured again"))
        made = quantize_bundle(onnx_bundle, splits, "onnxruntime", tmp_path / "int8", config)
    assert len(made.manifest.calibration.tried) >= 1
    assert {path.name for path in tmp_path.iterdir()} == {"int8", "plots"}


def test_the_command_line_prints_the_trade(made, edgepress, tiny_data):
    answer = edgepress(
        "quantize", made.path.parent / "onnx-fp32", "--data", tiny_data, "--target", "onnxruntime", "--out", made.path,
        "--pictures", "8", "--time-limit", "3",
    )  # fmt: skip
    assert answer.code == ("fail: " in answer.out), answer.err
    for word in ("candidate", "val mAP", "drop", "SQNR dB", "latency", "in INT8", "min-max", "taken:", str(made.path)):
        assert word in answer.out


def test_a_search_that_missed_what_is_allowed_says_that_more_time_may_find_another(
    made, edgepress, tiny_data, tmp_path
):
    """Only where candidates are left, and not for a graph that is slower alone."""
    run = Path(shutil.copytree(made.path.parent, tmp_path / "run"))
    found = made.manifest.calibration
    lost = {"val_mAP": found.val_mAP_float - 0.1, "val_flips": 0.1234, "latency": None}
    command = (
        *("quantize", run / "onnx-fp32", "--data", tiny_data, "--target", "onnxruntime", "--out", run / "int8"),
        *("--pictures", "8", "--time-limit", "3"),
    )
    for changes, reasons, more in (
        ({**lost, "planned": 99}, ["val mAP drops by 10.00 points; 0.5 are allowed"], True),
        ({**lost, "planned": None}, ["val mAP drops by 10.00 points; 0.5 are allowed"], False),
        ({"val_mAP": found.val_mAP_float, "val_flips": 0.1, "latency": SLOWER, "planned": 99}, ["slower"], False),
    ):
        calibration = found.model_copy(update=changes)
        rewrite_bundle(made, run / "int8", calibration=calibration)
        answer = edgepress(*command)
        assert answer.code == 1, answer.err
        told = [
            line.removeprefix("int8: fail: ") for line in answer.out.splitlines() if line.startswith("int8: fail: ")
        ]
        assert [line[: len(reason)] for line, reason in zip(told, reasons, strict=True)] == reasons
        line = f"int8: tried {calibration.tried_told}: more time may find another (--time-limit)"
        assert (line in answer.out.splitlines()) == more
        assert "flips" in answer.out


def test_a_busy_machine_is_told_and_recorded(made, edgepress, tiny_data, tmp_path, monkeypatch):
    said = "busy: other processes used 80% of the machine's processor time while measured"
    monkeypatch.setattr(against, "disturbances", lambda before, after: [said])
    out = tmp_path / "int8"
    answer = edgepress(
        "quantize", made.path.parent / "onnx-fp32", "--data", tiny_data, "--target", "onnxruntime", "--out", out,
        "--pictures", "8", "--time-limit", "0", "--budget", "100",
    )  # fmt: skip
    assert f"min-max, its time: {said}" in answer.err
    assert f"caution: the latency was measured on a machine that did not keep still (for example {said})" in answer.out
    found = Bundle.open(out).manifest.calibration
    assert found.latency.cautions == found.tried[0].latency.cautions == (said,)
    assert said in found.disturbed
    slow = found.model_copy(update={"latency": SLOWER.model_copy(update={"cautions": (said,)})})
    told = slower_than_fp32(slow, found.measured_on).text
    assert told.endswith(f"; {said}): repeat this on an idle machine, which times it again")
    # Graphs of one structure share a latency, which was counted for each of them.
    same, other = (found.tried[0].model_copy(update={"latency": one}) for one in (found.latency, SLOWER))
    assert "the latency was" in found.model_copy(update={"tried": (same, same, same)}).disturbed
    assert "1 of 2 latencies were" in found.model_copy(update={"tried": (same, same, other)}).disturbed


def test_a_graph_that_a_busy_machine_found_slower_is_timed_again(onnx_bundle, splits, tmp_path, monkeypatch):
    """What it was timed in quiet, and what is faster, is kept."""
    times: list[Ratio] = []

    def timed(*_: object, **__: object) -> Ratio:
        times.append(answers.pop(0))
        return times[-1]

    busy = Ratio(ratio=1.3, low=1.1, high=1.5, cautions=("busy: others",))
    quiet = busy.model_copy(update={"cautions": ()})
    monkeypatch.setattr(candidates, "compare_latency", timed)
    config = QuantizeConfig(pictures=8, time_limit=0.0, budget=100.0, flips=100.0)
    answers = [busy, busy, quiet, quiet]
    for expected in (busy, quiet, quiet):
        made = quantize_bundle(onnx_bundle, splits, "onnxruntime", tmp_path / "int8", config)
        assert made.manifest.calibration.latency == expected
    assert len(times) == 4


def test_a_set_of_noise_cannot_be_asked_for(edgepress, made, tiny_data):
    answer = edgepress(
        "quantize", made.path.parent / "onnx-fp32", "--data", tiny_data, "--target", "tensorrt", "--choice", "noise"
    )
    assert answer.code == 2
    assert "covering" in answer.err


def test_the_worst_node_is_the_one_that_is_broken(onnx_bundle, splits, tmp_path):
    """A weight a million times the others of its channel leaves them no level."""
    import onnx
    from onnx import numpy_helper

    from edgepress.calibration.int8.qdq import OnnxQuantizer
    from edgepress.calibration.int8.sensitivity import rank_nodes

    model = onnx.load(str(onnx_bundle.model_path))
    convolution = [node for node in model.graph.node if node.op_type == "Conv"][6]
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == convolution.input[1])
    values = numpy_helper.to_array(tensor).copy()
    values[:, 0] *= 300
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, str(tmp_path / "broken.onnx"))
    images = np.stack([onnx_bundle.preprocess.load(path) for path in splits.train.paths[:8]])
    # With 8 bits every node is as noisy on a processor whose INT8 products saturate.
    quantizer = OnnxQuantizer(tmp_path / "broken.onnx", tmp_path, images, "onnxruntime", weight_bits_here())
    ranked = rank_nodes(quantizer, "min-max")
    assert ranked[0].node == convolution.name


def test_seven_bit_weights_get_an_engine_of_their_own(made, edgepress, splits, tiny_data):
    """It lies beside the 8-bit one and opens on x86 processors without VNNI as well."""
    parent = made.path.parent / "onnx-fp32"
    answer = edgepress(
        "quantize", parent, "--data", tiny_data, "--target", "onnxruntime", "--weight-bits", "7",
        "--pictures", "8", "--time-limit", "0", "--budget", "100",
    )  # fmt: skip
    seven = Bundle.open(made.path.parent / "onnx-int8-onnxruntime-7bit")
    assert str(seven.path) in answer.out
    assert seven.manifest.calibration.weight_bits == 7
    assert "onnx-int8-onnxruntime-7bit" not in Recipe.parse({"data": "d"}, "").engines
    config = QuantizeConfig(pictures=8, time_limit=0.0, budget=100)
    built = build_engine(seven.name, Bundle.open(parent), made.path.parent, splits, config, CompileConfig())
    assert built.digest == seven.digest  # kept: a run makes the same one
    eight = made.manifest.calibration.model_copy(update={"weight_bits": 8})
    copied = made.manifest.model_copy(update={"calibration": eight})
    named = str(unsound(replace(made, manifest=copied), bits=7))
    # Without VNNI here the engine `made` has 7 bits itself, and is as good.
    assert str(seven.path if made.manifest.calibration.weight_bits == 8 else made.path) in named
    shutil.rmtree(seven.path)
