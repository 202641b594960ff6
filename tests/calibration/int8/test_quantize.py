"""INT8 graphs: what each target really reads, how small they are, and what is left in float."""

from __future__ import annotations

import tempfile
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

from edgepress.calibration.int8.finished import Finished  # noqa: E402
from edgepress.calibration.int8.pixels import fold_normalisation  # noqa: E402
from edgepress.calibration.int8.qdq import OnnxQuantizer, check_qdq, convolutions_in_int8  # noqa: E402
from edgepress.calibration.int8.quantize import STEPS, _Targeted, quantize  # noqa: E402
from edgepress.calibration.int8.search import MOST_FLOAT, Allowed, Score, Search  # noqa: E402
from edgepress.compress.config import ModelConfig  # noqa: E402
from edgepress.compress.models import make_model  # noqa: E402
from edgepress.deploy.build.export import export_onnx  # noqa: E402
from edgepress.multilabel.datasets import MultiLabelDataset, load_dataset  # noqa: E402
from edgepress.multilabel.errors import InputError  # noqa: E402

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

    def quantize(self, out: Path, target: str, evaluate: Callable[[Path], float] = lambda _: 1.0, **settings) -> Search:
        with tempfile.TemporaryDirectory() as folder:
            return quantize(
                self.path,
                out,
                self.images,
                target=target,
                evaluate=lambda file: Score(evaluate(file), 20.0, 0.0),
                float_map=1.0,
                finished=Finished(Path(folder), "inputs"),
                **{"time_limit": 0.0, "allowed": Allowed(0.005, 0.2), **settings},
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


def test_tensorrt_computes_a_product_with_what_follows_it_before_it_rounds(graphs):
    """Between a convolution and its activation the range would be that of what the activation cuts off."""
    graph = onnx.load(graphs["tensorrt"]).graph
    kinds = ("Conv", "MatMul", "Gemm")
    rounded = {name for node in graph.node if node.op_type in kinds for name in node.output}
    for kind in ("QuantizeLinear", "DequantizeLinear"):
        rounded = {node.output[0] for node in graph.node if node.op_type == kind and node.input[0] in rounded}
    # A product's own result is rounded only where the next product reads it.
    assert {node.op_type for node in graph.node if rounded.intersection(node.input)} <= set(kinds)


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


def test_the_worst_nodes_are_left_in_float_while_the_drop_is_not_allowed(small, tmp_path):
    found = small.quantize(tmp_path / "int8.onnx", "onnxruntime", better_each_time())
    products = len(found.sensitivity)
    assert products > len(small.convolutions) == 17
    kept = [trial.candidate.kept for trial in found.tried]
    assert [len(names) for names in kept] == [0, 1, 2][: len(kept)]
    assert len(kept[-1]) <= MOST_FLOAT * products < 2 * len(kept[-1])
    assert found.best.candidate.kept == kept[-1]
    assert found.best.float_nodes == tuple(sorted(kept[-1], key=found.best.float_nodes.index))
    graph = onnx.load(tmp_path / "int8.onnx").graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    in_float = {n.name for n in graph.node if n.op_type == "Conv" and types.get(n.input[1]) == onnx.TensorProto.FLOAT}
    assert in_float == set(kept[-1]) & set(small.convolutions)


def test_what_is_left_in_float_runs_in_float_as_the_engine_opens_it(small, tmp_path):
    quantizer = OnnxQuantizer(small.path, tmp_path, small.images, "onnxruntime")
    kept = small.convolutions[3], quantizer.products[-1]
    quantizer.write(tmp_path / "int8.onnx", "min-max", kept)
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
    assert quantizer.float_nodes(tmp_path / "int8.onnx", quantizer.products) == kept
    assert executed["QLinearConv"] == len(small.convolutions) - 1 == 16
    assert convolutions_in_int8(tmp_path / "int8.onnx") == (16, 17)


def test_openvino_leaves_convolutions_with_a_bias_in_float_too(small, tmp_path):
    pytest.importorskip("nncf", reason="nncf is not installed (pip install 'edgepress[quantize]')")
    found = small.quantize(tmp_path / "int8.xml", "openvino", better_each_time())
    first, last = found.tried[0], found.tried[-1]
    assert last.candidate.kept
    assert set(last.candidate.kept) <= set(last.float_nodes) - set(first.float_nodes)
    assert last.int8_share < first.int8_share


@pytest.mark.parametrize(
    ("activation", "weights", "in_int8"),
    [("quantised", "int8", True), ("quantised", "float", False), ("float", "int8", False), ("moved", "int8", True)],
)
def test_openvino_computes_in_int8_only_what_reads_two_quantised_tensors(tmp_path, activation, weights, in_int8):
    ov = pytest.importorskip("openvino", reason="openvino is not installed (pip install 'edgepress[openvino]')")
    from openvino import opset13 as ops

    from edgepress.calibration.int8.openvino import OpenVinoQuantizer

    picture = source = ops.parameter([1, 4, 8, 8], np.float32, name="x")
    if activation != "float":
        source = ops.fake_quantize(source, *(np.float32(end) for end in (0, 1, 0, 1)), levels=256)
    if activation == "moved":
        source = ops.reshape(source, np.array([1, 4, 8, 8]), special_zero=False)
    kernel = np.ones((2, 4, 3, 3))
    if weights == "int8":
        kernel = ops.multiply(ops.convert(ops.constant(kernel.astype(np.int8)), np.float32), np.float32(0.1))
    else:
        kernel = ops.constant(kernel.astype(np.float32))
    product = ops.convolution(source, kernel, [1, 1], [0, 0], [0, 0], [1, 1], name="product")
    ov.save_model(ov.Model([product], [picture]), str(tmp_path / "m.xml"), compress_to_fp16=False)
    assert OpenVinoQuantizer.float_nodes(tmp_path / "m.xml", ["product"]) == (() if in_int8 else ("product",))


def test_weights_are_rounded_only_for_a_grid_that_the_quantiser_finds_again(small, tmp_path):
    """NNCF's for 7 bits has the largest weight between two integers."""
    pytest.importorskip("nncf", reason="nncf is not installed (pip install 'edgepress[quantize]')")
    found = small.quantize(tmp_path / "int8.xml", "openvino", weight_bits=7)
    assert found.planned == len(STEPS["openvino"]) - 1


def test_nothing_is_left_in_float_when_the_drop_is_allowed(small, tmp_path):
    found = small.quantize(tmp_path / "int8.onnx", "onnxruntime", lambda _: 0.98, allowed=Allowed(0.021, 0.2))
    assert [trial.candidate.kept for trial in found.tried] == [()]
    over = small.quantize(tmp_path / "int8.onnx", "onnxruntime", lambda _: 0.98, allowed=Allowed(0.019, 0.2))
    assert over.tried[-1].candidate.kept


def test_the_file_written_is_the_chosen_one(small, tmp_path):
    seen: dict[bytes, float] = {}
    values = iter((0.6, 0.8, 0.7))

    def evaluate(file: Path) -> float:
        return seen.setdefault(file.read_bytes(), next(values))

    found = small.quantize(tmp_path / "int8.onnx", "tensorrt", evaluate)
    assert found.best.score.mAP == seen[(tmp_path / "int8.onnx").read_bytes()] == max(seen.values()) == 0.8
    assert len(seen) == 3


def test_pictures_are_read_as_bytes_and_the_answers_are_the_models(small, tmp_path):
    """Normalisation is in the first convolution: a whole graph in float but for that is the same model."""
    model = onnx.load(small.path)
    assert fold_normalisation(model) == 114  # ImageNet's mean
    onnx.save(model, tmp_path / "folded.onnx")
    assert sqnr(answers(small.path, small.images), answers(tmp_path / "folded.onnx", small.images)) > 20
    assert fold_normalisation(model) == 114  # again: nothing more to do
    small.quantize(tmp_path / "int8.onnx", "onnxruntime")
    operators = optimised(tmp_path / "int8.onnx", tmp_path)
    first = onnx.load(tmp_path / "optimised.onnx").graph.node[0]
    assert (first.op_type, first.input[0]) == ("QLinearConv", "images")
    assert operators["Cast"] + operators["Sub"] == 0


@pytest.mark.parametrize("means", [(0.5, 0.5, 0.5), (0.0, 0.0, 0.0), (0.485, 0.456, 0.406)])
def test_any_mean_and_deviation_can_be_folded(small, tmp_path, means):
    model = onnx.load(small.path)
    for tensor in model.graph.initializer:
        if tensor.name == "model.mean":
            tensor.CopyFrom(numpy_helper.from_array(255 * np.array(means, np.float32), tensor.name))
        if tensor.name == "model.scale":
            tensor.CopyFrom(numpy_helper.from_array(np.array([0.017, 0.018, 0.0175], np.float32), tensor.name))
    onnx.save(model, tmp_path / "other.onnx")
    assert fold_normalisation(model) == round(255 * np.mean(means))
    onnx.save(model, tmp_path / "folded.onnx")
    # What differs is the border, where zeros stand for the mean of all channels.
    border = 50 if len(set(means)) == 1 else 20
    assert (
        sqnr(answers(tmp_path / "other.onnx", small.images), answers(tmp_path / "folded.onnx", small.images)) > border
    )


def test_seven_bits_do_not_saturate(small, tmp_path):
    for bits, largest in ((8, 127), (7, 64)):
        small.quantize(tmp_path / f"{bits}.onnx", "onnxruntime", weight_bits=bits)
        graph = onnx.load(tmp_path / f"{bits}.onnx").graph
        weights = [numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.name.endswith("_quantized")]
        most = max(int(np.abs(w.astype(int)).max()) for w in weights if w.dtype == np.int8)
        assert largest - 1 <= most <= largest
    assert sqnr(answers(small.path, small.images), answers(tmp_path / "7.onnx", small.images)) > 12


def test_a_graph_that_quantises_nothing_is_refused(small, tmp_path):
    model = onnx.load(small.path)
    head = [node for node in model.graph.node if node.op_type == "Cast"]
    nodes = [*head, onnx.helper.make_node("ReduceMean", [head[0].output[0]], ["logits"], keepdims=0)]
    graph = onnx.helper.make_graph(nodes, "none", model.graph.input, model.graph.output)
    onnx.save(onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=8), tmp_path / "none.onnx")
    with tempfile.TemporaryDirectory() as folder, pytest.raises(InputError, match="no convolution or matrix product"):
        quantize(
            tmp_path / "none.onnx",
            tmp_path / "int8.onnx",
            small.images,
            target="onnxruntime",
            evaluate=lambda _: Score(1.0, 20.0, 0.0),
            float_map=1.0,
            finished=Finished(Path(folder), "inputs"),
            allowed=Allowed(0.005, 0.2),
        )


