"""Equalisation: the same float function, whose channels have like ranges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is not installed (pip install 'edgepress[quantize]')")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (pip install 'edgepress[quantize]')")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from edgepress.calibration.int8.equalise import equalise  # noqa: E402

RNG = np.random.default_rng(0)


def conv(name: str, source: str, weight: np.ndarray, bias: bool = True, **attributes):
    """A convolution's node and its constants; its output is `name`."""
    pads = [size // 2 for size in weight.shape[2:]]
    constants = [numpy_helper.from_array(weight.astype(np.float32), f"{name}.weight")]
    if bias:
        constants.append(numpy_helper.from_array(RNG.normal(size=len(weight)).astype(np.float32), f"{name}.bias"))
    inputs = [source, *(tensor.name for tensor in constants)]
    return helper.make_node("Conv", inputs, [name], f"node_{name}", pads=pads * 2, **attributes), constants


def model_of(parts: list, output: str, channels: int = 3):
    """A model of convolutions and of other nodes, from float pictures `x` `[B, channels, 9, 9]`."""
    nodes = [part[0] if isinstance(part, tuple) else part for part in parts]
    constants = [tensor for part in parts if isinstance(part, tuple) for tensor in part[1]]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", channels, 9, 9])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def wild(*shape: int) -> np.ndarray:
    """Weights whose output channels differ up to a thousandfold."""
    return RNG.normal(size=shape) * 10 ** RNG.uniform(-1.5, 1.5, (shape[0], *[1] * (len(shape) - 1)))


def answers(model, images: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images})[0]


def weights(model) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def pictures(count: int = 4, channels: int = 3) -> np.ndarray:
    return RNG.normal(size=(count, channels, 9, 9)).astype(np.float32)


def separable(between=lambda source, name: helper.make_node("Relu", [source], [name])):
    """Dense, depthwise, grouped and dense again, with an activation between each two."""
    return model_of(
        [
            conv("a", "x", wild(8, 3, 3, 3)),
            between("a", "ra"),
            conv("b", "ra", wild(8, 1, 3, 3), group=8, strides=[2, 2]),
            between("b", "rb"),
            conv("c", "rb", wild(12, 4, 1, 1), bias=False, group=2),
            between("c", "rc"),
            conv("d", "rc", wild(5, 12, 3, 3)),
        ],
        "d",
    )


