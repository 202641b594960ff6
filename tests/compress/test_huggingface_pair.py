"""CLIP in a folder of transformers tags with any labels. Its weights are random: only the plumbing is tested."""

from __future__ import annotations

import shutil

import pytest
import torch

pytest.importorskip("transformers", reason="transformers is not installed (edgepress[huggingface])")
import transformers

from edgepress.compress.finished import Stated
from edgepress.compress.huggingface import read_config
from edgepress.compress.huggingface_pair import huggingface_pair, is_pair
from edgepress.compress.image_text import prompted
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace
from tests.compress.huggingface_folders import SIZE, classifier, pair

LABELS = LabelSpace(("red", "bars"))


def test_it_answers_as_transformers_own_model(tmp_path):
    own = pair(tmp_path / "own")
    found = prompted(
        huggingface_pair(tmp_path / "own", read_config(tmp_path / "own"), Stated()), LABELS, None, Stated()
    )
    tokens = transformers.AutoTokenizer.from_pretrained(tmp_path / "own")(
        ["a photo of a red", "a photo of a bars"], padding=True, return_tensors="pt"
    )
    pictures = torch.rand(3, 3, SIZE, SIZE)
    with torch.no_grad():
        expected = own(pixel_values=pictures, **tokens).logits_per_image
        torch.testing.assert_close(found.module(pictures), expected)
    assert (found.preprocess.size, found.preprocess.resize, found.preprocess.crop_fraction) == (SIZE, "crop", 1.0)


def test_a_classifier_upon_an_encoder_is_no_pair(tmp_path):
    pair(tmp_path / "pair")
    classifier(tmp_path / "classifier")
    assert is_pair(read_config(tmp_path / "pair"))
    assert not is_pair(read_config(tmp_path / "classifier"))


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    pair(tmp_path / "own")
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"):
        (tmp_path / "own" / name).unlink()
    with pytest.raises(InputError, match=r"own: no tokenizer in it; expected tokenizer\.json"):
        huggingface_pair(tmp_path / "own", read_config(tmp_path / "own"), Stated())


def test_the_verb_makes_a_teacher_without_any_labels_of_its_own(tiny_data, tmp_path, edgepress):
    pair(tmp_path / "own")
    shutil.copyfile(tiny_data / "labels.txt", tmp_path / "labels.txt")
    done = edgepress("adopt", tmp_path / "own", "--data", tiny_data, "--out", tmp_path / "made")
    assert done.code == 0, done.err
    assert "the texts of red are a photo of a red" in done.err
    assert "are no probabilities before they are calibrated" in done.err
    refused = edgepress(
        *("adopt", tmp_path / "own", "--data", tiny_data, "--out", tmp_path / "b", "--labels", tmp_path / "labels.txt")
    )
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "a pair of encoders has no outputs to name" in refused.err
