"""What nvinfer gets: a key file that GLib reads, and a model whose outputs its own parser turns into our decisions."""

from __future__ import annotations

import configparser

import numpy as np
import onnxruntime
import pytest

from edgepress.deploy.build.deepstream import nvinfer_config, write_deepstream
from edgepress.deploy.engines import open_engine
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import InputError
from tests.deploy.build.test_model_api import decided

# Keys of [property] in NVIDIA's documentation of gst-nvinfer (DeepStream 7.1).
KEYS = {"gpu-id", "gie-unique-id", "process-mode", "onnx-file", "labelfile-path", "output-blob-names", "infer-dims"}
KEYS |= {"batch-size", "network-mode", "network-type", "network-input-order", "model-color-format", "scaling-filter"}
KEYS |= {"net-scale-factor", "maintain-aspect-ratio", "symmetric-padding", "classifier-threshold"}


def parsed_as_by_nvinfer(outputs: list[np.ndarray], labels: str, threshold: float) -> list[list[str]]:
    """`ClassifyPostprocessor::parseAttributesFromSoftmaxLayers`: the best class of each output, if it is above."""
    lines = [line.split(";") for line in labels.splitlines()]
    answers = []
    for picture in range(len(outputs[0])):
        found = []
        for attribute, output in enumerate(outputs):
            best = int(output[picture].argmax())
            if output[picture][best] > threshold:
                found.append(lines[attribute][best])
        answers.append(found)
    return answers


def test_nvinfers_parser_gives_the_bundles_decisions(onnx_bundle, images, tmp_path):
    bundle = decided(onnx_bundle, tmp_path / "bundle")
    out = write_deepstream(bundle, tmp_path / "out")
    config = configparser.ConfigParser()
    config.read(out / "config.txt")
    told = dict(config["property"])
    assert set(told) == KEYS
    assert (told["network-type"], told["infer-dims"], told["model-color-format"]) == ("1", "3;64;64", "0")
    session = onnxruntime.InferenceSession(str(out / told["onnx-file"]), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    assert (given.type, given.shape[1:]) == ("tensor(float)", [3, 64, 64])
    names = told["output-blob-names"].split(";")
    assert [one.name for one in session.get_outputs()] == names
    pixels = images.transpose(0, 3, 1, 2).astype(np.float32) * float(told["net-scale-factor"])
    outputs = session.run(names, {given.name: pixels})
    labels = (out / told["labelfile-path"]).read_text()
    with open_engine(bundle, unproven=True) as engine:
        answers = bundle.decisions.decide(engine(images))
    expected = [[bundle.labels.names[at] for at in np.flatnonzero(row)] for row in answers]
    assert parsed_as_by_nvinfer(outputs, labels, float(told["classifier-threshold"])) == expected
    assert 0 < answers.sum() < answers.size


def test_no_bytes_are_inside_because_tensorrt_takes_them_as_inputs_only(onnx_bundle, tmp_path):
    import onnx

    graph = onnx.load(write_deepstream(onnx_bundle, tmp_path / "out") / "model.onnx")
    shaped = onnx.shape_inference.infer_shapes(graph)
    types = {one.type.tensor_type.elem_type for one in (*shaped.graph.value_info, *shaped.graph.input)}
    assert onnx.TensorProto.UINT8 not in types


def test_what_nvinfer_cannot_do_is_refused_or_said(onnx_bundle, build, tmp_path):
    with pytest.raises(InputError, match="of kind openvino, fp32; DeepStream serves onnx: fp32"):
        write_deepstream(build("openvino-fp32"), tmp_path / "out")
    crop = onnx_bundle.preprocess.model_copy(update={"resize": "crop"})
    cropped = Bundle(onnx_bundle.path, onnx_bundle.manifest.model_copy(update={"preprocess": crop}), "")
    with pytest.raises(InputError, match=r"cropped .* and nvinfer scales whole frames"):
        write_deepstream(cropped, tmp_path / "out")
    boxed = onnx_bundle.preprocess.model_copy(update={"resize": "letterbox"})
    config = nvinfer_config(Bundle(onnx_bundle.path, onnx_bundle.manifest.model_copy(update={"preprocess": boxed}), ""))
    assert "maintain-aspect-ratio=1\nsymmetric-padding=1\n" in config
    names = ("a;b", *onnx_bundle.labels.names[1:])
    named = Bundle(onnx_bundle.path, onnx_bundle.manifest.model_copy(update={"labels": names}), "")
    with pytest.raises(InputError, match="nvinfer parts labels at ; and line breaks, and 'a;b' has one"):
        write_deepstream(named, tmp_path / "out")
    assert not list(tmp_path.iterdir())
    text = (write_deepstream(onnx_bundle, tmp_path / "out") / "README.md").read_text()
    assert "This was not run in DeepStream" in text
    assert "Its scaling is not that of training" in text
