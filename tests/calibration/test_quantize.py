"""INT8 graphs: what each target really reads, how small they are, and what is left in float."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is not installed (pip install 'edgepress[quantize]')")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (pip install 'edgepress[quantize]')")
torch = pytest.importorskip("torch", reason="torch is not installed; the tests quantise a model of it")
pytest.importorskip("sympy", reason="sympy is not installed (pip install 'edgepress[quantize]')")
from onnx import numpy_helper  # noqa: E402

from calibration.qdq import check_qdq  # noqa: E402
from calibration.quantize import MOST_FLOAT, Quantized, Score, quantize  # noqa: E402
from compress.config import ModelConfig  # noqa: E402
from compress.models import make_model  # noqa: E402
from deploy.export import export_onnx  # noqa: E402
from multilabel.datasets import MultiLabelDataset, load_dataset  # noqa: E402
from multilabel.errors import InputError  # noqa: E402

SIZE = 64


def lively_model(data: MultiLabelDataset, backbone: str, head: str, width: int):
    """A random model whose running statistics are those of real pictures, and whose scales are not all one."""
    torch.manual_seed(0)
    config = ModelConfig(backbone=backbone, head=head, width=width, size=SIZE, weights="none")
    model, _ = make_model(config, data.labels)
    images = torch.from_numpy(np.stack([model.preprocess.load(path) for path in data.paths]))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or "bn" in name:
                parameter.add_(0.2 * torch.randn_like(parameter))
        model.train()
        for _ in range(5):
            model.logits(images)
    return model.eval()


class Source:
    """A float model as ONNX, its calibration pictures, and how to quantise it."""

    def __init__(self, data: Path, root: Path, backbone: str, head: str = "ml_decoder", width: int = 32) -> None:
        pictures = load_dataset(data, "train").subset(np.arange(8))
        model = lively_model(pictures, backbone, head, width)
        bundle = export_onnx(model, pictures.subset(np.arange(1)), root / backbone, identity=backbone)
        self.path = bundle.model_path
        self.images = np.stack([model.preprocess.load(path) for path in pictures.paths])
        graph = onnx.load(self.path).graph
        self.convolutions = [node.name for node in graph.node if node.op_type == "Conv"]
        self.elements = sum(int(np.prod(tensor.dims)) for tensor in graph.initializer)

    def quantize(self, out: Path, target: str, evaluate: Callable[[Path], float] = lambda _: 1.0) -> Quantized:
        return quantize(
            self.path,
            out,
            self.images,
            target=target,
            evaluate=lambda file: Score(evaluate(file), 20.0),
            float_map=1.0,
        )


@pytest.fixture(scope="module")
def small(tiny_data, tmp_path_factory) -> Source:
    return Source(tiny_data, tmp_path_factory.mktemp("small"), "test_efficientnet")


@pytest.fixture(scope="module")
def real(tiny_data, tmp_path_factory) -> Source:
    """A net of the size that is put on devices: 4.4 M parameters."""
    return Source(tiny_data, tmp_path_factory.mktemp("real"), "tf_efficientnet_lite0", width=256)


@pytest.fixture(scope="module")
def graphs(small, tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("graphs")
    for target in ("onnxruntime", "tensorrt"):
        small.quantize(root / f"{target}.onnx", target)
    return {target: root / f"{target}.onnx" for target in ("onnxruntime", "tensorrt")}


def optimised(model: Path, folder: Path) -> Counter[str]:
    """The operators that ONNX Runtime really executes."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)


def answers(model: Path, images: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})[0]


def sqnr(reference: np.ndarray, value: np.ndarray) -> float:
    return float(10 * np.log10((reference**2).sum() / ((reference - value) ** 2).sum()))


def test_onnx_runtime_executes_every_convolution_in_int8(graphs, small, tmp_path):
    operators = optimised(graphs["onnxruntime"], tmp_path)
    assert operators["QLinearConv"] == len(small.convolutions)
    assert not operators["Conv"] + operators["FusedConv"]


