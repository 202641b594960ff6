"""shard: copy a data set into WebDataset shards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepress.cli.options import DataArgument, DataFlags


def verb(
    data: DataArgument,
    reader: DataFlags,
    out: Annotated[Path, typer.Option("--out", help="The folder for the shards: new, or of an earlier call.")],
    splits: Annotated[str | None, typer.Option("--splits", help="Splits, by commas (default: all).")] = None,
    shard_size: Annotated[int, typer.Option("--shard-size", min=1, help="The most MB in one tar.")] = 256,
) -> None:
    """Copy a data set into WebDataset shards.

    The shards may lie on several disks, and every verb reads them as data. An interrupted call
    goes on with the tars that are missing.
    """
    from edgepress.multilabel.shards import write_shards

    names = splits.split(",") if splits is not None else reader.splits(data)
    write_shards(reader.load_all(data, names), out, shard_bytes=shard_size * 1_000_000)
    print(out)
