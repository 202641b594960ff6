"""A finished timm tagger from elsewhere: its checkpoint as a model of ours, with the classifier that it has."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from edgepress.compress.config import ModelConfig
from edgepress.compress.finished import FinishedModule, Stated, named_in, require_labels
from edgepress.compress.foreign_weights import fitted, read_checkpoint, weights_in
from edgepress.compress.models import MultiLabelModel, pretrained_cfg
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.model_files import TRANSFORMERS_CONFIG
from edgepress.multilabel.preprocess import Preprocess

log = logging.getLogger("edgepress")
_INTERPOLATIONS = {"bilinear": "bilinear-aa", "bicubic": "bicubic-aa"}
"""timm scales by Pillow, which is antialiased."""
_EQUAL = 1e-4
"""Largest difference of a logit between timm's own model and ours, as a share of the largest logit."""


def load_timm_tagger(file: Path, backbone: str, labels: LabelSpace, stated: Stated) -> MultiLabelModel | FinishedModule:
    """Load a timm model with its own classifier, in evaluation mode.

    Args:
        file: a checkpoint: .safetensors, or what torch.save wrote, which is read without executing anything.
        backbone: timm's name for the model.
        labels: the names of the classifier's outputs, in their order.
        stated: what is not stated of size, mean and std is timm's for the model, and a line says so.

    Returns:
        A model of ours, which can be trained on and looked into, if its head is a mean over positions and a linear
        layer, and it takes RGB and gives logits; otherwise timm's own module.

    Raises:
        InputError: timm has no such model; the file is no checkpoint of it; see `fitted`.
    """
    cfg = pretrained_cfg(backbone)
    preprocess = stated.over(Preprocess(size=cfg.input_size[-1], mean=cfg.mean, std=cfg.std), file)
    if stated.size is None or stated.mean is None or stated.std is None:
        log.info(
            "%s: %d px, mean %s and std %s, timm's own for %s where nothing else is said (--size, --mean, --std)",
            *(file.name, preprocess.size, preprocess.mean, preprocess.std, backbone),
        )
    arguments = {"img_size": preprocess.size} if cfg.fixed_input_size else {}
    return _finished(file, file.name, backbone, labels, preprocess, stated, arguments)


def load_timm_folder(folder: Path, labels: LabelSpace | None, stated: Stated) -> MultiLabelModel | FinishedModule:
    """Load a folder that timm wrote for a hub: config.json with an architecture, and weights.

    Args:
        labels: the names of the classifier's outputs, in their order; by default the config's label_names.
        stated: what is stated takes the place of the config's pretrained_cfg.

    Returns:
        As `load_timm_tagger`.

    Raises:
        InputError: as for `load_timm_tagger`; or the config has no such fields, its outputs have no names, or its way
            of cutting pictures is none of ours.
    """
    file = folder / TRANSFORMERS_CONFIG
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        told, backbone = config["pretrained_cfg"], config["architecture"]
        arguments = {**config.get("model_args", {})}
        cuts = {"center": "crop", "squash": "squash"}
        own = {
            "size": told["input_size"][-1],
            "resize": stated.resize or cuts.get(told.get("crop_mode", "center")),
            "crop_fraction": told.get("crop_pct", 0.875),
            "interpolation": _INTERPOLATIONS.get(told.get("interpolation"), "area-cubic"),
            "mean": told["mean"],
            "std": told["std"],
        }
        names = told.get("label_names")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(f"{file}: no configuration that timm wrote ({type(error).__name__}: {error})") from None
    if own["resize"] is None:
        raise InputError(f"{file}: crop_mode is {told['crop_mode']!r}, which is none of ours: say --resize")
    pretrained_cfg(backbone)  # says what is meant if timm does not know it
    preprocess = stated.over(Preprocess.stated(file, **own), folder)
    if labels is None and isinstance(names, list | tuple):
        labels = named_in(file, "label_names", tuple(names))
    if stated.size is not None and ("img_size" in arguments or told.get("fixed_input_size")):
        arguments["img_size"] = stated.size
    arguments.pop("num_classes", None)
    weights, name = weights_in(folder), folder.resolve().name
    return _finished(weights, name, backbone, require_labels(labels, folder), preprocess, stated, arguments)


