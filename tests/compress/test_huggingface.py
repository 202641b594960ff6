"""A folder of transformers: what its files say is taken, its code is never executed, and the rest is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="transformers is not installed (edgepress[huggingface])")
from safetensors.torch import load_file, save_file

from edgepress.compress.finished import FinishedModule, Stated
from edgepress.compress.huggingface import load_huggingface_tagger, read_config
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace
from tests.compress.huggingface_folders import NAMES, SIZE, classifier


def loaded(folder: Path, labels: LabelSpace | None = None, stated: Stated | None = None) -> FinishedModule:
    return load_huggingface_tagger(folder, read_config(folder), labels, stated or Stated())


def changed(folder: Path, name: str = "config.json", **fields) -> Path:
    given = json.loads((folder / name).read_text())
    given = {key: value for key, value in {**given, **fields}.items() if value is not None}
    (folder / name).write_text(json.dumps(given))
    return folder


@pytest.mark.parametrize(("kind", "resize"), [("resnet", "crop"), ("vit", "squash")])
def test_it_answers_as_transformers_own_model(kind, resize, tmp_path):
    own = classifier(tmp_path / "own", kind)
    found = loaded(tmp_path / "own")
    pictures = torch.rand(2, 3, SIZE, SIZE)
    with torch.no_grad():
        torch.testing.assert_close(found.module(pictures), own(pixel_values=pictures).logits)
    assert found.labels.names == NAMES
    assert (found.preprocess.size, found.preprocess.resize, found.activation) == (SIZE, resize, "none")
    if kind == "resnet":
        np.testing.assert_allclose(found.preprocess.std, (0.2, 0.3, 0.4), atol=1e-5)


def test_pickled_weights_are_read_without_executing_anything(tmp_path):
    own = classifier(tmp_path / "own")
    (tmp_path / "own" / "model.safetensors").unlink()
    torch.save(own.state_dict(), tmp_path / "own" / "pytorch_model.bin")
    pictures = torch.rand(2, 3, SIZE, SIZE)
    with torch.no_grad():
        assert torch.equal(loaded(tmp_path / "own").module(pictures), own(pixel_values=pictures).logits)
    torch.save({"a": torch.zeros(1), "b": own}, tmp_path / "own" / "pytorch_model.bin")
    with pytest.raises(InputError, match="holds more than tensors"):
        loaded(tmp_path / "own")


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
def test_code_of_its_own_is_refused(file, tmp_path):
    classifier(tmp_path / "own")
    changed(tmp_path / "own", file, auto_map={"AutoConfig": "own.Config"})
    with pytest.raises(InputError, match=rf"{file} asks for code of its own to be executed \(auto_map\)"):
        loaded(tmp_path / "own")


def test_another_problem_is_asked_about(tmp_path):
    classifier(tmp_path / "own", problem_type="single_label_classification")
    with pytest.raises(InputError, match=r"problem_type is single_label_classification, .* say --activation softmax"):
        loaded(tmp_path / "own")
    assert loaded(tmp_path / "own", stated=Stated(activation="softmax")).activation == "softmax"
    changed(tmp_path / "own", problem_type=None)
    with pytest.raises(InputError, match="its problem_type is not given"):
        loaded(tmp_path / "own")


def test_outputs_without_names_are_asked_about(tmp_path):
    classifier(tmp_path / "own", id2label={0: "LABEL_0", 1: "LABEL_1"}, label2id={"LABEL_0": 0, "LABEL_1": 1})
    with pytest.raises(InputError, match="does not name its outputs: say --labels FILE"):
        loaded(tmp_path / "own")
    assert loaded(tmp_path / "own", LabelSpace(("a", "b"))).labels.names == ("a", "b")


def test_what_does_not_fit_is_counted_and_named(tmp_path):
    classifier(tmp_path / "own")
    file = tmp_path / "own" / "model.safetensors"
    state = load_file(file)
    save_file({name: value for name, value in state.items() if "convolution" not in name}, file, {"format": "pt"})
    with pytest.raises(InputError, match=r"\d+ of \d+ tensors fit the resnet of config\.json; not .*\(missing\).* and"):
        loaded(tmp_path / "own")
    save_file(state, file, {"format": "pt"})
    changed(tmp_path / "own", id2label={"0": "a", "1": "b"}, label2id={"a": 0, "b": 1})
    with pytest.raises(InputError, match=r"not classifier\.1\.bias \(\[6\] instead of \[2\]\), classifier\.1\.weight"):
        loaded(tmp_path / "own")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"model_type": "weird"}, "model type `weird`"),
        ({"model_type": "bert", "architectures": ["BertModel"]}, "Unrecognized configuration class"),
    ],
)
def test_what_transformers_does_not_know_is_told_in_its_words(fields, said, tmp_path):
    classifier(tmp_path / "own")
    changed(tmp_path / "own", **fields)
    with pytest.raises(InputError, match=rf"transformers \S+ cannot read it: .*{said}") as error:
        loaded(tmp_path / "own")
    assert "\n" not in str(error.value)


def test_files_that_are_missing_or_broken_are_named(tmp_path):
    classifier(tmp_path / "own")
    (tmp_path / "own" / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match=r"no preprocessor_config\.json in it: say --size, --mean, --std and --resize"):
        loaded(tmp_path / "own")
    whole = Stated(size=SIZE, mean=(0, 0, 0), std=(1, 1, 1), resize="squash")
    assert loaded(tmp_path / "own", stated=whole).preprocess.std == (1, 1, 1)
    (tmp_path / "own" / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"no weights in it; expected model\.safetensors"):
        loaded(tmp_path / "own")
    (tmp_path / "own" / "config.json").write_text("nonsense")
    with pytest.raises(InputError, match=r"config\.json: not a configuration"):
        loaded(tmp_path / "own")


def test_what_is_stated_comes_before_the_processor(tmp_path):
    classifier(tmp_path / "own")
    found = loaded(tmp_path / "own", stated=Stated(resize="squash", mean=(0.5, 0.5, 0.5)))
    assert (found.preprocess.resize, found.preprocess.mean) == ("squash", (0.5, 0.5, 0.5))
    np.testing.assert_allclose(found.preprocess.std, (0.2, 0.3, 0.4), atol=1e-5)


@pytest.mark.parametrize(("kind", "resize"), [("resnet", "crop"), ("swin", "squash")])
def test_the_verb_makes_a_bundle_that_teaches(kind, resize, tiny_data, tmp_path, edgepress, capfd):
    """Swin's windows are what torch's exporter cannot trace through transformers' fused attention."""
    classifier(tmp_path / "own", kind)
    capfd.readouterr()
    done = edgepress("adopt", tmp_path / "own", "--data", tiny_data, "--out", tmp_path / "made")
    assert done.code == 0, done.err
    assert capfd.readouterr() == ("", "")  # nothing of transformers' own
    made = Bundle.open(tmp_path / "made")
    assert (made.manifest.kind, made.preprocess.resize) == ("onnx", resize)
    assert "1 of 6 labels of the model are not among the data set's and are dropped" in done.err
    assert "own: mAP " in done.err
    refused = edgepress(
        "adopt", tmp_path / "own", "--data", tiny_data, "--out", tmp_path / "b", "--backbone", "resnet18"
    )
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "is a folder that says what it is of" in refused.err
