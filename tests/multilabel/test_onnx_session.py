"""Sessions of ONNX Runtime: within the allowed cores, quiet, and in float where the graph is."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepress.multilabel import onnx_session
from edgepress.multilabel.onnx_session import cpu_session, session_options


def float_between_quantised(weights: np.ndarray) -> bytes:
    """A convolution with float weights between a DequantizeLinear and a QuantizeLinear."""
    constants = {"s": np.float32(6 / 255), "t": np.float32(0.5), "z": np.uint8(128), "w": weights}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("Conv", ["d", "w"], ["c"]),
        helper.make_node("QuantizeLinear", ["c", "t", "z"], ["r"]),
        helper.make_node("DequantizeLinear", ["r", "t", "z"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "float_between",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8, 6, 6])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


@pytest.mark.parametrize("optimised", ["all", "basic"])
def test_what_a_graph_leaves_in_float_stays_in_float(optimised):
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((8, 4, 3, 3)).astype(np.float32)
    weights[0, 0, 0, 0] = 1000  # on one scale with it no other weight would have a level left
    graph, given = float_between_quantised(weights), {"x": rng.standard_normal((2, 4, 8, 8)).astype(np.float32)}
    (right,), (found,) = (cpu_session(graph, level).run(None, given) for level in ("nothing", optimised))
    assert np.abs(right - found).max() <= 0.5  # one step of its output


def test_a_file_and_its_bytes_are_one(tmp_path):
    weights = np.ones((8, 4, 3, 3), np.float32)
    (tmp_path / "model.onnx").write_bytes(float_between_quantised(weights))
    given = {"x": np.ones((1, 4, 8, 8), np.float32)}
    answers = [
        cpu_session(model).run(None, given)[0]
        for model in (tmp_path / "model.onnx", (tmp_path / "model.onnx").read_bytes())
    ]
    assert np.array_equal(*answers)


def test_threads_are_those_of_the_process_or_those_asked_for(monkeypatch):
    monkeypatch.setattr(onnx_session, "thread_limit", lambda: 3)
    assert session_options().intra_op_num_threads == 3
    assert session_options(1).intra_op_num_threads == 1
    monkeypatch.setattr(onnx_session, "thread_limit", lambda: None)
    assert session_options().intra_op_num_threads == 0  # ONNX Runtime's own choice


def test_a_refused_graph_is_raised_and_not_printed_as_well(capfd):
    with pytest.raises(Exception, match="protobuf parsing failed"):
        cpu_session(b"no graph")
    assert capfd.readouterr().err == ""
