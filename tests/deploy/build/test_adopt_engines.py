"""A float NCHW ResNet of somebody's own goes the whole way: adopted, quantised for each runtime, verified and timed."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
import onnx  # noqa: E402
import onnxruntime  # noqa: E402
from torchvision.models.resnet import BasicBlock, ResNet  # noqa: E402

from edgepress import bench, open_engine, verify  # noqa: E402
from edgepress.deploy.build.adopt import adopt_onnx  # noqa: E402
from edgepress.deploy.build.compile import compile_openvino  # noqa: E402
from edgepress.deploy.build.foreign import AdoptConfig  # noqa: E402
from edgepress.multilabel.bundle import Bundle  # noqa: E402
from edgepress.multilabel.datasets import load_dataset  # noqa: E402
from edgepress.multilabel.labels import LabelSpace  # noqa: E402
from edgepress.multilabel.preprocess import Preprocess  # noqa: E402
from tests.deploy.build.test_adopt import MEAN, STD, exported  # noqa: E402

SIZE, THOUSANDS = 48, 3000


@pytest.fixture(scope="module")
def net(tiny_data) -> torch.nn.Module:
    """A ResNet with a block a stage, fitted to the test pictures, so that INT8 has something to lose."""
    torch.manual_seed(0)
    data = load_dataset(tiny_data, "test")
    own = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=len(data.labels))
    pixels = np.stack([Preprocess(size=SIZE)(data.picture(row)) for row in range(len(data))]) / 255
    pictures = torch.from_numpy(((pixels - np.array(MEAN)) / np.array(STD)).transpose(0, 3, 1, 2)).float()
    targets = torch.from_numpy(data.targets).float()
    steps = torch.optim.AdamW(own.parameters(), lr=1e-3)
    for _ in range(30):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(own(pictures), targets)
        steps.zero_grad()
        loss.backward()
        steps.step()
    return own.eval()


@pytest.fixture(scope="module")
def adopted(net, tiny_data, tmp_path_factory) -> Bundle:
    folder = tmp_path_factory.mktemp("own")
    file = exported(net, folder / "resnet.onnx", shape=(2, 3, SIZE, SIZE))
    data = load_dataset(tiny_data, "test")
    config = AdoptConfig(mean=MEAN, std=STD)
    return adopt_onnx(file, data, folder / "onnx-fp32", labels=data.labels, config=config)


def test_the_front_s_logits_are_the_file_s_own(adopted, tiny_data):
    data = load_dataset(tiny_data, "test")
    pixels = np.stack([adopted.preprocess(data.picture(row)) for row in range(len(data))])
    fed = ((pixels / 255 - np.array(MEAN)) / np.array(STD)).transpose(0, 3, 1, 2).astype(np.float32)
    session = onnxruntime.InferenceSession(str(adopted.path.parent / "resnet.onnx"), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"x": fed})[0]
    with open_engine(adopted.path) as engine:
        assert np.abs(engine(pixels) - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_its_float_engines_pass(runtime, adopted, tiny_data):
    pytest.importorskip(runtime)
    data = load_dataset(tiny_data, "test")
    engine = adopted
    if runtime == "openvino":
        engine = compile_openvino(adopted, adopted.path.parent / "openvino-fp32", "fp32")
    found = verify(engine, data)
    assert (found.drop_points, found.verdict) == (pytest.approx(0, abs=0.1), "pass")
    assert found.max_abs_diff <= 0.05


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_its_int8_is_within_the_budget_and_is_timed(target, adopted, tiny_data, edgepress):
    pytest.importorskip(target)
    out = adopted.path.parent / f"int8-{target}"
    given = ("--data", tiny_data, "--target", target, "--pictures", "24", "--time-limit", "0")
    done = edgepress("quantize", adopted.path, *given, "--out", out)
    assert done.code in (0, 1), done.err  # 1: slower than fp32, as nets this small may be
    found = verify(Bundle.open(out), load_dataset(tiny_data, "test"))
    assert found.drop_points <= 1.0
    assert found.flip_rate <= 0.1
    timed = bench(Bundle.open(out), seconds=0.1)
    assert [cell.batch for cell in timed.cells] == [1]


class SumOfExponents(torch.nn.Module):
    """Grows its map, pools it by log-sum-exp, as taggers of radiographs do, and compares that with the magnitudes."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.map = torch.nn.Conv2d(3, labels, 5, 4)
        self.grow = torch.nn.ConvTranspose2d(labels, labels, 4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.grow(self.map(x))
        return torch.logsumexp(scores, dim=(2, 3)) - 0.01 * scores.norm(p=1, dim=(2, 3))


def test_axes_and_auto_pad_that_openvino_ignores_are_heeded(tiny_data, tmp_path):
    pytest.importorskip("openvino")
    data = load_dataset(tiny_data, "test")
    torch.manual_seed(0)
    file = exported(SumOfExponents(len(data.labels)), tmp_path / "own.onnx", opset=17)
    model = onnx.load(file)
    (grow,) = (node for node in model.graph.node if node.op_type == "ConvTranspose")
    kept = [one for one in grow.attribute if one.name != "pads"]
    del grow.attribute[:]
    grow.attribute.extend([*kept, onnx.helper.make_attribute("auto_pad", "SAME_UPPER")])
    onnx.save(model, file)
    own = adopt_onnx(file, data, tmp_path / "fp32", labels=data.labels, config=AdoptConfig(mean=MEAN, std=STD))
    found = verify(compile_openvino(own, tmp_path / "openvino", "fp32"), data)
    assert found.max_abs_diff <= 1e-3


def test_thousands_of_tags_keep_those_of_the_data_set(tiny_data, tmp_path):
    data = load_dataset(tiny_data, "test")
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 8, 8), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, THOUSANDS)
    )
    file = exported(net, tmp_path / "tags.onnx", shape=(2, 3, SIZE, SIZE))
    names = [f"tag {number}" for number in range(THOUSANDS)]
    columns = [2999, 0, 1500, 7, 812]
    for column, name in zip(columns, data.labels, strict=True):
        names[column] = name
    config = AdoptConfig(mean=MEAN, std=STD)
    made = adopt_onnx(file, data, tmp_path / "made", labels=LabelSpace(tuple(names)), config=config)
    assert made.labels == data.labels
    pixels = np.stack([made.preprocess(data.picture(row)) for row in range(5)])
    fed = ((pixels / 255 - np.array(MEAN)) / np.array(STD)).transpose(0, 3, 1, 2).astype(np.float32)
    with torch.no_grad(), open_engine(made.path) as engine:
        np.testing.assert_allclose(engine(pixels), net(torch.from_numpy(fed)).numpy()[:, columns], atol=1e-5)
