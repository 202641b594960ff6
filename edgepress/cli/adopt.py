"""adopt: make a verified bundle from a finished tagger, an ONNX file or a timm checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepress.cli.flags import Flags, FlagsOf
from edgepress.cli.options import Data, Out, Reader, Split
from edgepress.deploy.build.foreign import AdoptConfig
from edgepress.multilabel.bundle import require_replaceable
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.lock import only_writer

CHECKPOINTS = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")


def verb(
    source: Annotated[Path, typer.Argument(help="An ONNX file, or with --backbone a checkpoint of timm.")],
    out: Out,
    data: Data,
    reader: Reader,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="The names of its outputs, one per line and in their order.")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option("--backbone", help="timm's name of the model that the checkpoint is of.")
    ] = None,
    split: Split = "test",
    *,
    flags: Annotated[Flags, FlagsOf(AdoptConfig)],
) -> None:
    """Make a verified bundle of a finished tagger.

    An ONNX file that takes pictures and gives a score per label gets the front that every engine has (uint8 pictures,
    normalisation inside), and is proven to answer as the file does by itself. Then quantize, compile, calibrate,
    verify, bench, predict and demo take it, without torch, and distill takes it as a teacher.

    A timm checkpoint (--backbone) becomes a teacher or a model to export; its classifier stays as it is.
    """
    config = AdoptConfig.parse(flags, "flags")
    named = LabelSpace.from_file(labels) if labels is not None else None
    if source.suffix in CHECKPOINTS:
        if backbone is None:
            raise InputError(f"{source}: say --backbone, timm's name of the model that this checkpoint is of")
        if named is None:
            raise InputError(
                f"{source}: does not name its outputs: say --labels FILE, one name per line in their order"
            )
        graphs = [name for name in ("colors", "layout", "output", "activation") if name in flags]
        if graphs:
            raise InputError(f"--{graphs[0]} is for ONNX files; {source} is a checkpoint")
        require_replaceable(out, "torch", "fp32", "teacher")
        from edgepress.compress.adopt import adopt_checkpoint

        pictures = {"size": config.size, "resize": config.resize, "mean": config.mean, "std": config.std}
        verified = reader.checked(data, split)[0]
        with only_writer(out):
            made = adopt_checkpoint(source, backbone, named, verified, out, **pictures)
    else:
        if backbone is not None:
            raise InputError(f"--backbone {backbone}: is for checkpoints; {source} is taken for an ONNX file")
        require_replaceable(out, "onnx", "fp32")
        from edgepress.deploy.build.adopt import adopt_onnx

        verified = reader.checked(data, split)[0]
        with only_writer(out):
            made = adopt_onnx(source, verified, out, labels=named, config=config)
    print(made.path)
