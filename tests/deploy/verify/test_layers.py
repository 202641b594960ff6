"""--layers: an honest graph has no layer that diverged, and in a corrupted one that layer is named and no other."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgepress.calibration.int8.equalise import equalise
from edgepress.deploy.build.compile import compile_openvino
from edgepress.deploy.verify.layers import ALONE_DB, PICTURES, Inspection, inspect_layers
from edgepress.deploy.verify.references import float_parent
from edgepress.multilabel.bundle import Bundle, write_bundle
from edgepress.multilabel.facts import Parent
from edgepress.multilabel.manifest import BuiltForTensorRt, Quantization


def beside(path: Path, like: Bundle, parent: Parent, graph: onnx.ModelProto | None = None, **fields: Any) -> Bundle:
    """The files of a bundle, or a changed graph, under another name."""
    manifest = like.manifest
    given = {name: getattr(manifest, name) for name in ("kind", "precision", "labels", "preprocess", "model")} | fields
    with write_bundle(path, parent=parent, **given) as folder:
        if graph is not None:
            onnx.save(graph, folder / manifest.model)
        else:
            for name in manifest.files:
                (folder / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(like.path / name, folder / name)
    return Bundle.open(path)


def products(graph: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in graph.graph.node if node.op_type == "Conv"]


def corrupt(graph: onnx.ModelProto, node: onnx.NodeProto) -> None:
    """The weights of a convolution, quantised or not, with their output channels in reverse order."""
    weight = node.input[1]
    sources = {name: other for other in graph.graph.node for name in other.output}
    while weight in sources:  # through a DequantizeLinear
        weight = sources[weight].input[0]
    (tensor,) = (tensor for tensor in graph.graph.initializer if tensor.name == weight)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[::-1].copy(), tensor.name))


def inspected(bundle: Bundle, onnx_bundle: Bundle, splits) -> Inspection:
    return inspect_layers(bundle, onnx_bundle, splits.test)


@pytest.mark.parametrize("name", ["onnx-fp16", "onnx-int8-onnxruntime", "openvino-fp32", "openvino-fp16"])
def test_no_layer_of_an_honest_graph_diverges(build, onnx_bundle, splits, name):
    found = inspected(build(name), onnx_bundle, splits)
    precision = build(name).manifest.precision
    assert (found.not_inspected, found.diverged_at, found.against) == (None, None, "onnx-fp32")
    assert (found.pictures, found.threshold_db) == (PICTURES, ALONE_DB[precision])
    assert len(found.layers) > 20
    assert min(row.alone_db for row in found.layers) > found.threshold_db + 5  # no test by luck
    assert found.layers[-1].tensor == "logits"
    assert found.layers[-1].so_far_db < found.layers[-1].alone_db  # noise gathers
    if name == "openvino-fp32":
        assert min(row.so_far_db for row in found.layers) > 80


@pytest.mark.parametrize(
    ("name", "place"),
    [*((name, place) for name in ("onnx-fp16", "onnx-int8-onnxruntime") for place in (0, 0.5, 0.9)), ("openvino", 0.5)],
)
def test_the_layer_with_other_weights_is_named(build, onnx_bundle, splits, tmp_path, name, place):
    like = build("onnx-fp32" if name == "openvino" else name)
    graph = onnx.load(like.model_path)
    node = products(graph)[int(place * len(products(graph)))]
    corrupt(graph, node)
    bundle = beside(tmp_path / "corrupted", like, onnx_bundle.as_parent, graph)
    if name == "openvino":
        bundle = compile_openvino(bundle, tmp_path / "openvino", "fp32")
    found = inspected(bundle, onnx_bundle, splits)
    # OpenVINO adds a convolution's bias in a node of its own, which has the convolution's name.
    assert found.diverged_at == node.name
    beyond = [row.layer for row in found.layers if row.alone_db < found.threshold_db]
    assert beyond == [node.name]  # what comes after is fed the float graph's values, and is innocent
    after = [row for row in found.layers if row.so_far_db < 20]
    assert len(after) > len(beyond)  # though all of it is wrong


def test_noise_in_the_weights_as_large_as_int8s_own_is_no_divergence(build, onnx_bundle, splits, tmp_path):
    like = build("onnx-int8-onnxruntime")
    for step, diverges in ((1, False), (60, True)):
        graph = onnx.load(like.model_path)
        rng = np.random.default_rng(0)
        for tensor in graph.graph.initializer:
            values = numpy_helper.to_array(tensor)
            if values.dtype == np.int8 and values.ndim == 4:
                moved = np.clip(values + rng.integers(-step, step + 1, values.shape), -127, 127).astype(np.int8)
                tensor.CopyFrom(numpy_helper.from_array(moved, tensor.name))
        bundle = beside(tmp_path / f"noise-{step}", like, onnx_bundle.as_parent, graph)
        assert (inspected(bundle, onnx_bundle, splits).diverged_at is not None) == diverges


def test_a_layer_that_is_not_finite_is_named(build, onnx_bundle, splits, tmp_path):
    graph = onnx.load(build("onnx-fp16").model_path)
    node = products(graph)[5]
    (tensor,) = (tensor for tensor in graph.graph.initializer if tensor.name == node.input[1])
    values = numpy_helper.to_array(tensor).copy()
    values.flat[0] = np.nan
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    found = inspected(beside(tmp_path / "nan", build("onnx-fp16"), onnx_bundle.as_parent, graph), onnx_bundle, splits)
    assert found.diverged_at == node.name


def two_convolutions(output: str = "logits") -> onnx.ModelProto:
    """uint8 pictures to logits by two convolutions with a Relu between, whose channels have very unlike ranges."""
    rng = np.random.default_rng(0)
    first = rng.normal(0, 0.1, (4, 3, 3, 3)) * np.array([0.01, 1, 3, 30]).reshape(-1, 1, 1, 1)
    constants = {
        "scale": np.float32(1 / 255),
        "w1": first,
        "b1": rng.normal(0, 0.01, 4),
        "w2": rng.normal(0, 0.1, (5, 4, 3, 3)),
        "b2": np.zeros(5),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], name="cast", to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["scaled"], name="mul"),
        helper.make_node("Transpose", ["scaled"], ["planes"], name="transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "w1", "b1"], ["c1"], name="first"),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="second"),
        helper.make_node("GlobalAveragePool", ["c2"], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], [output], name="flatten"),
    ]
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, ["batch", 64, 64, 3])],
        [helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, ["batch", 5])],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_channels_that_were_equalised_on_purpose_are_no_divergence(onnx_bundle, splits, tmp_path):
    model = two_convolutions()
    parent = beside(tmp_path / "onnx-fp32", onnx_bundle, onnx_bundle.as_parent, model)
    equal, changed = equalise(model)
    assert changed == ("first", "second")
    other = type(equal)()
    other.CopyFrom(equal)
    corrupt(other, products(other)[0])
    diverged = {}
    for name, graph, method in (
        ("told", equal, "minmax, equalised"),
        ("not-told", equal, "minmax"),
        ("corrupted", other, "minmax, equalised"),
    ):
        calibration = Quantization(pictures=1, sha256="0", split="train", method=method)
        bundle = beside(
            tmp_path / name, onnx_bundle, parent.as_parent, graph, precision="int8", calibration=calibration
        )
        diverged[name] = inspect_layers(bundle, parent, splits.test).diverged_at
    assert diverged == {"told": None, "not-told": "first", "corrupted": "first"}


def test_the_float_onnx_itself_is_compared_with_the_modules_of_its_student(onnx_bundle, student, splits, tmp_path):
    parent = float_parent(onnx_bundle)
    assert parent.digest == student.digest
    honest = inspected(onnx_bundle, parent, splits)
    assert (honest.not_inspected, honest.diverged_at, honest.against) == (None, None, "student")
    names = [row.layer for row in honest.layers]
    assert len(names) > 15
    assert names[0] == "backbone.bn1.act"  # the convolution and its norm are one node, which the activation follows
    assert min(row.alone_db for row in honest.layers) > ALONE_DB["fp32"] + 5
    for place in (0.2, 0.7):
        graph = onnx.load(onnx_bundle.model_path)
        corrupt(graph, node := products(graph)[int(place * len(products(graph)))])
        bundle = beside(tmp_path / f"{place}", onnx_bundle, student.as_parent, graph)
        found = inspected(bundle, student, splits)
        beyond = [row for row in found.layers if row.alone_db < found.threshold_db]
        assert found.diverged_at == beyond[0].layer
        assert len(beyond) == 1
        # The node is of that module, or lies between it and the one before.
        first = names.index(beyond[0].layer)
        order = [name for one in graph.graph.node for name in one.output]
        before = order.index(honest.layers[first - 1].tensor) if first else -1
        assert before < order.index(node.output[0]) <= order.index(beyond[0].tensor)


def test_what_cannot_be_inspected_is_said(onnx_bundle, build, edgepress, tiny_data, splits, tmp_path):
    alone = Path(shutil.copytree(onnx_bundle.path, tmp_path / "alone" / "onnx-fp32"))
    answer = edgepress("verify", alone, "--data", tiny_data, "--layers")
    assert answer.code == 0
    assert "layers not inspected: what it was made from, an fp32 ONNX or torch bundle, is not beside it" in answer.out
    of = {"onnx_sha256": onnx_bundle.model_sha256, "platform": "linux-x86_64"}
    built_for = BuiltForTensorRt(runtime="tensorrt", version="10.3.0", compute_capability="SM86", max_batch=16, **of)
    plan = beside(tmp_path / "plan", onnx_bundle, onnx_bundle.as_parent, kind="tensorrt", built_for=built_for)
    assert "a TensorRT plan shows no inner tensors" in inspected(plan, onnx_bundle, splits).not_inspected
    for name, runtime in (("litert-fp32", "LiteRT"), ("ncnn-fp32", "ncnn")):
        reason = inspected(build(name), onnx_bundle, splits).not_inspected
        assert reason == (
            f"{runtime}'s file is not cut at the tensors of an ONNX graph; inspect the bundle that it was made from"
        )
    stranger = beside(tmp_path / "stranger", onnx_bundle, onnx_bundle.as_parent, two_convolutions("other"))
    assert "no tensor of its graph has a name" in inspected(build("onnx-fp16"), stranger, splits).not_inspected


def test_the_command_prints_the_table_up_to_the_layer(build, onnx_bundle, edgepress, tiny_data):
    like = build("onnx-fp16")
    graph = onnx.load(like.model_path)
    node, later = products(graph)[3:5]
    corrupt(graph, node)
    bundle = beside(like.path.parent / "corrupted-fp16", like, onnx_bundle.as_parent, graph)
    answer = edgepress("verify", bundle.path, "--data", tiny_data, "--split", "val", "--layers")
    assert f"first layer that diverged: {node.name}" in answer.out
    assert re.search(rf"(?m)^ *{node.name} ", answer.out)
    assert not re.search(rf"(?m)^ *{later.name} ", answer.out)
    found = edgepress("verify", bundle.path, "--data", tiny_data, "--split", "val", "--layers", "--json").json["layers"]
    assert found["diverged_at"] == node.name
    assert later.name in [row["layer"] for row in found["layers"]]
