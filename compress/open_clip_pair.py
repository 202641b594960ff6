"""A pair of encoders of open_clip: a model by name with a checkpoint, or a folder that open_clip wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.convert import convert_state_dict
from open_clip.model import convert_to_custom_text_state_dict
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor, nn

from edgepress.compress.foreign_weights import fitted, read_checkpoint, weights_in
from edgepress.compress.image_text import Pair
from edgepress.compress.measured_preprocessing import measure
from edgepress.multilabel.errors import InputError, did_you_mean

PREFIX = "open_clip:"


class _Pictures(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.encode_image(images)


def open_clip_file(file: Path, name: str) -> Pair:
    """A model of open_clip by its name, with the weights of a checkpoint.

    Raises:
        InputError: open_clip has no such model, the file is no checkpoint of it (see `fitted`), or its text encoder or
            its tokenizer would have to be fetched.
    """
    known = open_clip.list_models()
    if name not in known:
        raise InputError(
            f"open_clip {open_clip.__version__} has no model {name!r}; expected a name such as "
            f"{PREFIX}ViT-B-32 (open_clip.list_models()){did_you_mean(name, known)}"
        )
    return _pair(name, file, file.name)


def open_clip_folder(folder: Path) -> Pair:
    """A folder with open_clip_config.json, weights, and the files of its tokenizer if it is no standard one.

    Raises:
        InputError: as for `open_clip_file`; or there are no weights, or several.
    """
    return _pair(f"local-dir:{folder}", weights_in(folder), folder.resolve().name)


def _pair(identifier: str, file: Path, name: str) -> Pair:
    state = read_checkpoint(file)
    try:
        model = open_clip.create_model(identifier, pretrained=None, load_weights=False).eval()
        tokenize = open_clip.get_tokenizer(identifier)
    except Exception as error:  # of open_clip, transformers, or a hub that is not asked
        said = " ".join(str(error).split())[:200]
        raise InputError(
            f"{file}: open_clip {open_clip.__version__} cannot make {identifier} from files on this machine: {said}"
        ) from error
    model.load_state_dict(fitted(file, _renamed(model, state), model.state_dict(), f"open_clip's {identifier}", ""))
    transform = image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=False)

    def prepare(picture: np.ndarray) -> np.ndarray:
        return transform(Image.fromarray(picture)).numpy()

    return Pair(
        pictures=_Pictures(model),
        texts=lambda texts: model.encode_text(tokenize(texts)),
        scale=model.logit_scale.exp().item(),
        bias=0.0 if model.logit_bias is None else model.logit_bias.item(),
        preprocessing=measure(prepare, str(file)),
        name=name,
    )


def _renamed(model: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under open_clip's present names, as its own `load_checkpoint` renames them."""
    state = convert_state_dict(model, state)
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    for name in ("logit_scale", "logit_bias"):  # a number, or a list of one
        own = getattr(model, name, None)
        if name in state and own is not None:
            state[name] = state[name].reshape(own.shape)
        elif name == "logit_bias" and own is not None:
            state[name] = torch.zeros_like(own)
    return state
