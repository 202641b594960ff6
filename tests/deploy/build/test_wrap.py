"""The forms in which a graph gives its scores: what is taken, and what is refused with what to do."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

pytest.importorskip("onnxruntime")
from edgepress import open_engine
from edgepress.deploy.build import adopt
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


HIDDEN = [
    helper.make_node("Sigmoid", ["scores"], ["p"]),
    helper.make_node("Unsqueeze", ["p", "last"], ["front_sub"]),
    helper.make_node("Identity", ["front_sub"], ["y"]),
]
"""A sigmoid that tf2onnx's Identity hides."""
OURS = [
    helper.make_node("Mul", ["scores", "front_mean"], ["logits"]),
    helper.make_node("Mul", ["logits", "tail_one"], ["images"]),
    helper.make_node("Identity", ["images"], ["y"]),
]
"""Tensors with names that the front and the tail have as well."""


@pytest.mark.parametrize(
    ("changes", "most"),
    [
        ({}, 1e-5),
        ({"layout": "nhwc"}, 1e-5),
        ({"after": then("Cast", to=TensorProto.FLOAT16), "output": HALF}, 2e-3),
        ({"after": then("Cast", to=TensorProto.DOUBLE), "output": DOUBLE}, 1e-5),
        ({"after": then("Unsqueeze", "last"), "output": MAPS, "constants": {"last": np.array([2, 3])}}, 1e-5),
        ({"after": then("Unsqueeze", "last"), "output": SHAPELESS, "constants": {"last": np.array([2, 3])}}, 1e-5),
        ({"after": then("Unsqueeze", "last"), "output": SHAPELESS, "constants": {"last": np.array([1])}}, 1e-5),
        ({"after": HIDDEN, "output": SHAPELESS, "constants": {"last": np.array([1])}}, 1e-5),
        ({"after": OURS, "constants": {"front_mean": np.float32(2), "tail_one": np.float32(0.5)}}, 1e-5),
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
PAIRS = [
    helper.make_node("Unsqueeze", ["scores", "last"], ["column"]),
    helper.make_node("Concat", ["column", "column"], ["y"], axis=2),
]
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
            {"after": then("Concat", "scores", axis=1), "output": SHAPELESS},
            "has 10 columns for 5 labels; .* If a label has two scores, of no and of yes, export yes less no",
        ),
        (
            {"after": PAIRS, "output": SHAPELESS, "constants": {"last": np.array([2])}},
            r"has the shape \[12, 5, 2\] for 12 pictures; expected \[pictures, labels\]: if a label has two scores",
        ),
        (
            {"after": then("Unsqueeze", "last"), "output": SHAPELESS, "constants": {"last": np.array([0])}},
            r"has the shape \[1, 12, 5\] for 12 pictures",
        ),
        ({"after": then("ReduceSum", keepdims=0), "output": SHAPELESS}, r"has the shape \[\] for 12 pictures"),
        ({"outputs": 7}, "has 7 columns for 5 labels"),
        ({"dtype": TensorProto.INT8}, "the input x is int8; expected float32 or uint8: export it in float32"),
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


def of_heads(model: onnx.ModelProto) -> onnx.ModelProto:
    """Two outputs, the first two labels and the others."""
    del model.graph.output[:]
    cuts = {"zero": [0], "two": [2], "five": [5], "columns": [1]}
    model.graph.initializer.extend(numpy_helper.from_array(np.array(value), name) for name, value in cuts.items())
    for name, (first, last) in {"weather": ("zero", "two"), "a place": ("two", "five")}.items():
        model.graph.node.append(helper.make_node("Slice", ["y", first, last, "columns"], [name]))
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", None]))
    return model


def test_heads_are_joined_in_the_order_in_which_they_are_named(data, tmp_path):
    with pytest.raises(InputError, match=r"or several whose columns are to be joined.*: --output 'weather,a place'"):
        adopted(of_heads(tagger()), data, tmp_path)
    config = NORMAL.model_copy(update={"output": "weather,a place"})
    made = adopted(of_heads(tagger()), data, tmp_path, config)
    with open_engine(made.path) as engine:
        pixels = np.stack([engine.preprocess(data.picture(row)) for row in range(5)])
        np.testing.assert_allclose(engine(pixels), expected(pixels), atol=1e-5)


@pytest.mark.parametrize("name", ["x", "images"])
def test_a_branch_may_read_the_pictures_itself(name, data, tmp_path):
    """`images` is what our front calls its bytes, and many exporters call their float input so."""
    branches = {}
    for branch, operator in (("then_branch", "ReduceMin"), ("else_branch", "ReduceMax")):
        nodes = [
            helper.make_node(operator, [name], [f"{branch}_of"], axes=[2, 3], keepdims=0),
            helper.make_node("MatMul", [f"{branch}_of", "weights"], [branch]),
        ]
        value = helper.make_tensor_value_info(branch, TensorProto.FLOAT, None)
        branches[branch] = helper.make_graph(nodes, branch, [], [value])
    model = tagger(after=[helper.make_node("If", ["no"], ["y"], **branches)], constants={"no": np.array(False)})
    model.graph.input[0].name = name
    model.graph.node[0].input[0] = name
    made = adopted(model, data, tmp_path)
    with open_engine(made.path) as engine:
        pixels = engine.preprocess(data.picture(0))[None]
        np.testing.assert_allclose(engine(pixels), (pixels.max(axis=(1, 2)) / 127.5 - 1) @ weights(), atol=1e-5)


def in_half() -> onnx.ModelProto:
    half = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, ["n", *rest]) for name, rest in
            (("x", [3, SIZE, SIZE]), ("y", [5]))]  # fmt: skip
    model = tagger()
    model.graph.input[0].CopyFrom(half[0])
    model.graph.output[0].CopyFrom(half[1])
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights().astype(np.float16), "weights"))
    return model


