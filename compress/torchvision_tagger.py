"""A finished torchvision tagger: a model by name, and a checkpoint with the classifier that it has."""

from __future__ import annotations

import logging
from pathlib import Path

import torchvision
from torch import nn

from edgepress.compress.finished import FinishedModule, Stated
from edgepress.compress.foreign_weights import fitted, read_checkpoint
from edgepress.multilabel.errors import InputError, did_you_mean
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.preprocess import Preprocess

log = logging.getLogger("edgepress")
PREFIX = "torchvision:"
_CHANGES_ITS_INPUT = ("googlenet", "inception_v3")
"""Models whose ImageNet weights switch on another normalisation inside, of which a checkpoint says nothing."""


def load_torchvision_tagger(file: Path, name: str, labels: LabelSpace, stated: Stated) -> FinishedModule:
    """Load a torchvision classification model with its own classifier, in evaluation mode.

    Args:
        file: a checkpoint: .safetensors, or what torch.save wrote, which is read without executing anything.
        name: torchvision's name for the model, such as `resnet18`.
        labels: the names of the classifier's outputs, in their order.
        stated: what is not stated of size, mean and std is torchvision's for the model, and a line says so.

    Raises:
        InputError: torchvision has no such model; the file is no checkpoint of it; see `fitted`.
    """
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise InputError(
            f"torchvision {torchvision.__version__} has no classification model {name!r}; expected a name such "
            f"as {PREFIX}resnet18 (torchvision.models.list_models()){did_you_mean(name, known)}"
        )
    if name in _CHANGES_ITS_INPUT:
        raise InputError(
            f"torchvision's {name}: with ImageNet weights it normalises its input once more, and a checkpoint does not "
            f"say whether it did: export it to ONNX and adopt that"
        )
    state = read_checkpoint(file)
    # Position embeddings are made for one input size.
    sized = {"image_size": stated.size} if stated.size and name.startswith("vit_") else {}
    model = torchvision.models.get_model(name, weights=None, num_classes=len(labels), **sized).eval()
    classifier = [found for found, layer in model.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)][-1]
    model.load_state_dict(fitted(file, state, model.state_dict(), f"torchvision's {name}", classifier))
    theirs = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    own = Preprocess(size=theirs.crop_size[0], mean=tuple(theirs.mean), std=tuple(theirs.std))
    preprocess = stated.over(own, file)
    if stated.size is None or stated.mean is None or stated.std is None:
        log.info(
            "%s: %d px, mean %s and std %s, torchvision's for %s where nothing else is said (--size, --mean, --std)",
            *(file.name, preprocess.size, preprocess.mean, preprocess.std, name),
        )
    return FinishedModule(
        module=model,
        preprocess=preprocess,
        labels=labels,
        name=file.name,
        colors=stated.colors or "rgb",
        activation=stated.activation,
    )
