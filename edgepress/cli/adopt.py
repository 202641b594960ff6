"""adopt: make a verified bundle of a finished ONNX tagger."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepress.cli.flags import Flags, FlagsOf
from edgepress.cli.options import Data, Out, Reader, Split
from edgepress.deploy.build.foreign import AdoptConfig
from edgepress.multilabel.bundle import require_replaceable
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.lock import only_writer


def verb(
    source: Annotated[Path, typer.Argument(help="An ONNX file that takes pictures and gives a score per label.")],
    out: Out,
    data: Data,
    reader: Reader,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="The names of its outputs, one per line and in their order.")
    ] = None,
    split: Split = "test",
    *,
    flags: Annotated[Flags, FlagsOf(AdoptConfig)],
) -> None:
    """Make a verified bundle of a finished ONNX tagger.

    The graph gets the front that every engine has (uint8 pictures, normalisation inside), and is proven to answer as
    the file does by itself. Then quantize, compile, calibrate, verify, bench, predict and demo take it, without torch.
    """
    from edgepress.deploy.build.adopt import adopt_onnx

    config = AdoptConfig.parse(flags, "flags")
    require_replaceable(out, "onnx", "fp32")
    named = LabelSpace.from_file(labels) if labels is not None else None
    verified = reader.checked(data, split)[0]
    with only_writer(out):
        print(adopt_onnx(source, verified, out, labels=named, config=config).path)
