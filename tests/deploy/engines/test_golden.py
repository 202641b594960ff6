"""The golden check: an engine that answers otherwise here than where it was made is not opened."""

from __future__ import annotations

import logging
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgepress import open_engine, open_tagger
from edgepress.deploy.bench.latency import bench
from edgepress.deploy.demo.answers import Opening, open_engines
from edgepress.deploy.engines import golden as room
from edgepress.deploy.engines import passport
from edgepress.deploy.engines.golden import Golden, disagreement, is_proven
from edgepress.deploy.engines.onnxruntime import OnnxRuntimeEngine
from edgepress.deploy.engines.openvino import OpenVinoEngine
from edgepress.deploy.engines.passport import unsound
from edgepress.deploy.machine.processor import MachineKey
from edgepress.multilabel.bundle import Bundle, write_bundle
from edgepress.multilabel.errors import EngineUnavailableError, InputError
from edgepress.multilabel.golden_answers import GOLDEN
from edgepress.multilabel.manifest import Parent, Quantization, Tried
from edgepress.multilabel.ratio import Ratio
from tests.deploy.verify.corruptions import wrap


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """A machine on which nothing was proven yet."""
    monkeypatch.setattr(room, "_proven", set())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def altered(bundle: Bundle, path: Path, golden: Golden | None, **changes: Any) -> Bundle:
    """The same model with other stored pictures and other words in its manifest."""
    fields = {name: value for name, value in bundle.manifest if name not in ("files", "created")} | changes
    with write_bundle(path, **fields) as folder:
        for name in bundle.manifest.files:
            if not name.startswith("golden"):
                shutil.copyfile(bundle.path / name, folder / name)
        if golden is not None:
            golden.save(folder / GOLDEN)
    return Bundle.open(path)


def stored(bundle: Bundle) -> Golden:
    golden = Golden.of(bundle)
    assert golden is not None
    return golden


def other(bundle: Bundle, path: Path, by: float = 0.2) -> Bundle:
    """As a machine sees it that computes otherwise than the one where it was made."""
    golden = stored(bundle)
    return altered(bundle, path, replace(golden, logits=golden.logits + np.float32(by)))


@pytest.fixture
def calls(monkeypatch) -> list[int]:
    """Pictures of every call of an engine."""
    counted: list[int] = []
    run = OnnxRuntimeEngine._run

    def counting(self: OnnxRuntimeEngine, images: np.ndarray) -> np.ndarray:
        counted.append(len(images))
        return run(self, images)

    monkeypatch.setattr(OnnxRuntimeEngine, "_run", counting)
    return counted


@pytest.mark.parametrize("name", ["onnx-fp32", "onnx-fp16", "openvino-fp32", "litert-fp32", "ncnn-fp32"])
def test_a_derived_bundle_carries_its_parents_pictures_and_passes(build, onnx_bundle, model, name):
    bundle = build(name)
    golden = stored(bundle)
    assert golden.pictures.shape == (8, 64, 64, 3)
    assert np.array_equal(golden.logits, stored(onnx_bundle).logits)
    with open_engine(bundle) as engine:
        assert is_proven(engine)


def test_another_answer_stops_every_way_of_opening_and_is_told(onnx_bundle, tmp_path):
    wrong = other(onnx_bundle, tmp_path / "onnx-fp32")
    said = r"a logit differs by 0\.2 from torch's; 0\.05 is allowed; .*--unproven"
    for opening in (open_engine, open_tagger, bench, lambda bundle: open_engines(bundle.path)):
        with pytest.raises(EngineUnavailableError, match=said):
            opening(wrong)
    for opening in (open_engine, open_tagger):
        opening(wrong, unproven=True).close()
    open_engines(wrong.path, Opening(unproven=True)).close()


def test_the_verbs_say_it_and_insist(onnx_bundle, tmp_path, edgepress, splits):
    wrong = other(onnx_bundle, tmp_path / "onnx-fp32")
    told = edgepress("predict", wrong.path, splits.test.paths[0])
    assert told.code == 2
    assert "does not answer as where it was made: a logit differs by 0.2" in told.err
    assert edgepress("predict", wrong.path, splits.test.paths[0], "--unproven").code == 0
    timed = edgepress("bench", wrong.path, "--seconds", "0.05", "--json").json
    assert timed["verdict"] == "not run"
    assert "a logit differs by 0.2" in timed["reasons"][0]


