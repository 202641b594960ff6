"""A finished ONNX tagger becomes a bundle: what its graph says is read, the rest is asked for, its answers are kept."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
import onnx  # noqa: E402
import onnxruntime  # noqa: E402
from onnx import numpy_helper  # noqa: E402
from torch import nn  # noqa: E402

from edgepress import open_engine, open_tagger, verify  # noqa: E402
from edgepress.deploy.build.adopt import adopt_onnx  # noqa: E402
from edgepress.deploy.build.foreign import AdoptConfig  # noqa: E402
from edgepress.deploy.build.reference import REFERENCE, Reference  # noqa: E402
from edgepress.multilabel.bundle import Bundle  # noqa: E402
from edgepress.multilabel.datasets import load_dataset  # noqa: E402
from edgepress.multilabel.errors import InputError  # noqa: E402
from edgepress.multilabel.labels import LabelSpace  # noqa: E402
from edgepress.multilabel.preprocess import Preprocess  # noqa: E402

SIZE = 32
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NORMAL = AdoptConfig(mean=MEAN, std=STD)
OWN = LabelSpace(("red", "green", "blue", "circle", "bars"))


class Net(nn.Module):
    """A small tagger of somebody's own: float NCHW in, five outputs."""

    def __init__(
        self, outputs: int = 5, last: nn.Module | None = None, flatten: int | None = None, beside: int = 0
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1))
        self.head, self.last = nn.Linear(16 + beside, outputs), last or nn.Identity()
        self.batch, self.beside = flatten, beside

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.stem(x).relu().mean(dim=(2, 3), keepdim=self.batch is not None)
        if self.batch is not None:
            features = features.reshape(self.batch, 16)
        if self.beside:  # one row of constants, which goes with one picture
            features = torch.cat([features, torch.ones(1, self.beside)], dim=1)
        return self.last(self.head(features))


def exported(net: nn.Module, file: Path, *, shape=(2, 3, SIZE, SIZE), free=True, opset=17, dynamo=False) -> Path:
    axes = {"x": {0: "batch"}} if free else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            dims = {"x": {0: torch.export.Dim("batch", min=1, max=64)}} if free else None
            program = torch.onnx.export(
                net.eval(), (torch.zeros(shape),), input_names=["x"], output_names=["y"], opset_version=opset,
                dynamo=True, dynamic_shapes=dims, external_data=False, verbose=False,
            )  # fmt: skip
            program.save(str(file))
        else:
            torch.onnx.export(
                net.eval(), (torch.zeros(shape),), str(file), input_names=["x"], output_names=["y"],
                opset_version=opset, dynamic_axes=axes, dynamo=False,
            )  # fmt: skip
    return file


@pytest.fixture(scope="module")
def data(tiny_data):
    return load_dataset(tiny_data, "test")


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


def own_answers(file: Path, data, mean=MEAN, std=STD) -> np.ndarray:
    """What the file says of the pictures as its owner prepares them: scaled to 0..1, less the mean, by std."""
    pixels = np.stack([Preprocess(size=SIZE)(data.picture(row)) for row in range(len(data))]) / 255
    fed = ((pixels - np.array(mean)) / np.array(std)).transpose(0, 3, 1, 2).astype(np.float32)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["y"], {"x": fed[at : at + 1]})[0] for at in range(len(fed))])


def bundle_answers(path: Path, data) -> np.ndarray:
    with open_engine(path) as engine:
        return engine(np.stack([engine.preprocess(data.picture(row)) for row in range(len(data))]))


OPSETS = [*((opset, False) for opset in (11, 12, 13, 15, 17, 18, 20)), *((opset, True) for opset in (18, 20, 21, 23))]


@pytest.mark.parametrize(("opset", "dynamo"), OPSETS)
def test_it_answers_as_the_file_does_by_itself(net, data, tmp_path, opset, dynamo):
    file = exported(net, tmp_path / "own.onnx", opset=opset, dynamo=dynamo)
    made = adopt_onnx(file, data, tmp_path / "onnx-fp32", labels=OWN, config=NORMAL)
    expected = own_answers(file, data)
    found = bundle_answers(made.path, data)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(Reference.load(made.path / REFERENCE).logits, expected, atol=1e-5)
    assert made.labels == data.labels
    result = verify(made, data)
    assert result.max_abs_diff <= 1e-4
    assert result.reference == "the adopted own.onnx (reference.npz)"
    with open_tagger(made) as tagger:
        assert set(tagger.predict(data.paths[0])) == set(OWN)


