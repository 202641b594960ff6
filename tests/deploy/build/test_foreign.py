"""What a graph leaves open is asked for in one message; logarithms of probabilities are not taken for logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepress.deploy.build.foreign import AdoptConfig, read_foreign
from edgepress.multilabel.errors import InputError
from tests.deploy.build.graphs import saved, tagger, weights

NORMAL = AdoptConfig(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def refusal(model: onnx.ModelProto, root: Path, config: AdoptConfig = NORMAL, *, named: bool = True) -> str:
    with pytest.raises(InputError) as caught:
        read_foreign(saved(model, root / "own.onnx"), config, named=named)
    return str(caught.value).removeprefix(f"{root}/")


def after(*operators: str) -> list[onnx.NodeProto]:
    names = ["scores", *(f"inner_{at}" for at in range(1, len(operators))), "y"]
    return [helper.make_node(one, [names[at]], [names[at + 1]]) for at, one in enumerate(operators)]


def two_outputs() -> onnx.ModelProto:
    model = tagger(shape=["n", 3, "h", "w"])
    model.graph.output.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 5]))
    return model


def test_everything_that_is_not_stated_is_asked_for_at_once(tmp_path):
    said = refusal(tagger(shape=["n", "a", "h", "b"]), tmp_path, AdoptConfig(), named=False)
    assert said.startswith("own.onnx: 4 things must be stated: (1) the input x has the shape ['n', 'a', 'h', 'b']: say")
    places = [said.index(word) for word in ("--layout nchw", "--size", "--mean and --std", "--labels FILE")]
    assert places == sorted(places)
    said = refusal(two_outputs(), tmp_path, AdoptConfig(mean=(0, 0, 0)))
    assert "3 things" in said
    assert "say --size" in said
    assert "say --std, such as" in said  # the mean is stated
    assert "several outputs (y ['n', 5], scores ['n', 5]): say --output" in said


def test_scores_in_0_to_1_are_asked_about_with_the_rest(tmp_path):
    model = tagger(after=after("HardSigmoid"))
    said = refusal(model, tmp_path, AdoptConfig())
    assert "2 things must be stated: (1) takes float32" in said
    assert said.endswith("say --activation sigmoid, softmax, or none for logits")
    logits = refusal(tagger(), tmp_path, AdoptConfig())
    assert logits.startswith("own.onnx: takes float32 and does not say")
    assert "--activation" not in logits


@pytest.mark.parametrize("operators", [("LogSoftmax",), ("Softmax", "Log"), ("Sigmoid", "Log"), ("Softplus", "Neg")])
def test_logarithms_of_probabilities_are_asked_about(tmp_path, operators):
    model = tagger(after=after(*operators))
    said = refusal(model, tmp_path)
    assert f"its last node is a {operators[-1]}, which gives logarithms of probabilities: export it without" in said
    assert "say --activation none" in said
    said = refusal(model, tmp_path, NORMAL.model_copy(update={"activation": "softmax"}))
    assert "--activation softmax is for probabilities" in said
    taken = read_foreign(tmp_path / "own.onnx", NORMAL.model_copy(update={"activation": "none"}))
    assert taken.activation == "none"


def test_a_logarithm_of_something_else_may_be_a_logit(tmp_path):
    assert read_foreign(saved(tagger(after=after("Abs", "Log")), tmp_path / "own.onnx"), NORMAL).activation is None


@pytest.mark.parametrize("free", [-1, 0])
def test_a_side_that_is_no_size_is_free(free, tmp_path):
    """Paddle's and old Keras converters write a free side as -1 or 0."""
    model = tagger(shape=[free, 3, free, free])
    assert refusal(model, tmp_path).endswith("say --size, its side in pixels")
    found = read_foreign(tmp_path / "own.onnx", NORMAL.model_copy(update={"size": 32}))
    assert (found.batch, found.size) == (None, 32)


@pytest.mark.parametrize("behind", ["Identity", "Flatten", "Cast"])
def test_what_only_arranges_scores_does_not_hide_a_sigmoid(behind, tmp_path):
    nodes = after("Sigmoid", behind)
    if behind == "Cast":
        nodes[-1].attribute.append(helper.make_attribute("to", TensorProto.FLOAT16))
    model = tagger(after=nodes, output=helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5]))
    assert read_foreign(saved(model, tmp_path / "own.onnx"), NORMAL).activation == "sigmoid"


def test_a_graph_as_in_training_is_refused(tmp_path):
    constants = {"ratio": np.float32(0.5), "training": np.array(True)}
    dropped = helper.make_node("Dropout", ["scores", "ratio", "training"], ["y"], name="drop")
    said = refusal(tagger(after=[dropped], constants=constants), tmp_path)
    assert said.startswith("own.onnx: the Dropout 'drop' computes as in training: export the model in evaluation mode")
    constants["training"] = np.array(False)
    read_foreign(saved(tagger(after=[dropped], constants=constants), tmp_path / "own.onnx"), NORMAL)


