"""What `adopt` takes although it looks odd, asks about, or tells: float16, probabilities and decisions."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import onnx  # noqa: E402
from torch import nn  # noqa: E402

from edgepress.deploy.build.adopt import adopt_onnx  # noqa: E402
from edgepress.multilabel.datasets import load_dataset  # noqa: E402
from edgepress.multilabel.errors import InputError  # noqa: E402
from tests.deploy.build.test_adopt import NORMAL, OWN, Net, bundle_answers, exported, own_answers  # noqa: E402


@pytest.fixture(scope="module")
def data(tiny_data):
    return load_dataset(tiny_data, "val")


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(0)
    return Net()


def test_a_file_in_float16_whose_casts_are_at_the_end_is_taken(net, data, tmp_path):
    """As ONNX Runtime's converter writes it where inputs and outputs stay in float32."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    whole = onnx.load(exported(net, tmp_path / "own.onnx"))
    half = convert_float_to_float16(whole, keep_io_types=True)
    assert half.graph.node[-1].op_type == "Cast"
    seen = {value.name for value in (*half.graph.input, *half.graph.initializer)}
    assert not seen >= set(half.graph.node[0].input), "the nodes are sorted now"
    onnx.save(half, tmp_path / "half.onnx")
    made = adopt_onnx(tmp_path / "half.onnx", data, tmp_path / "onnx-fp32", labels=OWN, config=NORMAL)
    np.testing.assert_allclose(bundle_answers(made.path, data), own_answers(tmp_path / "half.onnx", data), atol=0.05)


def test_probabilities_that_rounding_puts_below_0_are_asked_about(data, tmp_path):
    class Halved(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (torch.tanh(400 * x) + 1) / 2 - 3e-8

    torch.manual_seed(0)
    file = exported(Net(last=Halved()), tmp_path / "own.onnx")
    with pytest.raises(InputError, match=r"all answers are within 0\.\.1, as probabilities are"):
        adopt_onnx(file, data, tmp_path / "onnx-fp32", labels=OWN, config=NORMAL)


class Decided(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x > x.mean(-1, keepdim=True)).to(torch.float32)


@pytest.mark.parametrize(("last", "told"), [(Decided(), True), (nn.Sigmoid(), False)])
def test_a_graph_that_ends_in_decisions_is_told(data, tmp_path, caplog, last, told):
    torch.manual_seed(0)
    file = exported(Net(last=last), tmp_path / "own.onnx")
    config = NORMAL.model_copy(update={"activation": "sigmoid"})
    adopt_onnx(file, data, tmp_path / "onnx-fp32", labels=OWN, config=config)
    assert (
        "pictures are 0 or 1, as decisions are. mAP, thresholds and probabilities need scores" in caplog.text
    ) == told