def test_a_batch_that_only_the_shape_fixes_is_freed(net, data, tmp_path):
    file = exported(net, tmp_path / "own.onnx", shape=(1, 3, SIZE, SIZE), free=False)
    made = adopt_onnx(file, data, tmp_path / "onnx-fp32", labels=OWN, config=NORMAL)
    np.testing.assert_allclose(bundle_answers(made.path, data), own_answers(file, data), atol=1e-5)


@pytest.mark.parametrize(("batch", "dynamo"), [(1, False), (1, True), (3, False)])
def test_a_batch_that_is_written_into_shapes_is_freed(batch, dynamo, data, tmp_path, caplog):
    """What torch.onnx.export writes where nobody asks for a free batch."""
    torch.manual_seed(0)
    net = Net(flatten=batch)
    file = exported(net, tmp_path / "own.onnx", shape=(batch, 3, SIZE, SIZE), free=False, dynamo=dynamo, opset=18)
    assert "Reshape" in {node.op_type for node in onnx.load(file).graph.node}
    with caplog.at_level("INFO", logger="edgepress"):
        made = adopt_onnx(file, data, tmp_path / "onnx-fp32", labels=OWN, config=NORMAL)
    assert f"its batch of {batch} is written into 1 shapes, which are freed" in caplog.text
    net.batch = -1
    pixels = np.stack([made.preprocess(data.picture(row)) for row in range(len(data))])
    fed = ((pixels / 255 - np.array(MEAN)) / np.array(STD)).transpose(0, 3, 1, 2).astype(np.float32)
    with torch.no_grad():
        np.testing.assert_allclose(bundle_answers(made.path, data), net(torch.from_numpy(fed)).numpy(), atol=1e-5)


def test_a_batch_within_the_graph_is_refused_with_its_node_and_the_option(data, tmp_path):
    torch.manual_seed(0)
    file = exported(Net(beside=4), tmp_path / "own.onnx", shape=(1, 3, SIZE, SIZE), free=False)
    with pytest.raises(InputError, match=r"the Concat .* has the batch 1 in it\. Export it with a free batch: dynam"):
        adopt_onnx(file, data, tmp_path / "onnx-fp32", labels=OWN, config=NORMAL)
    assert not (tmp_path / "onnx-fp32").exists()


def test_a_last_sigmoid_is_taken_off(net, data, tmp_path):
    file = exported(net, tmp_path / "logits.onnx")
    net.last = nn.Sigmoid()
    with_sigmoid = exported(net, tmp_path / "probabilities.onnx")
    made = adopt_onnx(with_sigmoid, data, tmp_path / "onnx-fp32", labels=OWN, config=NORMAL)
    np.testing.assert_allclose(bundle_answers(made.path, data), own_answers(file, data), atol=1e-5)
    assert "Sigmoid" not in {node.op_type for node in onnx.load(made.model_path).graph.node}


