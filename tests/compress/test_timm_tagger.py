"""A finished timm model's checkpoint becomes a teacher: its own classifier, whatever wrapped it, and no guess."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from edgepress.compress.checkpoint import load_model
from edgepress.compress.timm_tagger import load_timm_tagger, read_checkpoint
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace

NAME = "test_efficientnet"
OWN = LabelSpace(("bars", "other", "circle", "blue", "green", "red"))


@pytest.fixture(scope="module")
def theirs() -> torch.nn.Module:
    torch.manual_seed(3)
    return timm.create_model(NAME, pretrained=False, num_classes=len(OWN)).eval()


def answers(theirs: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    cfg = timm.get_pretrained_cfg(NAME)
    with torch.no_grad():
        return theirs(((images / 255 - torch.tensor(cfg.mean)) / torch.tensor(cfg.std)).permute(0, 3, 1, 2))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def wrapped(state: dict[str, torch.Tensor], how: str) -> dict:
    if how == "plain":
        return state
    if how == "train.py":  # timm's own script: the average beside the last weights
        other = {name: torch.zeros_like(value) for name, value in state.items()}
        return {"epoch": 3, "arch": NAME, "state_dict": other, "state_dict_ema": state}
    if how == "lightning":
        return {"state_dict": {f"model.{name}": value for name, value in state.items()}}
    return {"model": {f"module._orig_mod.{name}": value for name, value in state.items()}}


FORMS = [*((how, ".pth") for how in ("plain", "train.py", "lightning", "compiled")), ("plain", ".safetensors")]


@pytest.mark.parametrize(("how", "suffix"), FORMS)
def test_it_answers_as_timm_s_own_model(theirs, images, tmp_path, how, suffix):
    content, file = wrapped(theirs.state_dict(), how), tmp_path / f"own{suffix}"
    (torch.save if suffix == ".pth" else save_file)(content, file)
    model = load_timm_tagger(file, NAME, OWN, size=64)
    with torch.no_grad():
        torch.testing.assert_close(model.logits(images), answers(theirs, images), atol=1e-4, rtol=1e-4)


def test_a_head_that_is_more_than_a_mean_and_a_linear_layer_is_refused(tmp_path):
    whole = timm.create_model("test_vit", pretrained=False, num_classes=len(OWN))  # reads its class token
    torch.save(whole.state_dict(), tmp_path / "own.pth")
    with pytest.raises(InputError, match=r"test_vit: its head is more than a mean .* export it to ONNX and adopt that"):
        load_timm_tagger(tmp_path / "own.pth", "test_vit", OWN)


def test_what_does_not_fit_is_counted_and_named(theirs, tmp_path):
    state = dict(theirs.state_dict())
    whole = len(state)
    del state["conv_stem.weight"]
    torch.save(state, tmp_path / "own.pth")
    with pytest.raises(InputError, match=rf"{whole - 1} of {whole} tensors fit .*not conv_stem\.weight \(missing\)"):
        load_timm_tagger(tmp_path / "own.pth", NAME, OWN)
    torch.save(theirs.state_dict(), tmp_path / "own.pth")
    with pytest.raises(InputError, match=r"with 2 outputs; not classifier\.weight \(\[6, \d+\] instead of"):
        load_timm_tagger(tmp_path / "own.pth", NAME, LabelSpace(("a", "b")))


class Trap:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


def test_a_checkpoint_with_code_is_refused_and_not_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Path("own.pth").open("wb") as file:
        torch.save({"state_dict": {}, "config": Trap()}, file, pickle_module=pickle)
    with pytest.raises(InputError, match="holds more than tensors"):
        read_checkpoint(Path("own.pth"))
    assert not Path("executed").exists()
    Path("text.pth").write_text("no checkpoint")
    with pytest.raises(InputError, match=r"text\.pth"):
        read_checkpoint(Path("text.pth"))


def test_the_verb_keeps_the_data_set_s_labels_alone(theirs, images, tiny_data, tmp_path, edgepress):
    torch.save(theirs.state_dict(), tmp_path / "own.pth")
    (tmp_path / "labels.txt").write_text("\n".join(OWN.names))
    out = tmp_path / "teacher"
    given = ("adopt", tmp_path / "own.pth", "--data", tiny_data, "--out", out, "--size", "64")
    named, of = ("--labels", tmp_path / "labels.txt"), ("--backbone", NAME)
    done = edgepress(*given, *named, *of)
    assert done.code == 0, done.err
    assert "own.pth: mAP " in done.err
    assert "if it is stated differently, --colors bgr: " in done.err
    made = Bundle.open(out)
    assert (made.manifest.kind, made.manifest.role) == ("torch", "teacher")
    columns = [OWN.index(name) for name in made.labels]
    with torch.no_grad():
        found = load_model(out).logits(images).numpy()
    np.testing.assert_allclose(found, answers(theirs, images).numpy()[:, columns], atol=1e-4)
    for more, said in (
        ([*named, *of, "--layout", "nchw"], "--layout is for ONNX files"),
        (of, "say --labels FILE"),
        (named, "say --backbone"),
    ):
        refused = edgepress(*given, *more)
        assert (refused.code, refused.err.count("\n")) == (2, 1)
        assert said in refused.err
