"""Models and training states on disk: safetensors for weights, torch files read with weights_only for the rest."""

from __future__ import annotations

import io
import json
import logging
import pickle
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from edgepress.compress.config import ModelConfig
from edgepress.compress.models import MultiLabelModel, fuse
from edgepress.compress.weights import read_safetensors
from edgepress.multilabel.bundle import Bundle, write_atomically, write_bundle
from edgepress.multilabel.decisions import Decisions
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.facts import Architecture, Facts, Parent
from edgepress.multilabel.label_groups import NO_GROUPS, LabelGroups
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.preprocess import Preprocess

log = logging.getLogger("edgepress")

WEIGHTS = "model.safetensors"
_KEY = "edgepress"


def save_model(model: MultiLabelModel, path: Path) -> None:
    """Write weights as safetensors, with what is needed to rebuild the model (architecture, labels, preprocess)."""
    description = {
        "architecture": architecture(model).model_dump(mode="json"),
        "labels": list(model.labels.names),
        "preprocess": model.preprocess.model_dump(mode="json"),
    }
    state = {key: tensor.detach().cpu().contiguous() for key, tensor in model.state_dict().items()}
    save_file(state, path, metadata={_KEY: json.dumps(description)})


def write_model(
    model: MultiLabelModel,
    out: Path,
    *,
    inputs: str,
    facts: Facts,
    parent: Parent | None = None,
    tensorboard: Path | None = None,
    groups: LabelGroups = NO_GROUPS,
) -> None:
    """Save a model as a bundle of kind torch.

    Args:
        inputs: sha256 of everything that it was made from.
        facts: what was measured while it was made.
        parent: the teacher's bundle, if there is one.
        tensorboard: a folder of event files to store with it.
        groups: the label groups that it learnt, which are a part of its decisions.
    """
    with write_bundle(
        out,
        kind="torch",
        precision="fp32",
        model=WEIGHTS,
        labels=model.labels.names,
        preprocess=model.preprocess,
        architecture=architecture(model),
        facts=facts,
        parent=parent,
        decisions=Decisions.of_groups(model.labels.names, groups),
        tools={name: version(name) for name in ("torch", "timm", "edgepress")},
        inputs=inputs,
    ) as folder:
        save_model(model, folder / WEIGHTS)
        if tensorboard is not None:
            shutil.copytree(tensorboard, folder / "tensorboard")


def architecture(model: MultiLabelModel) -> Architecture:
    """The settings from which `MultiLabelModel` is rebuilt, without those of training."""
    settings = model.config.model_dump(include=set(ModelConfig.model_fields), mode="json", exclude_none=True)
    found = Architecture(**settings)
    return found.model_copy(update={"fused": True}) if model.fused else found


def _build(settings: dict[str, Any], labels: LabelSpace, preprocess: Preprocess, source: Path) -> MultiLabelModel:
    config = ModelConfig.parse({k: v for k, v in settings.items() if k != "fused"}, f"{source}, architecture")
    model = MultiLabelModel(config, labels, preprocess)
    return fuse(model) if settings.get("fused") else model


def load_model(source: Path, weights: Path | None = None) -> MultiLabelModel:
    """Load a model in evaluation mode, from a torch bundle or from a .safetensors file written by `save_model`.

    Args:
        source: a bundle of kind torch, or a file that `save_model` wrote.
        weights: a .safetensors file whose weights replace the bundle's.

    Raises:
        InputError: the source is neither, or the weights do not fit the model.
    """
    source = Path(source)
    if source.is_dir():
        bundle = Bundle.open(source, kind="torch")
        assert bundle.manifest.architecture is not None
        model = _build(bundle.manifest.architecture.model_dump(), bundle.labels, bundle.preprocess, source)
        return load_weights(model, weights or bundle.model_path)
    description = _description(source)
    try:
        labels, preprocess = LabelSpace(description["labels"]), Preprocess.model_validate(description["preprocess"])
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"{source}: its description cannot be read ({reason}); export it again") from None
    return load_weights(_build(description["architecture"], labels, preprocess, source), weights or source)


def describes_itself(path: Path) -> bool:
    """Whether a .safetensors file says which model its weights are of, as those of `save_model` do.

    Raises:
        InputError: it is no .safetensors file.
    """
    return _KEY in _metadata(path)


def load_weights(model: MultiLabelModel, path: Path) -> MultiLabelModel:
    """Load a model's weights (backbone and head) and put it in evaluation mode.

    Raises:
        InputError: tensors are missing, unknown or of another shape; the message names the first.
    """
    state = read_safetensors(path)
    wanted = model.state_dict()
    odd = sorted(state.keys() ^ wanted.keys())
    if odd:
        where = "lacks" if odd[0] in wanted else "has the unknown tensor"
        raise InputError(f"{path}: {where} {odd[0]!r} ({len(odd)} names differ from {model.config.backbone}'s)")
    for key, tensor in wanted.items():
        if state[key].shape != tensor.shape:
            raise InputError(f"{path}: {key} is {list(state[key].shape)}; expected {list(tensor.shape)}")
    model.load_state_dict(state)
    return model.eval()


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a training state (tensors, numbers, strings) under a temporary name and rename it."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())


def load_state(path: Path, inputs: str) -> dict[str, Any] | None:
    """Load the training state that an interrupted run on the same inputs left, or return None.

    Raises:
        InputError: the file is not a training state; nothing in it is executed.
    """
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["inputs"] == inputs:
            return state
        log.warning("%s: of other pictures, labels or settings; the training begins again", path)
        return None
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"{path}: not a training state ({reason}); remove it to begin again") from None


def _description(path: Path) -> dict[str, Any]:
    metadata = _metadata(path)
    if _KEY not in metadata:
        raise InputError(
            f"{path}: weights without a description of their model; give the student's bundle as well, "
            f"or --backbone, --head, --size and --labels"
        )
    try:
        description = json.loads(metadata[_KEY])
        return {key: description[key] for key in ("architecture", "labels", "preprocess")}
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{path}: its description cannot be read ({error}); export it again") from None


def _metadata(path: Path) -> dict[str, str]:
    read_safetensors(path)  # reports what is wrong with a file that is not one
    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}
