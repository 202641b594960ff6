"""Models and training states on disk: what comes back is what was saved, and nothing is executed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from edgepress.compress.checkpoint import (
    WEIGHTS,
    architecture,
    load_model,
    load_state,
    load_weights,
    save_model,
    save_state,
)
from edgepress.compress.config import ModelConfig, TeachConfig
from edgepress.compress.models import MultiLabelModel, make_model
from edgepress.multilabel.bundle import Bundle, write_bundle
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace

LABELS = LabelSpace(("red", "grün", "two words"))


def model_of(head: str = "ml_decoder", seed: int = 0) -> MultiLabelModel:
    torch.manual_seed(seed)
    config = ModelConfig(backbone="test_efficientnet", head=head, width=32, size=32, weights="none")
    model = make_model(config, LABELS)[0]
    with torch.no_grad():
        model(pictures())  # in training mode: batch statistics that are not the initial ones
    return model.eval()


def pictures() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8, generator=generator)


def bundle_of(model: MultiLabelModel, folder: Path) -> Bundle:
    with write_bundle(
        folder,
        kind="torch",
        precision="fp32",
        model=WEIGHTS,
        labels=model.labels.names,
        preprocess=model.preprocess,
        architecture=architecture(model),
    ) as inside:
        save_model(model, inside / WEIGHTS)
    return Bundle.open(folder)


def with_metadata(path: Path, state: dict[str, torch.Tensor], text: str) -> Path:
    save_file(state, path, metadata={"edgepress": text})
    return path


@pytest.mark.parametrize("head", ["ml_decoder", "linear"])
@pytest.mark.parametrize("source", ["file", "bundle"])
def test_round_trip_gives_identical_logits(tmp_path, head, source):
    model = model_of(head)
    if source == "file":
        path = tmp_path / "student.safetensors"
        save_model(model, path)
    else:
        path = bundle_of(model, tmp_path / "student").path
    loaded = load_model(path)
    assert not loaded.training
    assert loaded.labels == model.labels
    assert loaded.preprocess == model.preprocess
    assert architecture(loaded) == architecture(model)
    with torch.no_grad():
        for mine, other in zip(loaded(pictures()), model(pictures()), strict=True):
            assert torch.equal(mine, other)


def test_the_same_weights_are_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        save_model(model_of(), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_architecture_holds_the_model_s_settings_and_none_of_training():
    config = TeachConfig(backbone="test_efficientnet", width=32, size=32, weights="none", epochs=3, lr=0.1)
    model, _ = make_model(config, LABELS)
    given = {name for name in ModelConfig.model_fields if getattr(config, name) is not None}
    assert (
        architecture(model).model_dump().keys()
        == given
        == set(ModelConfig.model_fields) - {"query_groups", "bottleneck", "stages"}
    )


def test_loading_draws_no_pretrained_weights(tmp_path):
    """A saved model's backbone setting may be `auto`; offline, loading it must work all the same."""
    config = ModelConfig(backbone="test_efficientnet", width=32, size=32)
    assert config.weights == "auto"
    model = MultiLabelModel(config, LABELS, model_of().preprocess)
    save_model(model, tmp_path / "m.safetensors")
    load_model(tmp_path / "m.safetensors")


def test_other_weights_may_replace_a_bundle_s(tmp_path):
    first, second = model_of(seed=0), model_of(seed=1)
    bundle = bundle_of(first, tmp_path / "student")
    save_model(second, tmp_path / "other.safetensors")
    loaded = load_model(bundle.path, tmp_path / "other.safetensors")
    with torch.no_grad():
        assert torch.equal(loaded.logits(pictures()), second.logits(pictures()))


def test_a_missing_an_unknown_and_a_misshapen_tensor_are_named(tmp_path):
    state = {key: tensor.clone() for key, tensor in model_of().state_dict().items()}
    shape = list(state["head.weight"].shape)
    cases = {
        "lacks": ({k: v for k, v in state.items() if k != "head.bias"}, r"lacks 'head\.bias'"),
        "unknown": ({**state, "extra": torch.zeros(1)}, r"unknown tensor 'extra'"),
        "shape": ({**state, "head.weight": torch.zeros(1, 2)}, r"head\.weight is \[1, 2\]; expected"),
    }
    for name, (tensors, expected) in cases.items():
        path = tmp_path / f"{name}.safetensors"
        save_file(tensors, path)
        model = model_of(seed=5)
        before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        with pytest.raises(InputError, match=expected) as caught:
            load_weights(model, path)
        assert str(path) in str(caught.value)
        assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert str(shape) in str(caught.value)