def test_probabilities_of_which_nothing_is_said_are_asked_about(data, tmp_path):
    torch.manual_seed(0)
    file = exported(Net(last=nn.Hardsigmoid()), tmp_path / "own.onnx")
    with pytest.raises(InputError, match=r"all answers are within 0..1.* say --activation sigmoid, softmax, or none"):
        adopt_onnx(file, data, tmp_path / "onnx-fp32", labels=OWN, config=NORMAL)
    said = NORMAL.model_copy(update={"activation": "sigmoid"})
    made = adopt_onnx(file, data, tmp_path / "onnx-fp32", labels=OWN, config=said)
    p = own_answers(file, data)
    np.testing.assert_allclose(1 / (1 + np.exp(-bundle_answers(made.path, data))), p, atol=1e-5)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_logits_are_not_taken_for_probabilities(net, data, tmp_path, activation):
    file = exported(net, tmp_path / "own.onnx")
    said = NORMAL.model_copy(update={"activation": activation})
    with pytest.raises(InputError, match=rf"answers reach from -\d.* to \d.*, and the activation {activation} gives"):
        adopt_onnx(file, data, tmp_path / "onnx-fp32", labels=OWN, config=said)
    assert not (tmp_path / "onnx-fp32").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"mean": (123.675, 116.28, 103.53)}, r"pixels in 0\.\.1; .* divided by 255: 0\.485,0\.456,0\.406"),
        ({"std": (58.395, 57.12, 57.375)}, r"divided by 255: 0\.229,0\.224,0\.225"),
        ({"mean": ["0.5"]}, "--mean 0.5: expected three numbers, for red, green and blue"),
        ({"std": (1, 1, 0)}, "--std 1,1,0: expected three numbers from 0 to 2, those of std above 0"),
        ({"mean": (0, float("nan"), 0)}, "--mean nan: input should be a finite number"),
        ({"size": 4}, "--size 4: input should be greater than or equal to 8"),
    ],
)
def test_a_normalisation_that_fits_no_pixels_is_refused(given, said):
    with pytest.raises(InputError, match=said):
        AdoptConfig.parse(given, "flags")


def test_a_graph_in_int8_is_refused_rather_than_called_fp32(net, data, tmp_path):
    from onnxruntime.quantization import quantize_dynamic

    file = exported(net, tmp_path / "own.onnx")
    quantize_dynamic(str(file), str(tmp_path / "int8.onnx"))
    with pytest.raises(InputError, match=r"quantised already \(\w+\); adopt the float model"):
        adopt_onnx(tmp_path / "int8.onnx", data, tmp_path / "onnx-fp32", labels=OWN, config=NORMAL)


def test_a_graph_for_tiny_pictures_is_refused(net, data, tmp_path):
    file = exported(net, tmp_path / "own.onnx", shape=(2, 3, 4, 4))
    with pytest.raises(InputError, match="the input x has 4 pixels a side; expected 8 to 4096"):
        adopt_onnx(file, data, tmp_path / "onnx-fp32", labels=OWN, config=NORMAL)


def test_other_names_than_those_in_the_metadata_are_told(net, data, tmp_path, caplog):
    model = onnx.load(exported(net, tmp_path / "own.onnx"))
    onnx.helper.set_model_props(model, {"labels": json.dumps([OWN.names[1], OWN.names[0], *OWN.names[2:]])})
    onnx.save(model, tmp_path / "own.onnx")
    made = adopt_onnx(tmp_path / "own.onnx", data, tmp_path / "onnx-fp32", labels=OWN, config=NORMAL)
    assert "own.onnx calls its output 1 'green', and --labels calls it 'red': --labels is taken" in caplog.text
    np.testing.assert_allclose(bundle_answers(made.path, data), own_answers(tmp_path / "own.onnx", data), atol=1e-5)