def test_a_constant_node_that_says_training_is_heeded(tmp_path):
    for training in (True, False):
        value = numpy_helper.from_array(np.array(training))
        nodes = [
            helper.make_node("Constant", [], ["training"], value=value),
            helper.make_node("Dropout", ["scores", "", "training"], ["y"], name="drop"),
        ]
        model = tagger(after=nodes)
        if training:
            assert "the Dropout 'drop' computes as in training" in refusal(model, tmp_path)
        else:
            read_foreign(saved(model, tmp_path / "own.onnx"), NORMAL)


@pytest.mark.parametrize(
    ("opset", "more", "attributes", "trains"),
    [
        (17, ["m", "v"], {"training_mode": 1}, True),
        (17, [], {}, False),
        (14, ["m", "v"], {"training_mode": 1}, True),
        (13, ["m", "v", "sm", "sv"], {}, True),
        (9, ["m"], {}, True),
        (13, ["", ""], {}, False),
        (13, [], {}, False),
    ],
)
def test_a_normalisation_by_the_batch_is_refused(tmp_path, opset, more, attributes, trains):
    """ONNX Runtime 1.32 takes the statistics of the batch where an old one has their outputs, read or not."""
    parts = {name: np.ones(5, np.float32) for name in ("scale", "bias", "mean", "var")}
    node = helper.make_node("BatchNormalization", ["scores", *parts], ["y", *more], name="bn", **attributes)
    model = tagger(after=[node], constants=parts, opset=opset)
    if trains:
        assert "the BatchNormalization 'bn' computes as in training" in refusal(model, tmp_path)
    else:
        read_foreign(saved(model, tmp_path / "own.onnx"), NORMAL)


def stored_in_half(operator: str | None = None, to: int = TensorProto.FLOAT, *, node: bool = False) -> onnx.ModelProto:
    """Its weights are float16, and cast or taken as they are; a node may stand between, and a Constant hold them."""
    model = tagger()
    held = numpy_helper.from_array(weights().astype(np.float16), "held")
    before = [helper.make_node("Constant", [], ["held"], value=held)] if node else []
    model.graph.value_info.append(helper.make_tensor_value_info("held", TensorProto.FLOAT16, [3, 5]))
    if operator is not None:
        before.append(helper.make_node(operator, ["held", *(["held"] if operator == "Add" else [])], ["moved"]))
    before.append(helper.make_node("Cast", ["moved" if operator else "held"], ["weights"], to=to))
    nodes = [*before, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.pop()
    if not node:
        model.graph.initializer.append(held)
    return model


@pytest.mark.parametrize("node", [False, True])
@pytest.mark.parametrize(
    ("given", "half"),
    [((), False), (("Identity",), False), (("Add",), True), ((None, TensorProto.FLOAT16), True)],
)
def test_weights_that_are_only_stored_in_float16_are_not_computed_in_it(tmp_path, given, half, node):
    found = read_foreign(saved(stored_in_half(*given, node=node), tmp_path / "own.onnx"), NORMAL)
    assert found.half is half
    assert b"held" in found.model.SerializeToString()
    declared = [*found.model.graph.initializer, *(one.t for n in found.model.graph.node for one in n.attribute)]
    assert TensorProto.FLOAT16 not in {tensor.data_type for tensor in declared}


@pytest.mark.parametrize("side", ["input", "output"])
def test_a_float16_input_or_output_is_computed_in_it(tmp_path, side):
    model = tagger()
    (value,) = getattr(model.graph, side)
    value.type.tensor_type.elem_type = TensorProto.FLOAT16
    assert read_foreign(saved(model, tmp_path / "own.onnx"), NORMAL).half
    assert not read_foreign(saved(tagger(), tmp_path / "own.onnx"), NORMAL).half


def test_heads_that_end_differently_are_not_joined(tmp_path):
    model = two_outputs()
    joined = NORMAL.model_copy(update={"size": 32, "output": "y,scores"})
    assert read_foreign(saved(model, tmp_path / "own.onnx"), joined).activation is None
    sigmoid = tagger(after=after("Sigmoid"))
    sigmoid.graph.output.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 5]))
    said = refusal(sigmoid, tmp_path, joined)
    assert "they end differently (y: sigmoid, scores: neither Sigmoid nor Softmax)" in said
    for wrong in ("y,w", "y,y"):
        said = refusal(model, tmp_path, NORMAL.model_copy(update={"size": 32, "output": wrong}))
        assert said.endswith("it has y, scores")
