"""A model of open_clip with a checkpoint tags with any labels. Its weights are random: only the plumbing is tested."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

open_clip = pytest.importorskip("open_clip", reason="open_clip is not installed (edgepress[clip])")
from edgepress.compress.finished import Stated  # noqa: E402
from edgepress.compress.image_text import prompted  # noqa: E402
from edgepress.compress.open_clip_pair import open_clip_file, open_clip_folder  # noqa: E402
from edgepress.multilabel.errors import InputError  # noqa: E402
from edgepress.multilabel.labels import LabelSpace  # noqa: E402

LABELS = LabelSpace(("red", "bars"))
CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def name(tmp_path_factory) -> str:
    """A model that is small enough for a test, among those that open_clip knows by name."""
    file = tmp_path_factory.mktemp("configs") / "ViT-tiny-test.json"
    file.write_text(json.dumps(CONFIG))
    open_clip.add_model_config(file.parent)
    return file.stem


def made(name: str, **more) -> torch.nn.Module:
    torch.manual_seed(0)
    return open_clip.create_model(name, **more).eval()


def expected(own: torch.nn.Module, pictures: torch.Tensor) -> torch.Tensor:
    texts = open_clip.SimpleTokenizer()(["a photo of a red", "a photo of a bars"])
    with torch.no_grad():
        return own.get_logits(pictures, texts)[0]


@pytest.mark.parametrize("bias", [None, -10.0])
def test_it_answers_as_open_clip_s_own_model(name, bias, tmp_path, monkeypatch):
    create = open_clip.create_model
    if bias is not None:
        monkeypatch.setattr(
            open_clip, "create_model", lambda *given, **more: create(*given, **more, init_logit_bias=bias)
        )
    own = made(name)
    torch.save({"state_dict": {f"module.{key}": value for key, value in own.state_dict().items()}}, tmp_path / "own.pt")
    found = prompted(open_clip_file(tmp_path / "own.pt", name), LABELS, None, Stated())
    pictures = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(found.module(pictures), expected(own, pictures))
    assert (found.preprocess.size, found.preprocess.resize, found.preprocess.crop_fraction) == (32, "crop", 1.0)


def test_a_folder_says_itself_what_it_is(name, tmp_path):
    own = made(name)
    folder = tmp_path / "own"
    folder.mkdir()
    told = {"model_cfg": CONFIG, "preprocess_cfg": {"resize_mode": "squash", "mean": [0.5] * 3, "std": [0.5] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(told))
    with pytest.raises(InputError, match="expected one file of weights, found none"):
        open_clip_folder(folder)
    torch.save(own.state_dict(), folder / "open_clip_pytorch_model.bin")
    found = prompted(open_clip_folder(folder), LABELS, None, Stated())
    pictures = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(found.module(pictures), expected(own, pictures))
    assert (found.preprocess.resize, found.preprocess.mean) == ("squash", (0.5, 0.5, 0.5))
    (folder / "open_clip_config.json").write_text("nonsense")
    with pytest.raises(InputError, match=r"open_clip .* cannot make local-dir:"):
        open_clip_folder(folder)


def test_what_is_unknown_or_does_not_fit_is_told(name, tmp_path):
    torch.save(made(name).state_dict(), tmp_path / "own.pt")
    with pytest.raises(InputError, match=r"has no model 'ViT-B32'; expected .* did you mean 'ViT-B-32'"):
        open_clip_file(tmp_path / "own.pt", "ViT-B32")
    with pytest.raises(InputError, match=r"\d+ of \d+ tensors fit open_clip's RN50; not .* and more"):
        open_clip_file(tmp_path / "own.pt", "RN50")
    with pytest.raises(InputError, match="cannot make roberta-ViT-B-32 from files on this machine"):
        open_clip_file(tmp_path / "own.pt", "roberta-ViT-B-32")


def test_the_verb_makes_a_teacher_without_any_labels_of_its_own(name, tiny_data: Path, tmp_path, edgepress):
    torch.save(made(name).state_dict(), tmp_path / "own.pt")
    (tmp_path / "prompts.yaml").write_text('"*": ["a photo of {}", "{}"]\n')
    given = ("adopt", tmp_path / "own.pt", "--backbone", f"open_clip:{name}", "--data", tiny_data)
    done = edgepress(*given, "--out", tmp_path / "made", "--prompts", tmp_path / "prompts.yaml")
    assert done.code == 0, done.err
    assert "the texts of red are a photo of red; red" in done.err
