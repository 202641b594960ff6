"""adopt: make a verified bundle of a finished tagger: an ONNX file, a checkpoint, or a folder of transformers."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgepress.cli.flags import Flags, FlagsOf
from edgepress.cli.options import Data, DataFlags, Out, Split
from edgepress.deploy.build.foreign import AdoptConfig
from edgepress.multilabel.bundle import Bundle, require_replaceable
from edgepress.multilabel.config import FLAGS
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.folder_kinds import holds_pictures, is_bundle
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.lock import only_writer
from edgepress.multilabel.model_files import ModelKind, kind_of
from edgepress.multilabel.output_names import output_names

if TYPE_CHECKING:
    from edgepress.compress.finished import FinishedModule
    from edgepress.compress.models import MultiLabelModel

OFTEN = ("mean", "std", "size", "resize", "colors", "layout", "output", "activation")


def verb(
    source: Annotated[
        Path,
        typer.Argument(
            help="An ONNX file, a checkpoint (with --backbone), or a folder of timm, transformers or open_clip."
        ),
    ],
    out: Out,
    data: Data,
    reader: DataFlags,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="The names of its outputs in their order: a text, .json or .csv.")
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone",
            help="The model that a checkpoint is of: timm's name, torchvision:NAME, or open_clip:NAME.",
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option("--prompts", help="The texts of each label in YAML, for a pair of encoders."),
    ] = None,
    split: Split = "test",
    *,
    flags: Annotated[Flags, FlagsOf(AdoptConfig, OFTEN)],
) -> None:
    """Make a verified bundle of a finished tagger.

    A model that takes pictures and gives a score per label gets the front that every engine has (uint8 pictures,
    normalisation inside), and is proven to answer as it does by itself. Then it is taken as a student is, without
    torch, and as a teacher. A timm checkpoint with a linear head becomes a torch bundle, to teach or to export. A pair
    of encoders (CLIP, SigLIP) tags with the data set's own labels.
    """
    config = AdoptConfig.parse(flags, FLAGS)
    named = output_names(labels) if labels is not None else None
    if is_bundle(data) and source.is_dir() and holds_pictures(source):
        raise InputError(f"{data} is a bundle already, and {source} holds pictures; adopt takes a model and --data")
    kind = kind_of(source)
    if kind == "onnx":
        for option, value in (("--backbone", backbone), ("--prompts", prompts)):
            if value is not None:
                raise InputError(f"{option} {value}: is not for an ONNX file such as {source}")
        require_replaceable(out, "onnx", "fp32")
        from edgepress.deploy.build.adopt import adopt_onnx

        verified = reader.checked(data, split)[0]
        with only_writer(out):
            print(adopt_onnx(source, verified, out, labels=named, config=config).path)
        return
    for option in ("layout", "output"):
        if option in flags:
            raise InputError(f"--{option} is for ONNX files; {source} is none")
    verified = reader.load(data, split)
    model = _load(source, kind, verified.labels, config, flags, backbone, named, prompts)
    print(_bundle_of(model, source, verified, out, config).path)


def _load(
    source: Path,
    kind: ModelKind,
    wanted: LabelSpace,
    config: AdoptConfig,
    flags: Flags,
    backbone: str | None,
    labels: LabelSpace | None,
    prompts: Path | None,
) -> MultiLabelModel | FinishedModule:
    from edgepress.compress.adopt import load_finished
    from edgepress.compress.finished import Stated

    # A default of AdoptConfig is no statement: what a checkpoint's own library or its folder says comes before it.
    stated = Stated(**{field.name: getattr(config, field.name) for field in fields(Stated) if field.name in flags})
    return load_finished(source, kind, wanted, stated, backbone=backbone, labels=labels, prompts=prompts)


def _bundle_of(
    model: MultiLabelModel | FinishedModule, source: Path, verified: MultiLabelDataset, out: Path, config: AdoptConfig
) -> Bundle:
    from edgepress.compress.adopt import write_teacher
    from edgepress.compress.models import MultiLabelModel
    from edgepress.deploy.build.module import export

    if isinstance(model, MultiLabelModel):
        require_replaceable(out, "torch", "fp32", "teacher")
        verified.check_pictures()
        with only_writer(out):
            return write_teacher(model, source, verified, out, keep_labels=config.keep_labels)
    require_replaceable(out, "onnx", "fp32")
    verified.check_pictures()
    with only_writer(out):
        return export(
            model.module,
            model.preprocess,
            model.labels,
            verified,
            out,
            activation=model.activation,
            colors=model.colors,
            name=model.name,
            keep_labels=config.keep_labels,
            generated_pictures=config.generated_pictures,
        )