def test_a_file_in_float16_that_onnx_runtime_refuses_as_it_is_is_adopted(data, tmp_path, caplog):
    model = in_half()
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT  # which an Identity of float16 does not give
    with caplog.at_level("INFO", logger="edgepress"):
        made = adopted(model, data, tmp_path)
    assert "it is taken in float32, with the same weights. Nothing is compared with the file as it is: " in caplog.text
    assert "ONNX Runtime refuses it" in caplog.text
    with open_engine(made.path) as engine:
        pixels = engine.preprocess(data.picture(0))[None]
        np.testing.assert_allclose(engine(pixels), expected(pixels), atol=2e-3)


def test_a_file_in_float16_of_a_fixed_batch_is_not_opened_as_it_is(data, tmp_path, caplog, monkeypatch):
    """Its answers are not compared."""
    opened, whole = [], adopt.session_of
    monkeypatch.setattr(adopt, "session_of", lambda *given, **options: opened.append(given) or whole(*given, **options))
    model = in_half()
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    with caplog.at_level("INFO", logger="edgepress"):
        adopted(model, data, tmp_path)
    assert "own.onnx: computes in float16; it is taken in float32, with the same weights\n" in caplog.text
    assert len(opened) == 2  # in float32, with optimisations and without


def test_a_graph_in_float16_is_taken_in_float32(data, tmp_path, caplog):
    model = in_half()
    with caplog.at_level("INFO", logger="edgepress"):
        made = adopted(model, data, tmp_path)
    assert (
        "computes in float16; it is taken in float32, with the same weights, and 40 answers differ by up to 0"
        in caplog.text
    )
    assert TensorProto.FLOAT16 not in {tensor.data_type for tensor in onnx.load(made.model_path).graph.initializer}
    with open_engine(made.path) as engine:
        pixels = engine.preprocess(data.picture(0))[None]
        found = ((pixels / 255 - 0.5) / 0.5).mean(axis=(1, 2)) @ weights().astype(np.float16).astype(np.float32)
        np.testing.assert_allclose(engine(pixels), found, atol=1e-5)


def test_answers_that_are_all_above_0_are_told(data, tmp_path, caplog):
    made = adopted(tagger(after=then("Add", "many"), constants={"many": np.float32(50)}), data, tmp_path)
    assert "taken as logits, of which those above 0 are a yes" in caplog.text
    assert made.manifest.kind == "onnx"
