"""A pair of encoders in a folder that transformers wrote, such as CLIP's and SigLIP's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers
from torch import Tensor, nn

from edgepress.compress.finished import Stated
from edgepress.compress.huggingface import called, load_pretrained, preprocessing
from edgepress.compress.image_text import Pair
from edgepress.multilabel.errors import InputError

_TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model")
"""The files of which transformers makes a tokenizer; it needs one of them."""


class _Pictures(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return _embeddings(self.model.get_image_features(pixel_values=images))


def is_pair(config: Any) -> bool:
    """Whether a configuration is of two encoders, and not of a classifier upon one of them."""
    classifier = any(name.endswith("ForImageClassification") for name in config.architectures or ())
    return not classifier and hasattr(config, "text_config") and hasattr(config, "vision_config")


def huggingface_pair(folder: Path, config: Any, stated: Stated) -> Pair:
    """Load two encoders, their tokenizer and their way of preparing pictures.

    Raises:
        InputError: transformers does not know the model, weights or the tokenizer's files are missing, it does not
            embed pictures and texts, or its preprocessing cannot be taken over.
    """
    model: Any = load_pretrained(folder, transformers.AutoModel, config)
    if not all(hasattr(model, name) for name in ("get_image_features", "get_text_features", "logit_scale")):
        raise InputError(
            f"{folder}: a {config.model_type} does not embed pictures and texts in one space; expected CLIP, SigLIP or "
            f"another such pair of encoders"
        )
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        # transformers 5 makes a tokenizer without a word of such a folder, and every text becomes the same.
        raise InputError(f"{folder}: no tokenizer in it; expected {_TOKENIZERS[0]}, or {', '.join(_TOKENIZERS[1:])}")
    tokenizer = called(folder, transformers.AutoTokenizer.from_pretrained, folder)
    longest = config.text_config.max_position_embeddings

    def texts(given: list[str]) -> Tensor:
        # Padded to the full length, because SigLIP was trained so; CLIP's answer does not depend on it.
        tokens = tokenizer(given, padding="max_length", max_length=longest, truncation=True, return_tensors="pt")
        return _embeddings(model.get_text_features(**tokens))

    bias = getattr(model, "logit_bias", None)
    return Pair(
        pictures=_Pictures(model),
        texts=texts,
        scale=model.logit_scale.exp().item(),
        bias=0.0 if bias is None else bias.item(),
        preprocessing=preprocessing(folder, stated),
        name=folder.resolve().name,
    )


def _embeddings(found: Any) -> Tensor:
    """transformers gives a tensor before version 5, and a collection with it since."""
    return found if isinstance(found, Tensor) else found.pooler_output