class MomentNorm(nn.Module):
    """A norm of the outputs by a moment of them; ONNX Runtime takes every such norm for that by the second moment."""

    def __init__(self, moment: int) -> None:
        super().__init__()
        self.moment, self.scale, self.bias = moment, nn.Parameter(torch.full((5,), 3.0)), nn.Parameter(torch.zeros(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.pow(self.moment).mean(-1, keepdim=True) + 1e-5).sqrt() * self.scale + self.bias


@pytest.mark.parametrize(("moment", "told"), [(4, True), (2, False)])
def test_optimisations_that_change_what_the_operators_mean_are_told(data, tmp_path, caplog, moment, told):
    torch.manual_seed(0)
    file = exported(Net(last=MomentNorm(moment)), tmp_path / "own.onnx")
    adopt_onnx(file, data, tmp_path / "onnx-fp32", labels=OWN, config=NORMAL)
    assert ("what the graph's operators mean" in caplog.text) == told


def test_bgr_channels_are_turned_within_the_graph(net, data, tmp_path):
    file = exported(net, tmp_path / "own.onnx")
    weight = net.stem[0].weight.detach().numpy()[:, ::-1].copy()
    turned = onnx.load(file)
    for tensor in turned.graph.initializer:
        if list(tensor.dims) == list(weight.shape):
            values = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(values[:, ::-1].copy(), tensor.name))
    onnx.save(turned, tmp_path / "bgr.onnx")
    one = AdoptConfig(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    rgb = adopt_onnx(file, data, tmp_path / "rgb", labels=OWN, config=one)
    bgr_config = one.model_copy(update={"colors": "bgr"})
    bgr = adopt_onnx(tmp_path / "bgr.onnx", data, tmp_path / "bgr", labels=OWN, config=bgr_config)
    np.testing.assert_allclose(bundle_answers(bgr.path, data), bundle_answers(rgb.path, data), atol=1e-5)


def test_labels_that_the_data_set_does_not_have_are_dropped_from_the_graph(data, tmp_path):
    torch.manual_seed(0)
    file = exported(Net(outputs=9), tmp_path / "own.onnx")
    many = LabelSpace(("bars", "x1", "circle", "x2", "blue", "x3", "green", "red", "x4"))
    made = adopt_onnx(file, data, tmp_path / "onnx-fp32", labels=many, config=NORMAL)
    assert made.labels == data.labels
    columns = [many.index(name) for name in data.labels]
    np.testing.assert_allclose(bundle_answers(made.path, data), own_answers(file, data)[:, columns], atol=1e-5)


def test_labels_come_from_the_metadata_or_are_asked_for(net, data, tmp_path):
    file = exported(net, tmp_path / "own.onnx")
    with pytest.raises(InputError, match=r"does not name its outputs: say --labels FILE"):
        adopt_onnx(file, data, tmp_path / "onnx-fp32", labels=None, config=NORMAL)
    model = onnx.load(file)
    entry = model.metadata_props.add()
    entry.key, entry.value = "labels", json.dumps(OWN.names)
    onnx.save(model, tmp_path / "named.onnx")
    assert adopt_onnx(tmp_path / "named.onnx", data, tmp_path / "made", labels=None, config=NORMAL).labels == OWN


def test_what_is_not_said_is_asked_for(net, data, tmp_path):
    file = exported(net, tmp_path / "own.onnx")
    with pytest.raises(InputError, match="say --mean and --std"):
        adopt_onnx(file, data, tmp_path / "out", labels=OWN, config=AdoptConfig())
    six = LabelSpace((*OWN.names, "sixth"))
    with pytest.raises(InputError, match="has 5 columns for 6 labels"):
        adopt_onnx(file, data, tmp_path / "out", labels=six, config=NORMAL)
    with pytest.raises(InputError, match=r"--layout nhwc, but the input x has the shape"):
        adopt_onnx(file, data, tmp_path / "out", labels=OWN, config=NORMAL.model_copy(update={"layout": "nhwc"}))
    with pytest.raises(InputError, match=r"--size 64, but the input x has 32 pixels a side"):
        adopt_onnx(file, data, tmp_path / "out", labels=OWN, config=NORMAL.model_copy(update={"size": 64}))
    with pytest.raises(InputError, match="no output 'z'; it has y"):
        adopt_onnx(file, data, tmp_path / "out", labels=OWN, config=NORMAL.model_copy(update={"output": "z"}))
    other = LabelSpace(("a", "b", "c", "d", "e"))
    with pytest.raises(InputError, match=r"lacks .* of the labels of the data set"):
        adopt_onnx(file, data, tmp_path / "out", labels=other, config=NORMAL)


def test_what_is_no_model_is_named(data, tmp_path):
    (tmp_path / "text.onnx").write_bytes(b"\xff\xfe no model at all")
    with pytest.raises(InputError, match=r"text\.onnx: not an? (sound )?ONNX model"):
        adopt_onnx(tmp_path / "text.onnx", data, tmp_path / "out", labels=OWN, config=NORMAL)
    with pytest.raises(InputError, match="no such file"):
        adopt_onnx(tmp_path / "none.onnx", data, tmp_path / "out", labels=OWN, config=NORMAL)


def test_external_data_is_taken_from_beside_the_file_alone(net, data, tmp_path):
    file = exported(net, tmp_path / "own.onnx")
    folder = tmp_path / "external"
    folder.mkdir()
    onnx.save(onnx.load(file), folder / "own.onnx", save_as_external_data=True, location="own.bin", size_threshold=0)
    made = adopt_onnx(folder / "own.onnx", data, tmp_path / "made", labels=OWN, config=NORMAL)
    files = sorted(name for name in made.manifest.files if not name.startswith("golden/"))
    assert files == ["golden.npz", "model.onnx", "reference.npz"]
    (folder / "own.bin").rename(tmp_path / "own.bin")
    with pytest.raises(InputError, match=r"external data 'own\.bin' is missing"):
        adopt_onnx(folder / "own.onnx", data, tmp_path / "other", labels=OWN, config=NORMAL)


def test_a_second_input_is_named(data, tmp_path):
    class Two(nn.Module):
        def forward(self, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
            return x.mean(dim=(2, 3)) * scale

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        args = (torch.zeros(2, 3, SIZE, SIZE), torch.ones(1))
        torch.onnx.export(Two(), args, buffer, input_names=["x", "scale"], dynamo=False)
    (tmp_path / "two.onnx").write_bytes(buffer.getvalue())
    with pytest.raises(InputError, match=r"2 inputs \(x .*, scale .*\); expected one"):
        adopt_onnx(tmp_path / "two.onnx", data, tmp_path / "out", labels=OWN, config=NORMAL)


def test_nodes_without_names_get_some_so_that_it_can_be_quantised(net, data, tmp_path):
    """ONNX asks for no names, and quantisers find nodes by them."""
    own = onnx.load(exported(net, tmp_path / "own.onnx"))
    for node in own.graph.node:
        node.ClearField("name")
    onnx.save(own, tmp_path / "nameless.onnx")
    made = adopt_onnx(tmp_path / "nameless.onnx", data, tmp_path / "onnx-fp32", labels=OWN, config=NORMAL)
    names = [node.name for node in onnx.load(made.model_path).graph.node]
    assert all(names)
    assert len(set(names)) == len(names)


def test_an_adopted_model_is_quantised_within_what_int8_may_cost(net, tiny_data, data, tmp_path, edgepress):
    made = adopt_onnx(exported(net, tmp_path / "own.onnx"), data, tmp_path / "onnx-fp32", labels=OWN, config=NORMAL)
    given = ("--data", tiny_data, "--target", "onnxruntime", "--pictures", "12", "--time-limit", "0", "--budget", "100")
    done = edgepress("quantize", made.path, *given, "--out", tmp_path / "int8")
    assert done.code in (0, 1), done.err  # 1: slower than fp32, as nets this small are
    int8 = Bundle.open(tmp_path / "int8")
    assert {node.op_type for node in onnx.load(int8.model_path).graph.node} >= {"QuantizeLinear", "DequantizeLinear"}
    difference = np.abs(bundle_answers(int8.path, data) - bundle_answers(made.path, data)).max()
    assert 0 < difference < 0.5 * np.abs(bundle_answers(made.path, data)).max()


def test_the_verb(net, tiny_data, tmp_path, edgepress):
    file = exported(net, tmp_path / "own.onnx")
    (tmp_path / "labels.txt").write_text("\n".join(OWN.names))
    given = ("--data", tiny_data, "--labels", tmp_path / "labels.txt", "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5")
    done = edgepress("adopt", file, "--out", tmp_path / "onnx-fp32", *given)
    assert done.code == 0, done.err
    assert Bundle.open(tmp_path / "onnx-fp32").manifest.kind == "onnx"
    assert "own.onnx: mAP " in done.err
    assert "if it is stated differently, --colors bgr: " in done.err
    again = edgepress("adopt", file, "--out", tmp_path / "onnx-fp32", *given)
    assert "unchanged, kept" in again.err
    refused = edgepress("adopt", file, "--out", tmp_path / "other", "--data", tiny_data)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.count("\n") == 1


def test_pictures_that_are_not_square_are_refused(net, data, tmp_path):
    wide = exported(net, tmp_path / "wide.onnx", shape=(2, 3, SIZE, 2 * SIZE))
    with pytest.raises(InputError, match="32 x 64 pixels; expected a square"):
        adopt_onnx(wide, data, tmp_path / "out", labels=OWN, config=NORMAL)
