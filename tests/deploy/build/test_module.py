"""A torch module of somebody's own becomes a bundle that answers as it does, or its own line of code is named."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

torch = pytest.importorskip("torch")
from torch import Tensor, nn  # noqa: E402

from edgepress import LabelSpace, Preprocess, export, open_engine, verify  # noqa: E402
from edgepress.deploy.build.reference import REFERENCE, Reference  # noqa: E402
from edgepress.deploy.build.traced import INPUT, exported, traced  # noqa: E402
from edgepress.deploy.verify.torch_graph import MODULES  # noqa: E402
from edgepress.multilabel.datasets import load_dataset  # noqa: E402
from edgepress.multilabel.errors import InputError  # noqa: E402
from edgepress.multilabel.onnx_session import cpu_session  # noqa: E402

OWN = LabelSpace(("bars", "other", "circle", "blue", "green", "red"))
PREPROCESS = Preprocess(size=32, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(8, len(OWN))

    def features(self, x: Tensor) -> Tensor:
        return self.stem(x).mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class Counts(Net):
    """Takes the batch as a Python number."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x) + torch.ones(len(x), 8))


class Numbered(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).reshape(2, 8))


class Branches(Net):
    def forward(self, x: Tensor) -> Tensor:
        found = self.features(x)
        return self.head(found * 2 if x.shape[0] > 4 else found)


class Guards(Net):
    """Guards a division and a logarithm with constants that onnxscript's optimizer takes for 0."""

    def forward(self, x: Tensor) -> Tensor:
        found = self.features(x)
        share = found / (found.sum(dim=1, keepdim=True) + 1e-8)
        return self.head(share + (found - -1e-12).log() + (found.double() + 1e-10).log().float())


class GuardsWithin(Net):
    """Guards logarithms in the branches of a condition, beside a parameter named small.0."""

    def __init__(self) -> None:
        super().__init__()
        self.small = nn.ParameterList([nn.Parameter(torch.full((8,), 2.0))])

    def forward(self, x: Tensor) -> Tensor:
        found = self.features(x)
        most, least = (lambda x: (x + 1e-9).log()), (lambda x: (x + 1e-12).log())
        return torch.cond(found.sum() > 0, most, least, (found,)) + self.small[0]


class Looks(Net):
    def forward(self, x: Tensor) -> Tensor:
        found = self.features(x)
        return self.head(found if found.sum() > 0 else -found)


class Two(Net):
    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        return super().forward(x) * scale


class Several(Net):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return super().forward(x), x


class Maps(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.stem(x)


class Probabilities(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).clamp(0, 1)


class Logarithms(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).log_softmax(dim=1).clamp(max=0)


@pytest.fixture(scope="module")
def data(tiny_data):
    return load_dataset(tiny_data, "test")


def made(kind: type[Net]) -> Net:
    torch.manual_seed(0)
    return kind()


def test_it_answers_as_the_module_does(data, tmp_path):
    net = made(Net).train()
    bundle = export(net, PREPROCESS, OWN, data, tmp_path / "onnx-fp32")
    pixels = np.stack([PREPROCESS(data.picture(row)) for row in range(len(data))])
    normal = (pixels / 255 - np.array(PREPROCESS.mean)) / np.array(PREPROCESS.std)
    assert net.training  # the copy is in evaluation mode, not what was given
    with torch.no_grad():
        expected = net.eval()(torch.from_numpy(normal.transpose(0, 3, 1, 2)).float()).numpy()
    expected = expected[:, [OWN.index(name) for name in data.labels]]
    with open_engine(bundle.path) as engine:
        np.testing.assert_allclose(engine(pixels), expected, atol=1e-5)
    np.testing.assert_allclose(Reference.load(bundle.path / REFERENCE).logits, expected, atol=1e-5)
    assert bundle.labels == data.labels
    found = verify(bundle, data)
    assert found.max_abs_diff <= 1e-5
    assert found.reference == "the adopted Net (reference.npz)"


def test_constants_that_guard_a_division_are_kept():
    net = made(Guards).eval()
    nn.init.zeros_(net.stem[0].weight)  # all features are 0
    nn.init.constant_(net.stem[0].bias, -1)
    pictures = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected = net(pictures).numpy()
    graph = traced(net, pictures, ["scores"], "Guards")
    assert [value.name for value in graph.graph.input] == [INPUT]
    found = cpu_session(graph.SerializeToString()).run(None, {INPUT: pictures.numpy()})[0]
    assert np.abs(expected).max() > 10  # logarithms of the constants
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_constants_within_branches_are_kept_under_names_of_their_own():
    net = made(GuardsWithin).eval()
    nn.init.zeros_(net.stem[0].weight)  # all features are 0
    nn.init.constant_(net.stem[0].bias, -1)
    pictures = torch.rand(2, 3, 32, 32)
    graph = traced(net, pictures, ["scores"], "GuardsWithin")
    assert [value.name for value in graph.graph.input] == [INPUT]
    (own,) = (one for one in graph.graph.initializer if one.name == "small.0")
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(own), np.full(8, 2, np.float32))
    found = cpu_session(graph.SerializeToString()).run(None, {INPUT: pictures.numpy()})[0]
    np.testing.assert_allclose(found, np.full((2, 8), np.log(1e-12) + 2), rtol=1e-5)