def _finished(
    file: Path,
    name: str,
    backbone: str,
    labels: LabelSpace,
    preprocess: Preprocess,
    stated: Stated,
    arguments: dict[str, Any],
) -> MultiLabelModel | FinishedModule:
    """The model, taken apart if it can be, and otherwise whole.

    Args:
        file: its checkpoint.
        name: what messages and the bundle's facts call it.
        arguments: those of timm.create_model, beside the number of labels.
    """
    theirs = _timm_model(file, backbone, labels, arguments)
    ours = None
    if stated.colors in (None, "rgb") and stated.activation in (None, "none"):
        ours = _taken_apart(theirs, backbone, labels, preprocess)
    if ours is not None:
        return ours
    log.info("%s: is exported whole, because %s", name, _WHOLE)
    return FinishedModule(
        module=theirs,
        preprocess=preprocess,
        labels=labels,
        name=name,
        colors=stated.colors or "rgb",
        activation=stated.activation,
    )


_WHOLE = "it is more than a mean over positions and a linear layer that give logits of RGB pictures"


def _timm_model(file: Path, backbone: str, labels: LabelSpace, arguments: dict[str, Any]) -> nn.Module:
    state = read_checkpoint(file)
    try:
        model = timm.create_model(backbone, pretrained=False, num_classes=len(labels), **arguments).eval()
    except (AssertionError, TypeError, ValueError, RuntimeError) as error:
        said = " ".join(str(error).split())[:200]
        raise InputError(f"{file}: timm's {backbone} does not take {arguments} ({said}): say another --size") from error
    heads = {id(layer) for layer in _classifiers(model)}
    classifier = [name for name, layer in model.named_modules() if id(layer) in heads]
    model.load_state_dict(
        fitted(file, state, model.state_dict(), f"timm's {backbone}", classifier[-1] if classifier else "")
    )
    return model


def _classifiers(model: nn.Module) -> list[nn.Module]:
    found = model.get_classifier() if hasattr(model, "get_classifier") else ()
    return list(found) if isinstance(found, tuple | list) else [found]


def _taken_apart(
    theirs: nn.Module, backbone: str, labels: LabelSpace, preprocess: Preprocess
) -> MultiLabelModel | None:
    """The same model as a backbone and a linear head; None if that is another model."""
    pictures = preprocess.model_dump(include={"size", "resize", "crop_fraction", "interpolation"})
    try:
        config = ModelConfig.parse({"backbone": backbone, "head": "linear", **pictures, "weights": "none"}, backbone)
        ours = MultiLabelModel(config, labels, preprocess)
    except InputError:  # its features are no map of positions, or it has a size that ours do not have
        return None
    classifier = theirs.get_classifier() if hasattr(theirs, "get_classifier") else None
    kept, own = theirs.state_dict(), ours.backbone.state_dict()
    if not isinstance(classifier, nn.Linear) or classifier.weight.shape != ours.head.weight.shape:
        return None
    if any(name not in kept or kept[name].shape != tensor.shape for name, tensor in own.items()):
        return None
    ours.backbone.load_state_dict({name: kept[name] for name in own})
    bias = classifier.bias if classifier.bias is not None else torch.zeros(len(labels))
    ours.head.load_state_dict({"weight": classifier.weight, "bias": bias})
    return ours if _equal(ours.eval(), theirs) else None


@torch.no_grad()
def _equal(ours: MultiLabelModel, theirs: nn.Module) -> bool:
    size = ours.preprocess.size
    images = torch.randint(0, 256, (3, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor(ours.preprocess.mean), torch.tensor(ours.preprocess.std)
    expected = theirs(((images / 255 - mean) / std).permute(0, 3, 1, 2))
    difference = (ours.logits(images) - expected).abs().max().item()
    return difference <= _EQUAL * max(1.0, expected.abs().max().item())
