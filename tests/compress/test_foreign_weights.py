"""Checkpoints of other programs: whatever wraps the names is taken off, and nothing in them is executed."""

from __future__ import annotations

import logging
import pickle
import struct
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from torch import nn

from edgepress.compress.foreign_weights import fitted, read_checkpoint
from edgepress.multilabel.errors import InputError


def net(head: nn.Module | None = None) -> nn.Module:
    layers = nn.ModuleDict({"stem": nn.Conv2d(3, 4, 3), "norm": nn.BatchNorm2d(4), "fc": head or nn.Linear(4, 5)})
    return layers.eval()


def fit(state: dict[str, torch.Tensor], classifier: str = "fc") -> dict[str, torch.Tensor]:
    return fitted(Path("own.pth"), state, net().state_dict(), "the net", classifier)


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "model.module._orig_mod.", "net.backbone.", "encoder."])
def test_any_prefix_is_taken_off(prefix, caplog):
    state = net().state_dict()
    with caplog.at_level(logging.INFO, logger="edgepress"):
        found = fit({f"{prefix}{name}": value for name, value in state.items()})
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)
    assert (repr(prefix) in caplog.text) == bool(prefix)


def test_what_is_beside_the_model_is_not_used_and_told(caplog):
    """A Lightning module holds its loss and its metrics beside the model."""
    state = {f"model.{name}": value for name, value in net().state_dict().items()}
    assert len(fit(state | {"criterion.pos_weight": torch.ones(5)})) == len(net().state_dict())
    assert "1 tensors are not used, such as criterion.pos_weight" in caplog.text


@pytest.mark.parametrize(
    "head",
    [
        nn.Sequential(nn.Dropout(), nn.Linear(4, 5)),
        nn.Sequential(nn.Linear(4, 5), nn.Sigmoid()),
        nn.Sequential(nn.Sequential(nn.Dropout(), nn.Linear(4, 5)), nn.Identity()),
    ],
)
def test_a_classifier_in_a_sequence_is_the_classifier(head, caplog):
    theirs = net(head).state_dict()
    with caplog.at_level(logging.INFO, logger="edgepress"):
        found = fit(theirs)
    name = next(name for name in theirs if name.startswith("fc") and name.endswith("weight"))
    assert torch.equal(found["fc.weight"], theirs[name])
    assert "is the classifier; what has no weights beside it is left out" in caplog.text


def test_a_sequence_around_the_own_classifier_is_taken_off_as_well():
    wanted = net(nn.Sequential(nn.Dropout(), nn.Linear(4, 5))).state_dict()
    found = fitted(Path("own.pth"), net().state_dict(), wanted, "the net", "fc.1")
    assert found.keys() == wanted.keys()


def test_a_classifier_of_several_layers_is_refused():
    theirs = net(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 5))).state_dict()
    with pytest.raises(InputError, match=r"6 of 8 tensors fit the net; not fc\.weight \(missing\), fc\.bias \(missi"):
        fit(theirs)


def test_what_does_not_fit_is_counted_and_three_are_named():
    state = net().state_dict()
    for name in ("stem.weight", "norm.weight", "norm.bias", "fc.bias"):
        del state[name]
    with pytest.raises(InputError, match=r"own\.pth: 4 of 8 .*not stem\.weight \(missing\), norm\.weight .* and more"):
        fit(state)
    state = net().state_dict() | {"stem.weight": torch.zeros(4, 3, 1, 1)}
    with pytest.raises(InputError, match=r"7 of 8 .*stem\.weight \(\[4, 3, 1, 1\] instead of \[4, 3, 3, 3\]\)"):
        fit(state)


def test_another_number_of_outputs_is_told_as_such():
    with pytest.raises(InputError, match="its classifier fc has 80 outputs for 5 labels; expected one name for each"):
        fit(net(nn.Linear(4, 80)).state_dict())


def test_a_counter_that_old_checkpoints_lack_is_not_missed():
    state = {name: value for name, value in net().state_dict().items() if "tracked" not in name}
    assert "norm.num_batches_tracked" in fit(state)


def test_half_precision_becomes_float():
    state = {name: value.half() if value.is_floating_point() else value for name, value in net().state_dict().items()}
    assert fit(state)["fc.weight"].dtype == torch.float32


@pytest.mark.parametrize("key", ["state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model", None])
def test_weights_within_a_checkpoint_are_found(key, tmp_path):
    state = dict(net().state_dict())
    torch.save({key: state, "epoch": 3, "best": 0.5} if key else state, tmp_path / "own.pth")
    found = read_checkpoint(tmp_path / "own.pth")
    assert found.keys() == state.keys()


