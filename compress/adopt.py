"""Finished taggers from elsewhere: loaded as torch runs them, and a teacher's bundle of those with a linear head."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from edgepress.compress.checkpoint import write_model
from edgepress.compress.finished import FinishedModule, Stated, require_labels
from edgepress.compress.foreign_weights import require_no_code, weights_in
from edgepress.compress.models import MultiLabelModel
from edgepress.compress.timm_tagger import load_timm_folder, load_timm_tagger
from edgepress.compress.torchvision_tagger import PREFIX as TORCHVISION
from edgepress.compress.torchvision_tagger import load_torchvision_tagger
from edgepress.multilabel.bundle import Bundle, file_sha256, inputs_hash, up_to_date
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.facts import Facts
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.model_files import ModelKind
from edgepress.multilabel.reached import answer_split, require_among, tell_finished

OPEN_CLIP = "open_clip:"


def load_finished(
    source: Path,
    kind: ModelKind,
    wanted: LabelSpace,
    stated: Stated,
    *,
    backbone: str | None = None,
    labels: LabelSpace | None = None,
    prompts: Path | None = None,
) -> MultiLabelModel | FinishedModule:
    """Load a finished tagger.

    Args:
        source: a checkpoint, or a folder that timm, transformers or open_clip wrote.
        kind: which of them; not `onnx`.
        wanted: the data set's labels, of which a pair of encoders needs the names alone.
        backbone: the name of the model that a checkpoint is of: timm's, or torchvision's or open_clip's behind
            `torchvision:` and `open_clip:`.
        labels: the names of its outputs, in their order.
        prompts: the texts of the labels, for a pair of encoders.

    Raises:
        InputError: something that this kind needs is not given, or something that it does not take; see also the
            loader of each kind.
        ModuleNotFoundError: transformers or open_clip is not installed.
    """
    _require_backbone(source, kind, backbone, labels)
    if kind == "open_clip" or (backbone is not None and backbone.startswith(OPEN_CLIP)):
        from edgepress.compress.image_text import prompted
        from edgepress.compress.open_clip_pair import open_clip_file, open_clip_folder

        _require_no_labels(labels, source)
        if backbone is None:
            return prompted(open_clip_folder(source), wanted, prompts, stated)
        return prompted(open_clip_file(source, backbone.removeprefix(OPEN_CLIP)), wanted, prompts, stated)
    if kind == "transformers":
        from edgepress.compress.huggingface import load_huggingface_tagger, read_config
        from edgepress.compress.huggingface_pair import huggingface_pair, is_pair
        from edgepress.compress.image_text import prompted

        config = read_config(source)
        if is_pair(config):
            _require_no_labels(labels, source)
            return prompted(huggingface_pair(source, config, stated), wanted, prompts, stated)
        _require_no_prompts(prompts, source)
        return load_huggingface_tagger(source, config, labels, stated)
    _require_no_prompts(prompts, source)
    if kind == "timm":
        return load_timm_folder(source, labels, stated)
    assert backbone is not None
    named = require_labels(labels, source)
    if backbone.startswith(TORCHVISION):
        return load_torchvision_tagger(source, backbone.removeprefix(TORCHVISION), named, stated)
    return load_timm_tagger(source, backbone, named, stated)


def _require_backbone(source: Path, kind: ModelKind, backbone: str | None, labels: LabelSpace | None) -> None:
    """Raise an error unless a checkpoint's model is named, and that of a folder, which names it itself, is not."""
    if kind == "checkpoint" and backbone is None:
        require_no_code(source)  # no name would help it
        also = "" if labels is not None else "; and --labels FILE, the names of its outputs (for open_clip none)"
        raise InputError(
            f"{source}: say --backbone, the name of the model that it is a checkpoint of: timm's such as resnet50, "
            f"torchvision:resnet50, or open_clip:ViT-B-32{also}"
        )
    if kind != "checkpoint" and backbone is not None:
        raise InputError(f"--backbone {backbone}: is for a checkpoint; {source} is a folder that says what it is of")


def _require_no_labels(labels: LabelSpace | None, source: Path) -> None:
    if labels is not None:
        raise InputError(
            f"{source}: a pair of encoders has no outputs to name, and takes the labels of the data set: leave out "
            f"--labels, and say --prompts FILE for other texts than their names"
        )


def _require_no_prompts(prompts: Path | None, source: Path) -> None:
    if prompts is not None:
        raise InputError(f"--prompts {prompts}: is for a pair of encoders; {source} has outputs of its own")


def write_teacher(
    model: MultiLabelModel, source: Path, verified: MultiLabelDataset, out: Path, *, keep_labels: bool = False
) -> Bundle:
    """Make a bundle of kind torch, a teacher, of a finished model with a linear head.

    Args:
        model: its labels include those of `verified`; its head keeps only these, in the data set's order.
        keep_labels: whether its head keeps all of its labels instead, which may then be others.
        source: the checkpoint, or the folder with it, that it was loaded from.
        verified: the split on which its mAP is reported.

    Raises:
        InputError: labels of the data set are not among the model's.
    """
    kept = model.labels if keep_labels else verified.labels
    require_among(kept, model.labels, source, verified.root)
    inputs = inputs_hash(
        {
            "adopted": file_sha256(source if source.is_file() else weights_in(source)),
            "as": [model.config.backbone, model.labels.names, kept.names],
            "preprocess": model.preprocess.model_dump(mode="json"),
            "tools": [version("timm"), version("edgepress")],
        }
    )
    if (made := up_to_date(out, inputs)) is not None:
        return made
    model.keep([model.labels.index(label) for label in kept], kept)
    logits = answer_split(model.answer, model.preprocess, verified)
    tell_finished(source.name, model.answer, model.preprocess, kept, verified, logits, fractional=True)
    write_model(model, out, inputs=inputs, facts=Facts(role="teacher", weights=f"adopted from {source.name}"))
    return Bundle.open(out)