def assert_same_function(before, after, images: np.ndarray) -> None:
    expected = answers(before, images)
    assert np.abs(answers(after, images) - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(
    "between",
    [
        lambda source, name: helper.make_node("Relu", [source], [name]),
        lambda source, name: helper.make_node("LeakyRelu", [source], [name], alpha=0.2),
        lambda source, name: helper.make_node("MaxPool", [source], [name], kernel_shape=[2, 2]),
        lambda source, name: helper.make_node("AveragePool", [source], [name], kernel_shape=[2, 2], pads=[1] * 4),
    ],
    ids=["relu", "leaky", "max", "average"],
)
def test_the_function_is_the_same_and_the_ranges_are_balanced(between):
    before = separable(between)
    after, names = equalise(before)
    assert names == ("node_a", "node_b", "node_c", "node_d")
    assert_same_function(before, after, pictures())
    values = weights(after)
    for first, second, groups in (("a", "b", 8), ("b", "c", 2), ("c", "d", 1)):
        made = np.abs(values[f"{first}.weight"]).max(axis=(1, 2, 3))
        behind = values[f"{second}.weight"]
        read = np.abs(behind).reshape(groups, len(behind) // groups, behind.shape[1], -1).max(axis=(1, 3)).reshape(-1)
        assert made == pytest.approx(read, rel=0.01)


def test_nothing_else_is_touched():
    before = separable()
    kept = before.SerializeToString()
    after, _ = equalise(before)
    assert before.SerializeToString() == kept
    assert [(n.name, *n.input, *n.output) for n in after.graph.node] == [
        (n.name, *n.input, *n.output) for n in before.graph.node
    ]
    old, new = weights(before), weights(after)
    assert {name for name in old if not np.array_equal(old[name], new[name])} == old.keys() - {"d.bias"}


def test_a_balanced_model_stays():
    once, _ = equalise(separable())
    again, names = equalise(once)
    assert names == ()
    for name, value in weights(once).items():
        assert np.array_equal(value, weights(again)[name])


def clip(source: str, name: str):
    limits = [numpy_helper.from_array(np.float32(value), f"{name}.{value}") for value in (0, 6)]
    return helper.make_node("Clip", [source, *(tensor.name for tensor in limits)], [name]), limits


def two(between: list, source: str, output: str = "b"):
    return model_of([conv("a", "x", wild(6, 3, 3, 3)), *between, conv("b", source, wild(6, 6, 1, 1))], output)


@pytest.mark.parametrize(
    "model",
    [
        two([clip("a", "r")], "r"),
        two([helper.make_node("HardSwish", ["a"], ["r"])], "r"),
        two([helper.make_node("Sigmoid", ["a"], ["s"]), helper.make_node("Mul", ["a", "s"], ["r"])], "r"),
        two([], "a", "a"),
    ],
    ids=["relu6", "hard swish", "silu", "also an output"],
)
def test_what_is_not_homogeneous_or_has_another_reader_is_left_alone(model):
    after, names = equalise(model)
    assert names == ()
    assert after.SerializeToString() == model.SerializeToString()


def test_a_shortcut_is_another_reader():
    parts = [
        conv("a", "x", wild(6, 3, 3, 3)),
        conv("b", "a", wild(6, 6, 3, 3)),
        conv("c", "b", wild(6, 6, 3, 3)),
        helper.make_node("Add", ["c", "a"], ["sum"]),
    ]
    before = model_of(parts, "sum")
    after, names = equalise(before)
    assert names == ("node_b", "node_c")
    assert_same_function(before, after, pictures())


def test_a_weight_that_two_convolutions_share_is_left_alone():
    first, second = conv("a", "x", wild(3, 3, 3, 3)), conv("b", "a", wild(3, 3, 3, 3))
    second[0].input[1] = "a.weight"
    before = model_of([first, (second[0], second[1][1:])], "b")
    after, names = equalise(before)
    assert names == ()
    assert_same_function(before, after, pictures())


def test_dead_channels_stay_dead():
    made, read = wild(6, 3, 3, 3), wild(6, 6, 1, 1)
    made[1], read[:, 2] = 0, 0
    before = model_of([conv("a", "x", made), conv("b", "a", read)], "b")
    after, names = equalise(before)
    assert names == ("node_a", "node_b")
    assert all(np.isfinite(value).all() for value in weights(after).values())
    assert_same_function(before, after, pictures())


def per_tensor(model) -> object:
    """Every weight at 8 bits with one scale a tensor, in place."""
    result = type(model)()
    result.CopyFrom(model)
    for tensor in result.graph.initializer:
        if tensor.name.endswith(".weight"):
            value = numpy_helper.to_array(tensor)
            step = np.abs(value).max() / 127
            tensor.CopyFrom(numpy_helper.from_array(np.float32(np.rint(value / step) * step), tensor.name))
    return result


def test_a_badly_scaled_depthwise_stack_loses_less_to_one_scale_a_tensor():
    model, images = separable(), pictures(8)
    expected = answers(model, images)

    def sqnr(candidate) -> float:
        noise = answers(per_tensor(candidate), images) - expected
        return float(10 * np.log10((expected**2).sum() / (noise**2).sum()))

    assert sqnr(equalise(model)[0]) > sqnr(model) + 3


@pytest.mark.parametrize("backbone", ["test_resnet", "test_efficientnet"])
def test_a_real_student_answers_as_before(backbone, tiny_data, tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed; the test exports a model of it")
    pytest.importorskip("sympy", reason="sympy is not installed (pip install 'edgepress[quantize]')")
    from onnxruntime.quantization.shape_inference import quant_pre_process

    from edgepress.compress.config import ModelConfig
    from edgepress.compress.models import make_model
    from edgepress.deploy.build.export import export_onnx
    from edgepress.multilabel.datasets import load_dataset

    data = load_dataset(tiny_data, "train").subset(np.arange(4))
    torch.manual_seed(0)
    config = ModelConfig(backbone=backbone, head="linear", size=64, weights="none")
    network, _ = make_model(config, data.labels)
    images = np.stack([network.preprocess.load(path) for path in data.paths])
    network.train()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "bn" in name or "norm" in name:  # some scales start at 0, and would leave nothing to balance
                parameter.add_(0.2 * torch.randn_like(parameter))
        for _ in range(3):
            network.logits(torch.from_numpy(images))
    bundle = export_onnx(network.eval(), data.subset(np.arange(1)), tmp_path / "bundle", identity=backbone)
    prepared: Path = tmp_path / "prepared.onnx"
    quant_pre_process(str(bundle.model_path), str(prepared), skip_symbolic_shape=True)
    before = onnx.load(str(prepared))
    after, names = equalise(before)
    convolutions = [node.name for node in before.graph.node if node.op_type == "Conv"]
    assert set(names) < set(convolutions)
    # Of the ResNet, all but those on shortcuts; of the EfficientNet, those with no SiLU between them.
    assert (len(names), len(convolutions)) == ((12, 15) if backbone == "test_resnet" else (8, 17))
    assert np.abs(answers(after, images) - answers(before, images)).max() < 1e-4
