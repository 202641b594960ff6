"""What a graph leaves open is asked for in one message; logarithms of probabilities are not taken for logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgepress.deploy.build.foreign import AdoptConfig, read_foreign
from edgepress.multilabel.errors import InputError
from tests.deploy.build.graphs import saved, tagger

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
