"""LiteRT's engine: files that it must refuse by name, batches of every size, and what it takes for granted."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepress.deploy.engines import open_engine
from edgepress.multilabel.bundle import Bundle, write_bundle
from edgepress.multilabel.cores import cores
from edgepress.multilabel.errors import EngineUnavailableError, InputError

UNKNOWN = 250
"""No operator of LiteRT."""


@pytest.fixture
def litert(build) -> Bundle:
    return build("litert-fp32")


@pytest.fixture
def holding(litert: Bundle, tmp_path: Path) -> Callable[[bytes], Bundle]:
    """A bundle as the engine's that holds another file, signed as if it belonged there."""

    def with_file(content: bytes) -> Bundle:
        fields = {name: value for name, value in litert.manifest if name not in ("files", "created")}
        with write_bundle(tmp_path / "other", **fields) as folder:
            (folder / "model.tflite").write_bytes(content)
        return Bundle.open(tmp_path / "other")

    return with_file


def changed(bundle: Bundle, change: Callable[[Any], None]) -> bytes:
    """The bundle's model with a change to it, or to its only graph."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(bundle.model_path))
    change(model)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def refused(bundle: Bundle, error: type[Exception] = InputError) -> str:
    with pytest.raises(error) as raised:
        open_engine(bundle, unproven=True)
    message = str(raised.value)
    assert message.startswith(f"{bundle.path / 'model.tflite'}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("kept", [0, 7, 100, 5_000, 0.5, 0.99])
def test_a_file_that_is_cut_is_refused(litert, holding, kept):
    content = litert.model_path.read_bytes()
    end = int(kept * len(content)) if isinstance(kept, float) else kept
    assert "LiteRT cannot load it: " in refused(holding(content[:end]))


def test_a_file_of_another_kind_is_refused(holding, onnx_bundle):
    assert "LiteRT cannot load it: " in refused(holding(onnx_bundle.model_path.read_bytes()))


def test_a_model_of_other_labels_is_refused(litert, holding):
    def six_labels(model: Any) -> None:
        tensor = model.subgraphs[0].tensors[model.subgraphs[0].outputs[0]]
        tensor.shapeSignature = np.array([-1, 6], np.int32)

    said = refused(holding(changed(litert, six_labels)))
    assert said.endswith("gives float32 [any, 6]; by its manifest float32 logits [any, 5]")


def test_an_input_of_another_type_is_refused(litert, holding):
    """As converters make it that put the normalisation outside, or INT8 tools that quantise the input."""

    def starts_after_the_cast(model: Any) -> None:
        graph = model.subgraphs[0]
        cast = next(operator for operator in graph.operators if graph.inputs[0] in operator.inputs)
        graph.operators.remove(cast)
        graph.inputs = cast.outputs
        model.signatureDefs = []

    assert "takes float32 [any, 64, 64, 3]; by its manifest uint8" in refused(
        holding(changed(litert, starts_after_the_cast))
    )


def test_a_second_output_is_refused(litert, holding):
    def two_outputs(model: Any) -> None:
        graph = model.subgraphs[0]
        graph.outputs = np.array([graph.outputs[0], graph.operators[5].outputs[0]], np.int32)
        model.signatureDefs = []

    assert "has 1 inputs and 2 outputs; expected one of each" in refused(holding(changed(litert, two_outputs)))


@pytest.mark.parametrize(
    ("lacks", "named"),
    [
        (lambda code: setattr(code, "version", 99), r"Didn't find op for builtin opcode '\w+' version '99'"),
        (
            lambda code: (setattr(code, "builtinCode", 32), setattr(code, "customCode", b"Wobble")),
            r"[Uu]nresolved custom op: Wobble",
        ),
    ],
)
def test_an_operator_that_this_litert_lacks_is_named_with_the_versions(litert, holding, lacks, named):
    def last_operator(model: Any) -> None:
        code = model.operatorCodes[model.subgraphs[0].operators[-1].opcodeIndex]
        lacks(code)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)

    said = refused(holding(changed(litert, last_operator)), EngineUnavailableError)
    assert re.search(rf"recorded: ai-edge-litert ([\d.]+); found: ai-edge-litert \1, .*{named}", said)
    assert said.endswith("install a newer ai-edge-litert, or take another engine")


def fixed_to(batch: int) -> Callable[[Any], None]:
    """A model whose first dimension is a number, as other converters write it."""

    def fix(model: Any) -> None:
        for tensor in model.subgraphs[0].tensors:
            if tensor.shapeSignature is not None and len(tensor.shapeSignature) and tensor.shapeSignature[0] == -1:
                tensor.shape = np.array([batch, *tensor.shape[1:]], np.int32)
            tensor.shapeSignature = None

    return fix


def test_a_file_for_one_picture_a_call_is_called_once_a_picture(litert, holding, images):
    with open_engine(holding(changed(litert, fixed_to(1))), unproven=True) as engine, open_engine(litert) as free:
        assert engine.max_batch == 1
        assert np.abs(engine(images[:5]) - free(images[:5])).max() < 1e-4


def test_a_file_for_several_pictures_a_call_is_refused(litert, holding):
    said = refused(holding(changed(litert, fixed_to(3))))
    assert said.endswith("takes 3 pictures a call, no more and no fewer; expected any number, or one")


def test_batches_of_changing_size_give_the_same_bits(litert, images):
    """The interpreter is resized for each of them, and what it held for another size is not used."""
    with open_engine(litert) as engine:
        alone, whole = engine(images[:1]), engine(images[:33])
        for size in (2, 33, 1, 7, 1, 33):
            found = engine(images[:size])
            assert np.array_equal(engine(images[:size]), found)
            assert np.array_equal(found, whole) or size != 33
            assert np.array_equal(found, alone) or size != 1


def test_half_precision_is_off_and_a_file_that_permits_it_is_told(litert, holding, images):
    """As onnx2tf writes its float32 files, before edgepress takes the permission away."""
    from ai_edge_litert.schema_py_generated import MetadataT

    def permits(model: Any) -> None:
        entry = MetadataT()
        entry.name, entry.buffer = "reduced_precision_support", 0
        model.metadata = [*(model.metadata or []), entry]

    with open_engine(litert) as ours, open_engine(holding(changed(litert, permits)), unproven=True) as other:
        assert ours.proof().settings["half_precision"] == "off"
        assert other.proof().settings["half_precision"] == "permitted by the file"


def test_it_takes_the_cores_that_this_process_may_use(litert):
    with open_engine(litert) as engine:
        assert engine.proof().settings["threads"] == str(cores())


def test_a_batch_too_large_for_memory_leaves_the_engine_usable(litert, images, monkeypatch):
    with open_engine(litert) as engine:
        expected = engine(images[:2])
        interpreter = engine._interpreter

        def full() -> None:
            raise MemoryError

        monkeypatch.setattr(engine._interpreter, "allocate_tensors", full)
        with pytest.raises(MemoryError):
            engine(images[:4])
        monkeypatch.undo()
        assert engine._interpreter is interpreter
        assert np.array_equal(engine(images[:2]), expected)
