"""A pair of encoders as a tagger: a label's logit is scale times the cosine of picture and texts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgepress.compress.finished import Stated
from edgepress.compress.image_text import Pair, prompted, read_prompts
from edgepress.compress.measured_preprocessing import Measured
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.preprocess import Preprocess

LABELS = LabelSpace(("dog", "fire_truck"))


def embedded(texts: list[str]) -> torch.Tensor:
    """Made-up embeddings `[N, 4]`, the same for the same text."""
    return torch.stack([torch.randn(4, generator=torch.Generator().manual_seed(sum(text.encode()))) for text in texts])


def pair(bias: float = 0.0) -> Pair:
    torch.manual_seed(0)
    pictures = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4)).eval()
    measured = Measured(Preprocess(size=32), "rgb")
    return Pair(pictures=pictures, texts=embedded, scale=50.0, bias=bias, preprocessing=measured, name="own")


@pytest.mark.parametrize("bias", [0.0, -10.0])
def test_logits_are_the_scaled_cosines(bias, tmp_path):
    file = tmp_path / "prompts.yaml"
    file.write_text('dog: ["a photo of a {}", "a drawing of a {}"]\n')
    own = pair(bias)
    found = prompted(own, LABELS, file, Stated())
    pictures = torch.rand(3, 3, 8, 8)
    with torch.no_grad():
        image = nn.functional.normalize(own.pictures(pictures), dim=-1)
        dog = nn.functional.normalize(embedded(["a photo of a dog", "a drawing of a dog"]), dim=-1).mean(dim=0)
        truck = embedded(["a photo of a fire truck"])[0]
        text = nn.functional.normalize(torch.stack([dog, truck]), dim=-1)
        torch.testing.assert_close(found.module(pictures), 50 * image @ text.T + bias)
    assert (found.labels, found.activation, found.preprocess.size) == (LABELS, "none", 32)


def test_what_is_stated_takes_the_place_of_what_was_measured():
    found = prompted(pair(), LABELS, None, Stated(resize="crop", colors="bgr"))
    assert (found.preprocess.resize, found.colors) == ("crop", "bgr")
    with pytest.raises(InputError, match="a pair of encoders gives logits: leave out --activation softmax"):
        prompted(pair(), LABELS, None, Stated(activation="softmax"))


def test_the_texts_of_labels(tmp_path):
    assert read_prompts(None, LABELS) == [["a photo of a dog"], ["a photo of a fire truck"]]
    file = tmp_path / "prompts.yaml"
    file.write_text('"*": "it shows a {}"\nfire_truck: [a red engine, "a {}"]\n')
    assert read_prompts(file, LABELS) == [["it shows a dog"], ["a red engine", "a fire truck"]]


def test_a_label_of_prompts_has_the_name_that_is_written(tmp_path):
    file = tmp_path / "prompts.yaml"
    file.write_text("no: a sign that says no\n1e5: many dogs\n")
    labels = LabelSpace(("1e5", "no"))
    assert read_prompts(file, labels) == [["many dogs"], ["a sign that says no"]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dogg: a dog", "unknown label 'dogg'.* did you mean 'dog'"),
        ("- a dog", "expected a text, or a list of texts, for each label"),
        ("dog: 3", "'dog' has '3'; expected a text or a list of texts, in words"),
        ("dog: a dog\ndog: a hound", r"line 2 \(dog: a hound\): the key 'dog' is given twice"),
        ("dog:", "'dog' has ''; expected a text"),
        ("dog: []", "expected a text or a list of texts"),
        ("dog: [", "not YAML"),
    ],
)
def test_a_file_that_is_none_of_prompts_is_refused(text, said, tmp_path):
    (tmp_path / "prompts.yaml").write_text(text)
    with pytest.raises(InputError, match=said) as error:
        read_prompts(tmp_path / "prompts.yaml", LABELS)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"cannot be read .*expected the prompts of labels"):
        read_prompts(tmp_path / "nowhere.yaml", LABELS)
