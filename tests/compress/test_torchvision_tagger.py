"""A torchvision model by name and a checkpoint: the classifier that it has, and torchvision's own preprocessing."""

from __future__ import annotations

import pytest
import torch
import torchvision

from edgepress.compress.finished import Stated
from edgepress.compress.torchvision_tagger import load_torchvision_tagger
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace

OWN = LabelSpace(("bars", "other", "circle", "blue", "green", "red"))


def theirs(name: str = "shufflenet_v2_x0_5") -> torch.nn.Module:
    torch.manual_seed(0)
    return torchvision.models.get_model(name, weights=None, num_classes=len(OWN)).eval()


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "mobilenet_v3_small", "squeezenet1_1"])
def test_it_answers_as_torchvision_s_own_model(name, tmp_path):
    own = theirs(name)
    torch.save({"model": {f"module.{key}": value for key, value in own.state_dict().items()}}, tmp_path / "own.pth")
    found = load_torchvision_tagger(tmp_path / "own.pth", name, OWN, Stated(size=64))
    pictures = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(found.module(pictures), own(pictures))
    assert found.preprocess.size == 64
    assert found.preprocess.mean == (0.485, 0.456, 0.406)
    assert found.labels == OWN


def test_a_head_that_was_replaced_by_a_sequence_is_taken(tmp_path):
    own = theirs()
    own.fc = torch.nn.Sequential(torch.nn.Dropout(), own.fc)
    torch.save(own.state_dict(), tmp_path / "own.pth")
    found = load_torchvision_tagger(tmp_path / "own.pth", "shufflenet_v2_x0_5", OWN, Stated())
    pictures = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(found.module(pictures), own.eval()(pictures))


def test_what_is_unknown_or_does_not_fit_is_told(tmp_path):
    torch.save(theirs().state_dict(), tmp_path / "own.pth")
    file = tmp_path / "own.pth"
    with pytest.raises(InputError, match=r"no classification model 'resnet19'; expected .* did you mean 'resnet1\d+'"):
        load_torchvision_tagger(file, "resnet19", OWN, Stated())
    with pytest.raises(InputError, match="googlenet: with ImageNet weights it normalises its input once more"):
        load_torchvision_tagger(file, "googlenet", OWN, Stated())
    with pytest.raises(InputError, match=r"1 of \d+ tensors fit torchvision's resnet18; not conv1\.weight \(missing\)"):
        load_torchvision_tagger(file, "resnet18", OWN, Stated())
    with pytest.raises(InputError, match="its classifier fc has 6 outputs for 2 labels"):
        load_torchvision_tagger(file, "shufflenet_v2_x0_5", LabelSpace(("a", "b")), Stated())
