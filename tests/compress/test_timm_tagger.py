"""A finished timm model's checkpoint becomes a teacher: its own classifier, whatever wrapped it, and no guess."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from edgepress.compress.checkpoint import load_model
from edgepress.compress.finished import FinishedModule, Stated
from edgepress.compress.models import MultiLabelModel
from edgepress.compress.timm_tagger import load_timm_folder, load_timm_tagger
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
    model = load_timm_tagger(file, NAME, OWN, Stated(size=64))
    assert isinstance(model, MultiLabelModel)
    with torch.no_grad():
        torch.testing.assert_close(model.logits(images), answers(theirs, images), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("backbone", "stated"),
    [
        ("test_vit", Stated()),  # reads its class token
        (NAME, Stated(colors="bgr", size=64)),
        (NAME, Stated(activation="sigmoid", size=64)),
    ],
)
def test_what_is_more_than_a_mean_and_a_linear_layer_is_kept_whole(backbone, stated, tmp_path, caplog):
    whole = timm.create_model(backbone, pretrained=False, num_classes=len(OWN)).eval()
    torch.save(whole.state_dict(), tmp_path / "own.pth")
    with caplog.at_level("INFO", logger="edgepress"):
        found = load_timm_tagger(tmp_path / "own.pth", backbone, OWN, stated)
    assert "own.pth: is exported whole, because" in caplog.text
    assert isinstance(found, FinishedModule)
    assert (found.colors, found.activation) == (stated.colors or "rgb", stated.activation)
    pixels = torch.rand(2, 3, found.preprocess.size, found.preprocess.size)
    with torch.no_grad():
        assert torch.equal(found.module(pixels), whole(pixels))


def test_what_does_not_fit_is_counted_and_named(theirs, tmp_path):
    state = dict(theirs.state_dict())
    whole = sum("num_batches_tracked" not in name for name in state)
    del state["conv_stem.weight"]
    torch.save(state, tmp_path / "own.pth")
    with pytest.raises(InputError, match=rf"{whole - 1} of {whole} tensors fit .*not conv_stem\.weight \(missing\)"):
        load_timm_tagger(tmp_path / "own.pth", NAME, OWN, Stated())
    torch.save(theirs.state_dict(), tmp_path / "own.pth")
    with pytest.raises(InputError, match=r"its classifier classifier has 6 outputs for 2 labels"):
        load_timm_tagger(tmp_path / "own.pth", NAME, LabelSpace(("a", "b")), Stated())


def hub_folder(root: Path, theirs: torch.nn.Module, **told) -> Path:
    from timm.models._hub import save_for_hf

    save_for_hf(theirs, root, safe_serialization=True)
    config = json.loads((root / "config.json").read_text())
    config["pretrained_cfg"] |= {"input_size": [3, 64, 64], "crop_pct": 0.9, "mean": [0.4] * 3, "std": [0.2] * 3} | told
    (root / "config.json").write_text(json.dumps(config))
    return root


def test_a_folder_that_timm_wrote_for_a_hub_says_itself_what_it_is(theirs, images, tmp_path):
    folder = hub_folder(tmp_path / "own", theirs, label_names=list(OWN.names))
    model = load_timm_folder(folder, None, Stated())
    assert isinstance(model, MultiLabelModel)
    assert model.labels == OWN
    assert (model.preprocess.resize, model.preprocess.crop_fraction, model.preprocess.size) == ("crop", 0.9, 64)
    with torch.no_grad():
        expected = theirs(((images / 255 - 0.4) / 0.2).permute(0, 3, 1, 2))
        torch.testing.assert_close(model.logits(images), expected, atol=1e-4, rtol=1e-4)
    assert load_timm_folder(folder, None, Stated(resize="squash", size=96)).preprocess.seen == "squash"


def test_names_that_are_no_labels_are_told_with_their_place(theirs, tmp_path):
    folder = hub_folder(tmp_path / "own", theirs, label_names=[OWN.names[0], *OWN.names[:-1]])
    said = rf"config.json: label_names: label '{OWN.names[0]}' occurs twice .*; say --labels FILE"
    with pytest.raises(InputError, match=said):
        load_timm_folder(folder, None, Stated())


def test_a_folder_of_timm_that_lacks_something_is_told(theirs, tmp_path):
    folder = hub_folder(tmp_path / "own", theirs, crop_mode="border")
    with pytest.raises(InputError, match="crop_mode is 'border', which is none of ours: say --resize"):
        load_timm_folder(folder, OWN, Stated())
    with pytest.raises(InputError, match="does not name its outputs: say --labels FILE"):
        load_timm_folder(folder, None, Stated(resize="crop"))
    (folder / "config.json").write_text('{"architecture": "resnet18"}')
    with pytest.raises(InputError, match=r"no configuration that timm wrote \(KeyError: 'pretrained_cfg'\)"):
        load_timm_folder(folder, OWN, Stated())


def test_the_verb_keeps_the_data_set_s_labels_alone(theirs, images, tiny_data, tmp_path, edgepress):
    torch.save(theirs.state_dict(), tmp_path / "own.pth")
    (tmp_path / "labels.txt").write_text("\n".join(OWN.names))
    out = tmp_path / "teacher"
    given = ("adopt", tmp_path / "own.pth", "--data", tiny_data, "--out", out, "--size", "64")
    named, of = ("--labels", tmp_path / "labels.txt"), ("--backbone", NAME)
    folder = hub_folder(tmp_path / "hub", theirs, label_names=list(OWN.names))
    hub = edgepress("adopt", folder, "--data", tiny_data, "--out", tmp_path / "of-hub")
    assert hub.code == 0, hub.err
    assert Bundle.open(tmp_path / "of-hub").preprocess.crop_fraction == 0.9
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
        ([*named, *of, "--layout", "nchw"], "--layout is for ONNX files; "),
        (of, "say --labels FILE"),
        (named, "say --backbone"),
    ):
        refused = edgepress(*given, *more)
        assert (refused.code, refused.err.count("\n")) == (2, 1)
        assert said in refused.err
