"""The same network is traced once, and another one is traced anew, whatever makes it another."""

from __future__ import annotations

import copy
import inspect
import re

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; it exports")

from torch.nn.modules.linear import NonDynamicallyQuantizableLinear  # noqa: E402

from edgepress.compress.config import ModelConfig  # noqa: E402
from edgepress.compress.models import make_model  # noqa: E402
from edgepress.deploy.build.traced import traced  # noqa: E402
from edgepress.multilabel.labels import LabelSpace  # noqa: E402
from tests.exports import exported_once, identity  # noqa: E402


class OfATest(torch.nn.Linear):
    def forward(self, pixels):
        return super().forward(pixels) - 1


def linear(kind: type[torch.nn.Linear] = torch.nn.Linear) -> torch.nn.Linear:
    torch.manual_seed(0)
    made = kind(3, 3)
    made.register_buffer("offset", torch.zeros(3), persistent=False)
    return made


def told(module, shape=(2, 3), **named) -> str | None:
    return identity(module, (torch.zeros(shape),), {"dynamo": True, **named})


def test_the_second_export_is_the_first_one_s(tmp_path):
    pixels = torch.zeros(2, 3)
    with exported_once(tmp_path):
        first, second = (traced(linear().eval(), pixels, ["y"], "linear") for _ in range(2))
        (file,) = tmp_path.iterdir()
        another = traced(linear(OfATest).eval(), pixels, ["y"], "another")
    assert first == second != another
    assert first is not second
    assert list(tmp_path.iterdir()) == [file]


def settled(seed: int) -> torch.nn.Module:
    """Of what the exporter's optimiser computes with the weights: a batch norm goes into the convolution before it."""
    torch.manual_seed(seed)
    norm = torch.nn.BatchNorm2d(4)
    torch.nn.init.uniform_(norm.running_mean)
    layers = (torch.nn.Conv2d(3, 4, 3), norm, torch.nn.SiLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    return torch.nn.Sequential(*layers, torch.nn.Linear(4, 2)).eval()


def renumbered(graph) -> str:
    """The graph with the names that the exporter counts, counted in the order of the graph."""
    seen: dict[str, str] = {}
    return re.sub(r'"(val|node_\w+)_\d+"', lambda name: seen.setdefault(name[0], f"{name[1]} {len(seen)}"), str(graph))


def test_other_weights_get_the_export_that_would_be_made_of_them(tmp_path, monkeypatch):
    pixels = torch.zeros(2, 3, 8, 8)
    monkeypatch.setattr(torch.onnx, "export", inspect.unwrap(torch.onnx.export))
    expected = traced(settled(1), pixels, ["y"], "net")
    with exported_once(tmp_path):
        first, second = (traced(settled(seed), pixels, ["y"], "net") for seed in (0, 1))
    assert renumbered(second) == renumbered(expected) != renumbered(first)
    assert len(list(tmp_path.iterdir())) == 1


def test_each_difference_makes_another_network():
    models = [linear() for _ in range(3)]
    models[1].factor = 3.0
    models[2].eval()
    found = [told(model) for model in (*models, linear(NonDynamicallyQuantizableLinear))]
    found += [told(linear(), (3, 3)), told(linear(), opset_version=19)]
    assert None not in found
    assert len(set(found)) == len(found)
    assert told(linear()) == told(copy.deepcopy(models[0])) == found[0]


def test_what_cannot_be_told_is_exported_anew(monkeypatch):
    model = linear()
    model.forward = lambda pixels: pixels
    assert told(model) is told(linear(OfATest)) is None
    assert identity(linear(), (torch.zeros(2, 3),), {"dynamo": False}) is None
    assert identity(linear(), (2,), {"dynamo": True}) is None
    monkeypatch.setattr(torch.nn.Linear, "forward", OfATest.forward)
    assert told(linear()) is None


def test_a_student_can_be_told():
    config = ModelConfig(backbone="test_efficientnet", width=32, size=64, weights="none")
    model, _ = make_model(config, LabelSpace(("a", "b")))
    assert told(model, (2, 64, 64, 3)) is not None