def test_constants_within_functions_are_kept(monkeypatch):
    """Not every version of the exporter has put functions into the graph before it is optimized."""
    written = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["" : 20, "own" : 1]>
        graph (float[batch] images) => (float[batch] scores) { scores = own.Guarded (images) }
        <domain: "own", opset_import: ["" : 20]>
        Guarded (x) => (y) { e = Constant <value_float = 1e-10> () t = Add (x, e) y = Log (t) }""")
    program = torch.onnx.ONNXProgram(ir.serde.deserialize_model(written), None)
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: program)
    graph = exported(made(Net), (torch.zeros(2),))
    assert [node.op_type for node in graph.graph.node] == ["Add", "Log"]
    found = cpu_session(graph.SerializeToString()).run(None, {INPUT: np.zeros(2, np.float32)})[0]
    np.testing.assert_allclose(found, np.log([1e-10, 1e-10]), rtol=1e-5)


def test_nothing_of_this_machine_is_in_the_graph(data, tmp_path):
    bundle = export(made(Net), PREPROCESS, OWN, data, tmp_path / "onnx-fp32")
    graph = onnx.load(bundle.model_path).graph
    assert {entry.key for node in graph.node for entry in node.metadata_props} == {MODULES}
    assert str(__file__).encode() not in bundle.model_path.read_bytes()


def test_the_same_is_kept_and_other_weights_are_not(data, tmp_path):
    out = tmp_path / "onnx-fp32"
    first = export(made(Net), PREPROCESS, OWN, data, out)
    assert export(made(Net), PREPROCESS, OWN, data, out).digest == first.digest
    other = made(Net)
    nn.init.ones_(other.head.bias)
    assert export(other, PREPROCESS, OWN, data, out).digest != first.digest


def test_a_batch_that_is_a_number_is_told_with_its_line(data, tmp_path):
    with pytest.raises(InputError) as error:
        export(made(Counts), PREPROCESS, OWN, data, tmp_path / "out")
    assert "Counts: does not take 1 picture at once; the Add " in str(error.value)
    assert "(test_module.py, line " in str(error.value)
    assert "torch.ones(len(x), 8))" in str(error.value)
    assert "Write x.shape[0] or -1 there" in str(error.value)
    with pytest.raises(InputError, match=r"fails on float32 pictures \[7, 3, 32, 32\].*line \d+: return self\.head"):
        export(made(Numbered), PREPROCESS, OWN, data, tmp_path / "out")
    with pytest.raises(InputError, match=r"Branches: one picture at a time its logits differ by"):
        export(made(Branches), PREPROCESS, OWN, data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Two, "forward takes x, scale; expected the pictures alone: wrap it in a module"),
        (Several, r"gives tuple; expected one tensor of scores"),
        (Maps, r"the output scores has the shape \[12, 8, 16, 16\] for 12 pictures; expected \[pictures, labels\]"),
        (Looks, r"Looks cannot be exported with a free batch size: GuardOnData"),
        (Probabilities, r"all answers are within 0\.\.1.* say --activation"),
        (Logarithms, r"are logarithms of probabilities that add up to 1, .* say --activation none"),
    ],
)
def test_what_is_no_tagger_is_refused_in_one_line(kind, said, data, tmp_path):
    with pytest.raises(InputError, match=said) as error:
        export(made(kind), PREPROCESS, OWN, data, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_labels_must_be_those_of_the_outputs(data, tmp_path):
    with pytest.raises(InputError, match="has 6 columns for 5 labels"):
        export(made(Net), PREPROCESS, data.labels.names, data, tmp_path / "out")
    with pytest.raises(InputError, match=r"the model Net lacks .* of the labels of the data set"):
        export(made(Net), PREPROCESS, ("a", "b", "c", "d", "e", "f"), data, tmp_path / "out")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"module": len}, "module is builtin_function_or_method; expected a torch.nn.Module"),
        ({"preprocess": None}, "preprocess is None; expected a Preprocess, such as Preprocess(size=224)"),
        ({"labels": "bars,other"}, "labels is the text 'bars,other'; expected a list of names"),
        ({"colors": "BGR"}, "colors is 'BGR'; expected 'rgb' or 'bgr'"),
        ({"activation": "Sigmoid"}, "activation is 'Sigmoid'; expected None or 'none' or 'sigmoid' or 'softmax'"),
    ],
)
def test_what_is_another_kind_of_argument_or_an_unknown_word_is_refused(given, said, data, tmp_path):
    sound = {"module": nn.Identity(), "preprocess": PREPROCESS, "labels": OWN, "data": data, "out": tmp_path / "out"}
    with pytest.raises(InputError) as error:
        export(**(sound | given))
    assert str(error.value) == said


def test_probabilities_are_undone(data, tmp_path):
    whole = nn.Sequential(made(Net), nn.Sigmoid())
    bundle = export(whole, PREPROCESS, OWN, data, tmp_path / "p", activation="sigmoid", name="mine")
    logits = Reference.load(export(made(Net), PREPROCESS, OWN, data, tmp_path / "l").path / REFERENCE).logits
    np.testing.assert_allclose(Reference.load(bundle.path / REFERENCE).logits, logits, atol=1e-4)
    assert bundle.manifest.facts.backbone == "adopted from mine"