class Trap:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


@pytest.mark.parametrize("held", [Trap(), Namespace(lr=0.1), net()])
def test_a_checkpoint_with_code_is_refused_and_not_executed(held, tmp_path, monkeypatch):
    """Lightning keeps hyper-parameters as a Namespace, and torch.save(model) keeps the whole module."""
    monkeypatch.chdir(tmp_path)
    with Path("own.ckpt").open("wb") as file:
        torch.save({"state_dict": {}, "hyper_parameters": held}, file, pickle_module=pickle)
    with pytest.raises(
        InputError, match=r"holds more than tensors \([\w.]+\), .* torch\.save\(model\.state_dict\(\), FILE\)"
    ):
        read_checkpoint(Path("own.ckpt"))
    assert not Path("executed").exists()


def test_torchscript_is_named(tmp_path):
    torch.jit.trace(net()["stem"], torch.zeros(1, 3, 8, 8)).save(tmp_path / "own.pt")
    with pytest.raises(InputError, match=r"a TorchScript program.*torch\.onnx\.export\(torch\.jit\.load\(FILE\)"):
        read_checkpoint(tmp_path / "own.pt")


NO_DIRECTORY = bytes(50) + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 3, 3, 46, 4, 0)
"""The end of a zip whose list of files is gone."""


@pytest.mark.parametrize(
    "content", [b"no checkpoint", b"", b"PK\x03\x04 half a zip", NO_DIRECTORY, b"\x80\x04\x95", b"\x80garbage"]
)
def test_what_is_no_checkpoint_is_named(content, tmp_path):
    (tmp_path / "own.pth").write_bytes(content)
    with pytest.raises(InputError, match=r"own\.pth: ") as error:
        read_checkpoint(tmp_path / "own.pth")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("held", "kind"),
    [
        (lambda: torch.eye(3).to_sparse(), "sparse"),
        (lambda: torch.zeros(3, dtype=torch.complex64), "complex"),
        (lambda: torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8), "quantised"),
    ],
)
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_tensors_that_are_no_plain_numbers_are_refused(held, kind, tmp_path):
    torch.save({"fc.weight": held()}, tmp_path / "own.pth")
    with pytest.raises(InputError, match=rf"own\.pth: fc\.weight is {kind}; expected tensors of plain numbers"):
        read_checkpoint(tmp_path / "own.pth")


def test_a_list_of_tensors_has_no_names(tmp_path):
    torch.save([torch.zeros(3)], tmp_path / "own.pth")
    with pytest.raises(InputError, match="holds no tensors by name"):
        read_checkpoint(tmp_path / "own.pth")


@pytest.mark.parametrize(
    "held",
    [
        {"ema": "module.", "model": ""},
        {"model_state": ""},
        {"model": {"state_dict": ""}, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}},
        {"checkpoint": {"swa_state_dict": "", "state_dict": "other."}},
        {"params": "", "params_ema": ""},
    ],
)
def test_weights_are_found_wherever_a_training_script_keeps_them(held, tmp_path, caplog):
    """The moving average comes first, and what is left out beside it is told."""

    def filled(what):
        if isinstance(what, str):
            return {what + name: value for name, value in net().state_dict().items()}
        return {key: filled(inner) for key, inner in what.items()} if isinstance(what, dict) else what

    torch.save(filled(held), tmp_path / "own.pth")
    with caplog.at_level("INFO", logger="edgepress"):
        found = read_checkpoint(tmp_path / "own.pth")
    assert {name.removeprefix("module.") for name in found} == set(net().state_dict())
    assert ("module.fc.weight" in found) == ("ema" in held)
    assert ("and not its" in caplog.text) == any(key in held for key in ("ema", "checkpoint", "params"))


def test_weights_of_several_models_are_not_chosen_by_chance(tmp_path):
    state = net().state_dict()
    torch.save({"student": state, "teacher": state}, tmp_path / "own.pth")
    with pytest.raises(InputError, match=r"several models \('student', 'teacher'\): save .*checkpoint\['student'\]"):
        read_checkpoint(tmp_path / "own.pth")
    both = {f"{prefix}.{name}": value for prefix in ("one", "two") for name, value in state.items()}
    with pytest.raises(InputError, match=r"several models, with the prefixes 'one.' and 'two.'"):
        fit(both)
