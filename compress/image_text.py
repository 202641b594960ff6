"""A pair of encoders, for pictures and for texts, as a tagger: a label's logit is the likeness of picture and texts.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021 (arXiv 2103.00020):
logit = scale · cos(picture, text), with the mean of a label's texts (section 3.1.4); Zhai et al., "Sigmoid Loss for
Language Image Pre-Training", ICCV 2023 (arXiv 2303.15343) adds a bias. The texts are fixed, so their embeddings are a
linear layer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from edgepress.compress.finished import FinishedModule, Stated
from edgepress.compress.measured_preprocessing import Measured
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.yaml_files import texts_of

log = logging.getLogger("edgepress")
TEMPLATE = "a photo of a {}"
OTHERS = "*"
"""The key of a file of prompts under which the texts of all labels are that it does not name."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two encoders with one space of embeddings."""

    pictures: nn.Module
    """Float32 pictures `[B, 3, size, size]` to embeddings `[B, D]`."""
    texts: Callable[[list[str]], Tensor]
    """Texts to embeddings `[N, D]`."""
    scale: float
    bias: float
    preprocessing: Measured
    name: str


class PromptedTagger(nn.Module):
    """Logits `[B, C]` of pictures: scale · cos(picture, label's texts) + bias."""

    def __init__(self, pair: Pair, prompts: list[list[str]]) -> None:
        super().__init__()
        self.pictures = pair.pictures
        with torch.inference_mode():
            rows = [nn.functional.normalize(pair.texts(texts).float(), dim=-1).mean(dim=0) for texts in prompts]
            weight = pair.scale * nn.functional.normalize(torch.stack(rows), dim=-1)
        self.head = nn.Linear(weight.shape[1], weight.shape[0])
        self.head.weight.data = weight.clone()
        nn.init.constant_(self.head.bias, pair.bias)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(nn.functional.normalize(self.pictures(images), dim=-1))


def prompted(pair: Pair, labels: LabelSpace, prompts: Path | None, stated: Stated) -> FinishedModule:
    """Make a tagger of a pair of encoders.

    Args:
        labels: the labels that it is to have: any, because a text is all that it needs of a label.
        prompts: a YAML file, see `read_prompts`.

    Raises:
        InputError: see `read_prompts`; or scores other than logits are stated.
    """
    if stated.activation not in (None, "none"):
        raise InputError(f"{pair.name}: a pair of encoders gives logits: leave out --activation {stated.activation}")
    texts = read_prompts(prompts, labels)
    log.info("%s: the texts of %s are %s", pair.name, labels.names[0], "; ".join(texts[0][:3]))
    if not pair.bias:
        log.info(
            "%s: scale %.4g; its logits rank the pictures of one label, and are no probabilities before they are "
            "calibrated (edgepress calibrate)",
            *(pair.name, pair.scale),
        )
    return FinishedModule(
        module=PromptedTagger(pair, texts).eval(),
        preprocess=stated.over(pair.preprocessing.preprocess, pair.name),
        labels=labels,
        name=pair.name,
        colors=stated.colors or pair.preprocessing.colors,
        activation="none",
    )


def _is_a_prompt(given: object) -> bool:
    return isinstance(given, str) and any(letter.isalpha() for letter in given.replace("{}", "a"))


def read_prompts(file: Path | None, labels: LabelSpace) -> list[list[str]]:
    """The texts of every label, in the labels' order.

    Args:
        file: YAML, from a label to a text or a list of texts, in which {} is the label's name with spaces for its
            underscores; under "*" are the texts of the labels that it does not name. None: `TEMPLATE` for each.

    Raises:
        InputError: it is no such file, or names a label that the data set does not have.
    """
    given: object = {}
    if file is not None:
        given = texts_of(file, "the prompts of labels (YAML)")
    if not isinstance(given, dict):
        raise InputError(f"{file}: expected a text, or a list of texts, for each label, such as dog: a photo of a dog")
    texts: dict[str, list[str]] = {}
    for name, value in given.items():
        listed = [value] if isinstance(value, str) else value
        if not isinstance(listed, list) or not listed or not all(map(_is_a_prompt, listed)):
            raise InputError(f"{file}: {name!r} has {value!r}; expected a text or a list of texts, in words")
        if name != OTHERS:
            try:
                labels.index(str(name))
            except InputError as error:
                raise InputError(f"{file}: {error}") from None
        texts[str(name)] = listed
    others = texts.get(OTHERS, [TEMPLATE])
    found = [texts.get(name, others) for name in labels]
    return [
        [text.replace("{}", name.replace("_", " ")) for text in listed]
        for name, listed in zip(labels, found, strict=True)
    ]