def test_what_is_proven_is_remembered_by_another_process(onnx_bundle, calls, monkeypatch):
    open_engine(onnx_bundle).close()
    assert calls == [1, 7]  # a batch as well: some runtimes err in batches alone
    monkeypatch.setattr(room, "_proven", set())
    open_engine(onnx_bundle).close()
    assert calls == [1, 7]
    monkeypatch.setattr(room, "machine_key", lambda: MachineKey(processor="another", instructions=""))
    open_engine(onnx_bundle).close()
    assert calls == [1, 7, 1, 7]
    monkeypatch.setattr(OnnxRuntimeEngine, "runtime_version", "onnxruntime 1.99")
    open_engine(onnx_bundle).close()
    assert calls == [1, 7, 1, 7, 1, 7]


@pytest.mark.parametrize("name", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
def test_what_was_proven_with_other_instructions_is_proven_again(onnx_bundle, calls, monkeypatch, name):
    """OpenVINO's INT8 answers saturate under ONEDNN_MAX_CPU_ISA=AVX2 on a processor with VNNI as well."""
    with open_engine(onnx_bundle) as engine:
        assert is_proven(engine)
        monkeypatch.setenv(name, "AVX2")
        assert not is_proven(engine)
    open_engine(onnx_bundle).close()
    assert calls == [1, 7, 1, 7]
    monkeypatch.delenv(name)
    open_engine(onnx_bundle).close()
    assert calls == [1, 7, 1, 7]


@pytest.mark.parametrize("home", [None, "", "/proc/no-such", "relative"])
def test_without_a_place_to_write_it_is_proven_once_per_process(onnx_bundle, calls, monkeypatch, caplog, home):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME")
    if home is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", home)
    with caplog.at_level(logging.INFO, logger="edgepress"):
        for _ in range(2):
            open_engine(onnx_bundle).close()
    assert calls == [1, 7]
    assert sum("proven here; that cannot be kept" in line for line in caplog.messages) == 1


def test_a_slow_device_answers_fewer_pictures(onnx_bundle, calls, monkeypatch):
    monkeypatch.setattr(room, "MOST_SECONDS", 0.0)
    open_engine(onnx_bundle).close()
    assert calls == [1]


def test_a_bundle_without_stored_pictures_opens_with_a_caution(onnx_bundle, tmp_path, caplog):
    with open_engine(altered(onnx_bundle, tmp_path / "old", None)):
        assert "has no stored pictures (golden.npz), so nobody has seen what it answers on this machine" in caplog.text


@pytest.mark.parametrize(
    "reason",
    [
        "Exception during initialization: std::bad_alloc",
        f"Non-zero status code: {'x' * 300} Failed to allocate memory for requested buffer of size 6553600000",
    ],
)
def test_too_little_memory_is_no_fault_of_the_model_nor_of_the_processor(onnx_bundle, monkeypatch, reason):
    def full(*given, **named):
        raise RuntimeError(reason)

    said = r"there is too little memory here to run it with "
    monkeypatch.setattr(OnnxRuntimeEngine, "_run", full)
    with pytest.raises(EngineUnavailableError, match=f"{said}onnxruntime 1"):
        open_engine(onnx_bundle)
    monkeypatch.setattr("onnxruntime.InferenceSession", full)
    with pytest.raises(EngineUnavailableError, match=f"{said}ONNX Runtime; free some"):
        open_engine(onnx_bundle)


def test_a_first_inference_that_fails_says_which_engine_to_take(build, monkeypatch, edgepress, tiny_data):
    """As OpenVINO's INT8 on processors without fp16, which compiles and then cannot run."""

    bundle = build("openvino-fp32")

    def fails(self: OpenVinoEngine, images: np.ndarray) -> np.ndarray:
        raise RuntimeError("object is not initialized")

    monkeypatch.setattr(OpenVinoEngine, "_run", fails)
    said = r"its first inference fails \(object is not initialized\).*such as onnx-int8-onnxruntime"
    with pytest.raises(EngineUnavailableError, match=said):
        open_engine(bundle)
    with pytest.raises(EngineUnavailableError, match=said):
        bench(bundle)
    answer = edgepress("verify", bundle.path, "--data", tiny_data, "--json")
    assert (answer.code, answer.json["verdict"]) == (0, "not run")
    assert re.search(said, answer.json["reasons"][0])
    assert edgepress("bench", bundle.path, "--json").json["verdict"] == "not run"


def test_a_model_that_onnx_runtime_cannot_run_is_at_fault_itself(onnx_bundle, tmp_path, edgepress, tiny_data):
    """ONNX Runtime's exceptions have no common base class; an engine's contract is RuntimeError."""
    graph = onnx.load(onnx_bundle.model_path)
    graph.graph.node.append(onnx.helper.make_node("Reshape", [graph.graph.input[0].name, "seven"], ["reshaped"]))
    graph.graph.initializer.append(onnx.numpy_helper.from_array(np.array([7, 1]), "seven"))
    graph.graph.output.append(onnx.helper.make_tensor_value_info("reshaped", onnx.TensorProto.UINT8, None))
    broken = wrap(tmp_path / "onnx-fp32", graph, onnx_bundle)
    with (
        open_engine(broken, unproven=True) as engine,
        pytest.raises(RuntimeError, match=r"ONNX Runtime fails: .*Reshape"),
    ):
        engine(np.zeros((1, 64, 64, 3), np.uint8))
    for arguments in (["verify", broken.path, "--data", tiny_data], ["bench", broken.path]):
        answer = edgepress(*arguments)
        assert answer.code == 2
        assert "its first inference fails (ONNX Runtime fails" in answer.err
        assert answer.err.endswith("make the model again\n")


def test_answers_that_are_no_numbers_are_told(onnx_bundle):
    golden = stored(onnx_bundle)
    found = golden.logits.copy()
    found[0, :2] = np.nan
    assert disagreement(golden, found, onnx_bundle) == "2 of 40 logits are NaN or infinite"


@pytest.mark.parametrize("name", ["onnx-int8-onnxruntime", "openvino-int8", "litert-int8", "ncnn-int8"])
def test_an_int8_engine_is_held_to_its_own_answers(build, name):
    bundle = build(name)
    golden = stored(bundle)
    assert golden.answers is not None
    with open_engine(bundle, unproven=True) as engine:
        found = engine(golden.pictures)
    assert disagreement(golden, found, bundle) is None
    noise = golden.answers - golden.logits
    # Half of what INT8 costs gone, as where a processor runs some nodes in float: nearer to torch, and no fault.
    assert disagreement(golden, found - noise / 2, bundle) is None
    off = found + noise[::-1]  # as far again, in another direction
    assert "its INT8 products saturate on this processor" in str(disagreement(golden, off, bundle))


@pytest.mark.parametrize(
    "damage",
    [
        {"pictures": np.zeros((8, 32, 32, 3), np.uint8)},
        {"logits": np.zeros((8, 4), np.float32)},
        {"answers": np.zeros((7, 5), np.float32)},
        {"pictures": np.zeros((8, 64, 64, 3), np.float32)},
    ],
)
def test_stored_pictures_of_another_model_are_refused(onnx_bundle, tmp_path, damage):
    bundle = altered(onnx_bundle, tmp_path / "b", replace(stored(onnx_bundle), **damage))
    with pytest.raises(InputError, match=r"golden\.npz: not a file that edgepress made"):
        open_engine(bundle)


PARENT = Parent(name="onnx-fp32", digest="0" * 64)
CALIBRATION = Quantization(pictures=1, sha256="0", split="train", method="min-max")
UNTIMED = Tried(candidate="min-max", val_mAP=0.5, drop_points=0.0, sqnr=30.0, latency=None, int8_share=1.0, kept=0)
TIMED = UNTIMED.model_copy(update={"latency": Ratio(ratio=0.8, low=0.7, high=0.9)})


@pytest.mark.parametrize(
    ("bits", "here", "changes", "device", "told"),
    [
        (8, 7, {}, "cpu", True),
        (7, 7, {}, "cpu", False),
        (8, 8, {}, "cpu", False),
        (8, 7, {"target": "openvino"}, "cpu", True),
        (8, 7, {"target": "tensorrt"}, "cpu", False),  # signed by signed, which does not saturate
        (8, 7, {"tried": (UNTIMED, UNTIMED)}, "cpu", False),  # for TensorRT as well, before targets were recorded
        (8, 7, {"tried": (UNTIMED, TIMED)}, "cpu", True),
        (8, 7, {"target": "onnxruntime", "tried": (UNTIMED,)}, "cpu", True),
        (8, 7, {}, "gpu", False),
    ],
)
def test_products_that_saturate_are_known_by_the_processor(onnx_bundle, tmp_path, bits, here, changes, device, told):
    calibration = CALIBRATION.model_copy(update={"weight_bits": bits, **changes})
    bundle = altered(onnx_bundle, tmp_path / "b", stored(onnx_bundle), precision="int8", calibration=calibration)
    fault = unsound(bundle, device, here)
    assert (fault is not None) == told
    if fault is not None:
        assert "--target onnxruntime --weight-bits 7 --data DIR" in fault
        assert "edgepress quantize student" in fault


def test_the_seven_bit_engine_beside_it_is_named(onnx_bundle, tmp_path, edgepress, monkeypatch):
    def made(name: str, bits: int, **changes: Any) -> Bundle:
        calibration = CALIBRATION.model_copy(update={"weight_bits": bits})
        fields = {"precision": "int8", "calibration": calibration, "parent": PARENT, **changes}
        return altered(onnx_bundle, tmp_path / name, stored(onnx_bundle), **fields)

    eight = made("a", 8)
    made("b", 8)
    made("c", 7, parent=Parent(name="onnx-fp32", digest="1" * 64))  # of another model
    made("d", 7)
    (tmp_path / "d" / GOLDEN).write_bytes(b"damaged")
    assert "--weight-bits 7 --data DIR" in str(unsound(eight, bits=7))
    seven = made("e", 7)
    assert str(unsound(eight, bits=7)).endswith(
        f"take {seven.path}, which has 7-bit weights, or insist with --unproven"
    )
    assert unsound(seven, bits=7) is None
    monkeypatch.setattr(passport, "weight_bits_here", lambda: 7)
    with pytest.raises(EngineUnavailableError, match=f"take {seven.path}"):
        open_engine(eight)
    open_engine(seven).close()
    assert f"take {seven.path}" in edgepress("inspect", eight.path, "--json").json["here"]


@pytest.mark.parametrize(("kind", "told"), [("onnx", True), ("openvino", True), ("litert", False)])
def test_only_runtimes_whose_products_saturate_are_held_to_it(onnx_bundle, tmp_path, kind, told):
    """XNNPACK multiplies two signed numbers, and adds the products in 32 bits."""
    changes = {"kind": kind, "precision": "int8", "calibration": CALIBRATION}
    bundle = altered(onnx_bundle, tmp_path / "b", stored(onnx_bundle), **changes)
    assert (unsound(bundle, "cpu", 7) is not None) == told


def test_an_int8_engine_that_saturates_here_is_not_opened(onnx_bundle, tmp_path, monkeypatch, edgepress, splits):
    bundle = altered(onnx_bundle, tmp_path / "b", stored(onnx_bundle), precision="int8", calibration=CALIBRATION)
    monkeypatch.setattr(passport, "weight_bits_here", lambda: 7)
    for opening in (open_engine, open_tagger, bench, lambda bundle: open_engines(bundle.path)):
        with pytest.raises(EngineUnavailableError, match="saturate on this processor, which has no VNNI"):
            opening(bundle)
    open_engine(bundle, unproven=True).close()
    told = edgepress("predict", bundle.path, splits.test.paths[0])
    assert (told.code, "--weight-bits 7" in told.err) == (2, True)
    monkeypatch.setattr(passport, "weight_bits_here", lambda: 8)
    open_engine(bundle).close()


@pytest.mark.parametrize("name", ["onnx-fp32", "openvino-fp32", "litert-fp32", "ncnn-fp32"])
def test_files_replaced_under_an_open_engine_change_nothing(build, tmp_path, images, name):
    """A deployment copies over a bundle, file by file and in place."""
    bundle = Bundle.open(shutil.copytree(build(name).path, tmp_path / name))
    with open_engine(bundle) as engine:
        before = engine(images)
        for file in filter(Path.is_file, bundle.path.rglob("*")):
            size = file.stat().st_size
            with file.open("r+b") as written:
                written.write(np.random.default_rng(0).bytes(size))
        assert np.array_equal(engine(images), before)
    with pytest.raises(InputError):
        open_engine(bundle.path)


@pytest.mark.parametrize("name", ["onnx-fp32", "openvino-fp32", "litert-fp32", "ncnn-fp32"])
def test_a_file_replaced_between_the_check_and_the_opening_is_refused(build, tmp_path, name):
    bundle = Bundle.open(shutil.copytree(build(name).path, tmp_path / name))
    weights = bundle.model_path.with_suffix(".bin") if name == "openvino-fp32" else bundle.model_path
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(InputError, match="replaced since the bundle was opened; open it again"):
        open_engine(bundle)