def test_the_onnx_file_of_a_real_net_is_at_most_a_third(real, tmp_path):
    """With as many convolutions in float as are ever left there."""
    result = real.quantize(tmp_path / "int8.onnx", "onnxruntime", better_each_time())
    assert len(real.convolutions) == 49
    assert 1 <= len(result.best.candidate.kept) <= MOST_FLOAT * len(result.sensitivity)
    assert 3 * (tmp_path / "int8.onnx").stat().st_size <= real.path.stat().st_size


def test_openvino_chooses_among_the_products_that_it_has(small, tmp_path):
    """It fuses those of attention, and has no operation of their names that could be left in float."""
    pytest.importorskip("openvino", reason="openvino is not installed (pip install 'edgepress[openvino]')")
    pytest.importorskip("nncf", reason="nncf is not installed (pip install 'edgepress[quantize]')")
    targeted = _Targeted(small.path, Finished(tmp_path / "work", "inputs"), small.images, "openvino", 8)
    assert 1 <= len(targeted.plain.products) - len(targeted.products) <= 2
    ranked = [one.node for one in targeted.rank("min-max", lambda: None)]
    assert sorted(ranked) == sorted(targeted.products)
    every = tuple(targeted.products)
    assert targeted.write(tmp_path / "float.xml", targeted.steps[0]._replace(kept=every))
    assert targeted.float_nodes(tmp_path / "float.xml") == every


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
    assert operations["Convolution"] + operations["GroupConvolution"] == len(real.convolutions) == 49
    assert result.best.int8_share > 0.99
    assert operations["FakeQuantize"] > 49