def test_weights_of_another_number_of_labels_are_refused(tmp_path):
    config = ModelConfig(backbone="test_efficientnet", width=32, size=32, weights="none")
    other, _ = make_model(config, LabelSpace(("a", "b")))
    save_model(other, tmp_path / "two.safetensors")
    with pytest.raises(InputError, match=r"head\.\w+ is \[2"):
        load_weights(model_of(), tmp_path / "two.safetensors")


def test_a_file_without_a_description_is_refused(tmp_path):
    save_file(model_of().state_dict(), tmp_path / "bare.safetensors")
    with pytest.raises(InputError, match=r"bare\.safetensors: weights without a description"):
        load_model(tmp_path / "bare.safetensors")


def test_a_damaged_description_is_refused(tmp_path):
    state = model_of().state_dict()
    whole = {"architecture": {"backbone": "test_efficientnet"}, "labels": ["a"], "preprocess": {"size": 32}}
    for number, text in enumerate(("{", "[]", "null", json.dumps({"labels": ["a"]}))):
        path = with_metadata(tmp_path / f"{number}.safetensors", state, text)
        with pytest.raises(InputError, match=rf"{number}\.safetensors"):
            load_model(path)
    for number, (key, value) in enumerate(
        [("architecture", {"backbone": "test_efficientnet", "evil": 1}), ("architecture", {"size": 3}), ("labels", [])]
    ):
        path = with_metadata(tmp_path / f"v{number}.safetensors", state, json.dumps({**whole, key: value}))
        with pytest.raises(InputError):
            load_model(path)


def test_the_description_names_what_rebuilds_the_model(tmp_path):
    model = model_of()
    save_model(model, tmp_path / "m.safetensors")
    with safe_open(tmp_path / "m.safetensors", framework="pt") as file:
        description = json.loads(file.metadata()["edgepress"])
    assert description["labels"] == list(LABELS.names)
    assert description["architecture"]["backbone"] == "test_efficientnet"
    assert description["preprocess"]["size"] == 32
    assert load_file(tmp_path / "m.safetensors").keys() == model.state_dict().keys()


def test_other_things_are_no_model(tmp_path):
    (tmp_path / "note.safetensors").write_text("not a model")
    for source in (tmp_path / "nowhere", tmp_path / "note.safetensors", tmp_path):
        with pytest.raises(InputError):
            load_model(source)


def test_a_changed_byte_in_a_bundle_is_refused(tmp_path):
    bundle = bundle_of(model_of(), tmp_path / "student")
    data = bytearray(bundle.model_path.read_bytes())
    data[-1] ^= 1
    bundle.model_path.write_bytes(bytes(data))
    with pytest.raises(InputError, match="changed since the bundle was made"):
        load_model(bundle.path)


def test_a_state_comes_back_for_the_same_inputs_only(tmp_path):
    path = tmp_path / "state.pt"
    assert load_state(path, "abc") is None
    state = {"inputs": "abc", "model": {"w": torch.arange(3.0)}, "history": [{"bce": 0.5}], "step": 7}
    save_state(path, state)
    loaded = load_state(path, "abc")
    assert loaded is not None
    assert torch.equal(loaded["model"]["w"], state["model"]["w"])
    assert loaded["history"] == state["history"]
    assert loaded["step"] == 7
    assert load_state(path, "abd") is None
    assert list(tmp_path.iterdir()) == [path]


class _Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_malicious_state_is_not_executed(tmp_path):
    trap = tmp_path / "executed"
    torch.save({"inputs": "abc", "model": _Trap(trap)}, tmp_path / "state.pt")
    with pytest.raises(Exception, match=r"(?i)weights.?only"):
        load_state(tmp_path / "state.pt", "abc")
    assert not trap.exists()
    torch.load(tmp_path / "state.pt", weights_only=False)  # the trap is a real one
    assert trap.exists()