def test_a_float_graph_has_none(small, tmp_path):
    operators = optimised(small.path, tmp_path)
    assert operators["QLinearConv"] == 0
    with pytest.raises(InputError, match="no DequantizeLinear in the graph"):
        check_qdq(small.path, "onnxruntime")


@pytest.mark.parametrize("target", ["onnxruntime", "tensorrt"])
def test_the_answers_are_still_the_models(graphs, small, target):
    assert sqnr(answers(small.path, small.images), answers(graphs[target], small.images)) > 15


@pytest.mark.parametrize("target", ["onnxruntime", "tensorrt"])
def test_input_output_and_metadata_are_kept(graphs, small, target):
    before, after = onnx.load(small.path), onnx.load(graphs[target])
    for one, other in ((before.graph.input, after.graph.input), (before.graph.output, after.graph.output)):
        assert [(value.name, value.type) for value in one] == [(value.name, value.type) for value in other]
    assert {entry.key for entry in after.metadata_props} >= {"labels", "preprocess"}


def test_tensorrt_gets_symmetric_int8_and_float_biases(graphs):
    graph = onnx.load(graphs["tensorrt"]).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    quantising = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert quantising
    for node in quantising:
        zero = constants[node.input[2]]
        assert zero.dtype == np.int8, node.name
        assert not zero.any(), node.name
    stored = {
        constants[node.input[0]].dtype
        for node in quantising
        if node.op_type == "DequantizeLinear" and node.input[0] in constants
    }
    assert stored == {np.dtype(np.int8)}  # weights; a bias would be INT32
    for node in graph.node:
        if node.op_type == "Conv" and len(node.input) > 2:
            assert constants[node.input[2]].dtype == np.float32
    check_qdq(graphs["tensorrt"], "tensorrt")


def test_onnx_runtime_gets_uint8_activations_and_int32_biases(graphs):
    graph = onnx.load(graphs["onnxruntime"]).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    activations = {constants[node.input[2]].dtype for node in graph.node if node.op_type == "QuantizeLinear"}
    assert activations == {np.dtype(np.uint8)}
    stored = Counter(
        constants[node.input[0]].dtype.name
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in constants
    )
    assert stored["int8"] > 0
    assert stored["int32"] > 0


def test_uint8_is_no_graph_for_tensorrt(graphs):
    check_qdq(graphs["onnxruntime"], "onnxruntime")
    with pytest.raises(InputError, match=r"u?int\d+ zero point; TensorRT takes INT8, 0"):
        check_qdq(graphs["onnxruntime"], "tensorrt")


def test_an_int8_zero_point_that_is_not_zero_is_no_graph_for_tensorrt(graphs, tmp_path):
    model = onnx.load(graphs["tensorrt"])
    name = next(node.input[2] for node in model.graph.node if node.op_type == "QuantizeLinear")
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.int8(1), name))
    onnx.save(model, tmp_path / "shifted.onnx")
    with pytest.raises(InputError, match="int8 zero point; TensorRT takes INT8, 0"):
        check_qdq(tmp_path / "shifted.onnx", "tensorrt")


def better_each_time() -> Callable[[Path], float]:
    """A val mAP far below float's that rises with every attempt, so that every step of the search is taken."""
    values = iter(np.linspace(0.5, 0.9, 20))
    return lambda _: float(next(values))


def test_the_noisiest_convolution_is_left_in_float_where_it_helps(small, tmp_path):
    result = small.quantize(tmp_path / "int8.onnx", "onnxruntime", better_each_time())
    assert result.convolutions == len(small.convolutions) == 17
    assert len(result.kept_float) == 1 <= MOST_FLOAT * 17
    assert set(result.kept_float) <= set(small.convolutions)
    graph = onnx.load(tmp_path / "int8.onnx").graph
    (kept,) = [node for node in graph.node if node.name == result.kept_float[0]]
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    assert types[kept.input[1]] == onnx.TensorProto.FLOAT
    in_float = [node.name for node in graph.node if node.op_type == "Conv" and node.input[1] in types]
    assert in_float == [kept.name]


