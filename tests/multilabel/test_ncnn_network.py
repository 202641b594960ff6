"""Loading ncnn's networks: every option set, tensors by their names."""

from __future__ import annotations

import numpy as np
import pytest

from edgepress.multilabel.ncnn_model import ncnn_model
from edgepress.multilabel.ncnn_network import OPTIONS, answer, network, options_for, picture_of, values
from tests.multilabel.test_ncnn_model import RNG, tagger
from tests.ncnn import require_ncnn

LINE = "Convolution a 1 1 in0 out0 0=8 6=64"


@pytest.mark.parametrize(("line", "expected"), [(LINE, False), (f"{LINE} 8=2", True)])
def test_int8_is_allowed_where_a_layer_is_in_int8(line, expected):
    options = options_for(f"7767517\n1 2\n{line}\n".encode())
    assert options == {**OPTIONS, "use_int8_inference": expected}


def test_tensors_are_those_that_are_asked_for(tmp_path):
    require_ncnn()
    graph, weights = ncnn_model(tagger(tmp_path / "a.onnx"), half=False)
    net, (height, width) = network(graph, weights, threads=1), picture_of(graph)
    picture = RNG.integers(0, 256, (height, width, 3), np.uint8)
    maps = next(line.split()[5] for line in graph.decode().splitlines() if line.startswith("Convolution "))
    found = values(net, picture, [maps, "out0"])
    assert found[maps].shape == (4, 4, 4)
    np.testing.assert_allclose(found[maps].mean(axis=(1, 2)), found["out0"].ravel(), rtol=1e-4)
    np.testing.assert_array_equal(answer(net, picture), found["out0"].ravel())


def test_a_tensor_that_is_not_there_is_an_error(tmp_path, capfd):
    require_ncnn()
    graph, weights = ncnn_model(tagger(tmp_path / "a.onnx"), half=False)
    with pytest.raises(RuntimeError, match="ncnn answers -1 instead of nothing"):
        values(network(graph, weights, threads=1), np.zeros((9, 9, 3), np.uint8), ["nothing"])
    capfd.readouterr()
