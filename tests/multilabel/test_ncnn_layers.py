"""ncnn's two files as layers: read, written again, and which of them are in INT8."""

from __future__ import annotations

import numpy as np
import pytest

from edgepress.multilabel.ncnn_layers import Layer, in_int8, layer_lines, read_layers, weight_count, written_layers
from edgepress.multilabel.ncnn_model import ncnn_model
from tests.multilabel.test_ncnn_model import tagger
from tests.ncnn import require_ncnn


def test_what_is_read_is_written_again(tmp_path):
    require_ncnn()
    graph, weights = ncnn_model(tagger(tmp_path / "a.onnx"), half=False)
    layers = read_layers(graph, weights)
    again, bytes_again = written_layers(layers)
    assert [line.split() for line in again.decode().splitlines()] == [
        line.split() for line in graph.decode().splitlines()
    ]
    assert bytes_again == weights


def test_each_layer_has_its_own_weights(tmp_path):
    require_ncnn()
    layers = read_layers(*ncnn_model(tagger(tmp_path / "a.onnx"), half=False))
    (convolution,) = [layer for layer in layers if layer.type == "Convolution"]
    assert (weight_count(convolution), len(convolution.weights)) == (108, 4 + 4 * 108)
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(tmp_path / "a.onnx")).graph
    weights = next(numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.name == "weights")
    np.testing.assert_array_equal(np.frombuffer(convolution.weights, "<f4", 108, 4), weights.ravel())
    assert all(layer.weights == b"" for layer in layers if layer.type not in ("Convolution", "MemoryData"))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Convolution a 1 1 x y 0=8 6=64", False),
        ("Convolution a 1 1 x y 0=8 6=64 8=2", True),
        ("Convolution a 1 1 x y 0=8 6=64 8=0", False),
        ("ConvolutionDepthWise a 1 1 x y 7=8 8=101", True),
        ("Gemm a 1 1 x y 8=64", False),  # its parameter 8 is a size
        ("Gemm a 1 1 x y 8=64 18=2", True),
        ("Softmax 8=2 1 1 x y 0=0", False),
        ("LayerNorm a 1 1 x y 8=2", False),
    ],
)
def test_a_layer_in_int8_is_known_by_its_term(line, expected):
    assert in_int8(line.split()) is expected


def test_weights_that_another_layer_gives_are_not_its_own():
    dynamic = Layer(
        type="Convolution", name="a", reads=("x", "w"), gives=("y",), params={"0": "8", "6": "64", "19": "1"}
    )
    assert weight_count(dynamic) == 0


def test_a_file_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="not ncnn's text, whose first line is 7767517"):
        layer_lines(b"\x08\x0a")