def test_what_is_left_in_float_runs_in_float_as_the_engine_opens_it(small, tmp_path):
    values = iter((0.5, 0.4, 0.9))
    result = small.quantize(tmp_path / "int8.onnx", "onnxruntime", lambda _: next(values))
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(
        str(tmp_path / "int8.onnx"),
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=["WeightBiasQuantization"],
    )
    executed = Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)
    assert len(result.kept_float) == 1
    assert executed["QLinearConv"] == result.convolutions - 1


def test_openvino_leaves_convolutions_with_a_bias_in_float_too(small, tmp_path):
    pytest.importorskip("nncf", reason="nncf is not installed (pip install 'edgepress[quantize]')")
    every = small.quantize(tmp_path / "all.xml", "openvino")
    values = iter((0.5, 0.4, 0.9))
    result = small.quantize(tmp_path / "int8.xml", "openvino", lambda _: next(values))
    assert len(set(result.kept_float) - set(every.kept_float)) == 1
    assert set(result.kept_float) <= set(small.convolutions)


def test_of_candidates_as_good_the_one_with_the_least_noise_is_taken(small, tmp_path):
    def search(*scores: Score) -> Quantized:
        left = iter(scores)
        return quantize(
            small.path,
            tmp_path / "int8.onnx",
            small.images,
            target="onnxruntime",
            evaluate=lambda _: next(left),
            float_map=0.5,
        )

    assert search(Score(0.503, 20.0), Score(0.500, 25.0)).method == "percentile"
    assert search(Score(0.520, 20.0), Score(0.500, 25.0)).method == "minmax"


def test_it_is_not_where_it_does_not_help_or_is_not_needed(small, tmp_path):
    falling = iter((0.9, 0.8, 0.7))
    result = small.quantize(tmp_path / "worse.onnx", "onnxruntime", lambda _: next(falling))
    assert (result.kept_float, result.method, result.val_mAP) == ((), "minmax", 0.9)
    assert next(falling, None) is None  # it was tried
    near = iter((0.99, 0.996, 0.0))
    result = small.quantize(tmp_path / "near.onnx", "onnxruntime", lambda _: next(near))
    assert (result.kept_float, result.method, result.val_mAP) == ((), "percentile", 0.996)
    assert next(near) == 0.0  # it was not


def test_the_file_written_is_the_best_that_was_tried(small, tmp_path):
    seen: dict[bytes, float] = {}
    values = iter((0.6, 0.8, 0.7))

    def evaluate(file: Path) -> float:
        return seen.setdefault(file.read_bytes(), next(values))

    result = small.quantize(tmp_path / "int8.onnx", "tensorrt", evaluate)
    assert result.val_mAP == seen[(tmp_path / "int8.onnx").read_bytes()] == max(seen.values()) == 0.8
    assert len(seen) == 3


def test_the_onnx_file_of_a_real_net_is_at_most_a_third(real, tmp_path):
    """With as many convolutions in float as are ever left there."""
    result = real.quantize(tmp_path / "int8.onnx", "onnxruntime", better_each_time())
    assert result.convolutions == 49
    assert 1 <= len(result.kept_float) <= 4
    assert 3 * (tmp_path / "int8.onnx").stat().st_size <= real.path.stat().st_size


def test_the_openvino_files_of_a_real_net_are_at_most_a_third(real, tmp_path):
    ov = pytest.importorskip("openvino", reason="openvino is not installed (pip install 'edgepress[openvino]')")
    pytest.importorskip("nncf", reason="nncf is not installed (pip install 'edgepress[quantize]')")
    result = real.quantize(tmp_path / "int8.xml", "openvino")
    ov.save_model(ov.convert_model(str(real.path)), str(tmp_path / "fp32.xml"), compress_to_fp16=False)
    sizes = {
        name: sum((tmp_path / f"{name}{end}").stat().st_size for end in (".xml", ".bin")) for name in ("int8", "fp32")
    }
    assert 3 * sizes["int8"] <= sizes["fp32"]
    operations = Counter(op.get_type_name() for op in ov.Core().read_model(str(tmp_path / "int8.xml")).get_ops())
    assert operations["Convolution"] + operations["GroupConvolution"] == result.convolutions == 49
    assert operations["FakeQuantize"] > 49
