"""The forms in which a graph gives its scores: what is taken, and what is refused with what to do."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

pytest.importorskip("onnxruntime")
from edgepress import open_engine
from edgepress.deploy.build.adopt import adopt_onnx
from edgepress.deploy.build.foreign import AdoptConfig
from edgepress.deploy.build.wrap import BATCHES
from edgepress.deploy.verify.verification import verify
from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.errors import InputError
from tests.deploy.build.graphs import SIZE, saved, tagger, weights

NORMAL = AdoptConfig(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


@pytest.fixture(scope="module")
def data(tiny_data):
    return load_dataset(tiny_data, "test")


def adopted(model: onnx.ModelProto, data, tmp_path, config: AdoptConfig = NORMAL):
    return adopt_onnx(saved(model, tmp_path / "own.onnx"), data, tmp_path / "made", labels=data.labels, config=config)


def expected(pixels: np.ndarray) -> np.ndarray:
    return ((pixels / 255 - 0.5) / 0.5).mean(axis=(1, 2)) @ weights()


def then(operator: str, *more: str, **attributes) -> list[onnx.NodeProto]:
    return [helper.make_node(operator, ["scores", *more], ["y"], **attributes)]


HALF = helper.make_tensor_value_info("y", TensorProto.FLOAT16, ["n", 5])
MAPS = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5, 1, 1])
SHAPELESS = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
DOUBLE = helper.make_tensor_value_info("y", TensorProto.DOUBLE, ["n", 5])


@pytest.mark.parametrize(
    ("changes", "most"),
    [
        ({}, 1e-5),
        ({"layout": "nhwc"}, 1e-5),
        ({"after": then("Cast", to=TensorProto.FLOAT16), "output": HALF}, 2e-3),
        ({"after": then("Cast", to=TensorProto.DOUBLE), "output": DOUBLE}, 1e-5),
        ({"after": then("Unsqueeze", "last"), "output": MAPS, "constants": {"last": np.array([2, 3])}}, 1e-5),
        ({"after": then("Unsqueeze", "last"), "output": SHAPELESS, "constants": {"last": np.array([2, 3])}}, 1e-5),
        *(({"opset": opset}, 1e-5) for opset in (18, 19, 20, 21, 22, 23)),
    ],
)
def test_every_form_of_scores_becomes_logits(changes, most, data, tmp_path):
    made = adopted(tagger(**changes), data, tmp_path)
    with open_engine(made.path) as engine:
        pixels = np.stack([engine.preprocess(data.picture(row)) for row in range(max(BATCHES))])
        found = engine(pixels)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected(pixels), atol=most)


def test_a_local_function_is_written_out(data, tmp_path):
    """Exporters may write modules as functions, and quantisers look at operators alone."""
    model = tagger(after=[helper.make_node("Own", ["scores"], ["y"], domain="own")])
    body = [helper.make_node("Neg", ["a"], ["b"])]
    model.functions.append(helper.make_function("own", "Own", ["a"], ["b"], body, [helper.make_opsetid("", 17)]))
    model.opset_import.append(helper.make_opsetid("own", 1))
    made = adopted(model, data, tmp_path)
    assert "Own" not in {node.op_type for node in onnx.load(made.model_path).graph.node}
    with open_engine(made.path) as engine:
        pixels = np.stack([engine.preprocess(data.picture(0))])
        np.testing.assert_allclose(engine(pixels), -expected(pixels), atol=1e-5)


SURE = np.float32(-12), np.float32(-40)


def test_a_sigmoid_over_sure_answers_is_taken_off_and_the_reference_holds_its_logits(data, tmp_path):
    """Most labels of a tagger are surely absent, and a probability of 1e-6 in float32 does not hold its logit."""
    offsets = np.resize(np.array(SURE), 5).astype(np.float32)
    after = [
        helper.make_node("Add", ["scores", "offsets"], ["shifted"]),
        helper.make_node("Sigmoid", ["shifted"], ["y"]),
    ]
    made = adopted(tagger(after=after, constants={"offsets": offsets}), data, tmp_path)
    assert verify(made, data).verdict == "pass"
    with open_engine(made.path) as engine:
        pixels = np.stack([engine.preprocess(data.picture(row)) for row in range(len(data))])
        np.testing.assert_allclose(engine(pixels), expected(pixels) + offsets, atol=1e-4)


@pytest.mark.parametrize("last", ["Sigmoid", "Softmax"])
def test_probabilities_are_not_taken_for_logits_even_if_told_so(last, data, tmp_path):
    said = NORMAL.model_copy(update={"activation": "none"})
    with pytest.raises(InputError, match=rf"its last node is a {last}.*leave out --activation"):
        adopted(tagger(after=then(last)), data, tmp_path, said)


SEQUENCE = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
INDEX = helper.make_tensor_value_info("y", TensorProto.INT64, ["n"])
SUM = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"after": then("ArgMax", axis=1, keepdims=0), "output": INDEX}, "holds int64 numbers; expected a score per l"),
        (
            {"after": then("SequenceConstruct"), "output": SEQUENCE},
            "the output y is no tensor; expected a column of scores for each label: .*without what makes lists",
        ),
        (
            {"after": then("Unsqueeze", "last"), "output": SHAPELESS, "constants": {"last": np.array([1])}},
            r"has the shape \[12, 1, 5\] for 12 pictures; expected \[pictures, labels\]",
        ),
        ({"after": then("ReduceSum", keepdims=0), "output": SHAPELESS}, r"has the shape \[\] for 12 pictures"),
        ({"outputs": 7}, "has 7 columns for 5 labels"),
        ({"dtype": TensorProto.INT8}, "the input x is int8; expected float32 or uint8: export it in float32"),
        ({"dtype": TensorProto.FLOAT16}, "the input x is float16; expected float32 or uint8"),
        ({"dtype": TensorProto.DOUBLE}, "the input x is double; expected float32 or uint8"),
        ({"shape": ["n", 1, SIZE, SIZE]}, "expected three channels"),
        ({"shape": ["n", 3, "h", "w"]}, "say --size, its side in pixels"),
        ({"shape": ["n", "c", SIZE, SIZE]}, "say --layout nchw or --layout nhwc"),
        ({"shape": [SIZE, SIZE, 3]}, r"expected pictures, \[batch, 3, height, width\] or"),
        ({"opset": 99}, r"refuses it \(ONNX Runtime only .* Opset 99 .*: export it with opset_version=20"),
    ],
)
def test_every_other_form_is_refused_in_one_line(changes, said, data, tmp_path):
    with pytest.raises(InputError, match=said) as error:
        adopted(tagger(**changes), data, tmp_path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "made").exists()


def test_a_graph_with_open_sides_takes_the_size_that_is_said(data, tmp_path):
    config = NORMAL.model_copy(update={"size": 24})
    assert adopted(tagger(shape=["n", 3, "h", "w"]), data, tmp_path, config).preprocess.size == 24


def test_answers_that_are_no_numbers_are_refused(data, tmp_path):
    model = tagger(after=then("Log"))  # of negative scores
    with pytest.raises(InputError, match="gives logits that are NaN or infinite"):
        adopted(model, data, tmp_path)
