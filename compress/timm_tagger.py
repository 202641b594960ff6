"""A finished timm tagger from elsewhere: its checkpoint as a model of ours, with the classifier that it has."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from torch import Tensor

from edgepress.compress.config import ModelConfig
from edgepress.compress.models import MultiLabelModel, pretrained_cfg
from edgepress.compress.weights import read_safetensors
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.preprocess import Preprocess

log = logging.getLogger("edgepress")
_WITHIN = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Keys of the weights in training scripts' checkpoints; the moving average is first, as in timm."""
_PREFIXES = ("module.", "_orig_mod.", "model.")
"""Prefixes that wrappers (DistributedDataParallel, torch.compile, Lightning) put before every name."""
_EQUAL = 1e-4
"""Largest difference of a logit between timm's own model and ours, as a share of the largest logit."""


def load_timm_tagger(
    file: Path,
    backbone: str,
    labels: LabelSpace,
    *,
    size: int | None = None,
    resize: Literal["squash", "crop"] = "squash",
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
) -> MultiLabelModel:
    """Load a timm model with its own classifier, in evaluation mode.

    Args:
        file: a checkpoint: .safetensors, or what torch.save wrote, which is read without executing anything.
        backbone: timm's name for the model.
        labels: the names of the classifier's outputs, in their order.
        size, mean, std: by default timm's values for the model, and a line says so.

    Raises:
        InputError: it is no such checkpoint; tensors are missing or of another shape (how many fit, and the first
            three that do not); or the model's head is more than a mean over positions and a linear layer.
    """
    cfg = pretrained_cfg(backbone)
    state = read_checkpoint(file)
    preprocess = Preprocess(size=size or cfg.input_size[-1], resize=resize, mean=mean or cfg.mean, std=std or cfg.std)
    if size is None or mean is None or std is None:
        log.info(
            "%s: %d px, mean %s and std %s, timm's own for %s where nothing else is said (--size, --mean, --std)",
            *(file.name, preprocess.size, preprocess.mean, preprocess.std, backbone),
        )
    theirs = _timm_model(file, backbone, state, labels, preprocess, cfg.fixed_input_size)
    config = ModelConfig(backbone=backbone, head="linear", size=preprocess.size, resize=resize, weights="none")
    ours = MultiLabelModel(config, labels, preprocess)
    classifier = theirs.get_classifier()
    if not isinstance(classifier, torch.nn.Linear) or not hasattr(ours.head, "weight"):
        raise InputError(_not_linear(backbone))
    kept = theirs.state_dict()
    own = ours.backbone.state_dict()
    if any(name not in kept or kept[name].shape != tensor.shape for name, tensor in own.items()):
        raise InputError(_not_linear(backbone))
    ours.backbone.load_state_dict({name: kept[name] for name in own})
    bias = classifier.bias if classifier.bias is not None else torch.zeros(len(labels))
    ours.head.load_state_dict({"weight": classifier.weight, "bias": bias})
    _require_equal(ours.eval(), theirs.eval(), backbone)
    return ours


def read_checkpoint(file: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint, without the prefixes of wrappers.

    Raises:
        InputError: the file is missing, is no checkpoint, or holds code beside its tensors, which is not executed.
    """
    if not file.is_file():
        raise InputError(f"{file}: no such file; expected a checkpoint, .safetensors, .pth or .pt")
    if file.suffix == ".safetensors":
        found: Mapping[str, Any] = read_safetensors(file)
    else:
        try:
            found = torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            raise InputError(
                f"{file}: holds more than tensors, which would have to be executed to be read: save the weights alone, "
                f"torch.save(model.state_dict(), FILE) or safetensors"
            ) from None
        except (RuntimeError, EOFError, ValueError) as error:
            raise InputError(f"{file}: not a checkpoint ({' '.join(str(error).split())[:160]})") from None
    for name in _WITHIN:
        inner = found.get(name) if isinstance(found, Mapping) else None
        if isinstance(inner, Mapping):
            log.info("%s: the weights are its %r", file.name, name)
            found = inner
            break
    state = {name: value for name, value in found.items() if isinstance(value, Tensor)} if found else {}
    if not state:
        raise InputError(f"{file}: holds no tensors by name; expected a state dict")
    while True:
        prefix = next((one for one in _PREFIXES if all(name.startswith(one) for name in state)), None)
        if prefix is None:
            return state
        log.info("%s: every name begins with %r, which is left out", file.name, prefix)
        state = {name.removeprefix(prefix): value for name, value in state.items()}


def _timm_model(
    file: Path, backbone: str, state: dict[str, Tensor], labels: LabelSpace, preprocess: Preprocess, fixed: bool
) -> torch.nn.Module:
    sized = {"img_size": preprocess.size} if fixed else {}
    model = timm.create_model(backbone, pretrained=False, num_classes=len(labels), **sized)
    wanted = model.state_dict()
    odd = [name for name in wanted if name not in state or state[name].shape != wanted[name].shape]
    if odd:
        said = ", ".join(_of(name, wanted, state) for name in odd[:3])
        raise InputError(
            f"{file}: {len(wanted) - len(odd)} of {len(wanted)} tensors fit timm's {backbone} with {len(labels)} "
            f"outputs; not {said}{' and more' if len(odd) > 3 else ''}"
        )
    unused = sorted(state.keys() - wanted.keys())
    if unused:
        log.warning("%s: %d tensors are not used, such as %s", file.name, len(unused), ", ".join(unused[:3]))
    model.load_state_dict({name: state[name] for name in wanted})
    return model


def _of(name: str, wanted: dict[str, Tensor], state: dict[str, Tensor]) -> str:
    expected = list(wanted[name].shape)
    return f"{name} ({list(state[name].shape)} instead of {expected})" if name in state else f"{name} (missing)"


@torch.no_grad()
def _require_equal(ours: MultiLabelModel, theirs: torch.nn.Module, backbone: str) -> None:
    size = ours.preprocess.size
    images = torch.randint(0, 256, (3, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor(ours.preprocess.mean), torch.tensor(ours.preprocess.std)
    expected = theirs(((images / 255 - mean) / std).permute(0, 3, 1, 2))
    difference = (ours.logits(images) - expected).abs().max().item()
    if not difference <= _EQUAL * max(1.0, expected.abs().max().item()):
        raise InputError(_not_linear(backbone))


def _not_linear(backbone: str) -> str:
    return (
        f"{backbone}: its head is more than a mean over positions and a linear layer, so it cannot be taken apart: "
        f"export it to ONNX and adopt that"
    )
