"""answers: store an engine's answers for a data set, to teach where the engine cannot run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepress.cli.options import BundlePath, Data, DataFlags, Device, Threads
from edgepress.multilabel.datasets.unlabelled import load_unlabelled
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.folder_kinds import refuse_swapped
from edgepress.multilabel.stored_answers import SUFFIXES


def verb(
    bundle: BundlePath,
    data: Data,
    reader: DataFlags,
    out: Annotated[Path, typer.Option("--out", help="The file to write, .npz or .parquet.")],
    splits: Annotated[str | None, typer.Option("--splits", help="Splits, by commas (default: all).")] = None,
    unlabelled: Annotated[
        Path | None, typer.Option("--unlabelled", help="A folder of pictures that nobody labelled, as well.")
    ] = None,
    device: Device = "cpu",
    threads: Threads = None,
) -> None:
    """Store an engine's answers for a data set.

    The file has the logits of every picture, which is named by the sha256 of its file. It is a teacher
    (distill --teacher FILE) on a machine where the engine does not run.
    """
    from edgepress.deploy.engines import open_engine
    from edgepress.run.answers import store_answers

    if out.suffix not in SUFFIXES:
        raise InputError(f"{out}: expected a file that ends in {' or '.join(SUFFIXES)}")
    refuse_swapped("answers {bundle} --data {data} --out FILE", bundle, data)
    names = splits.split(",") if splits is not None else reader.splits(data)
    loaded = reader.checked(data, *names)
    if unlabelled is not None:
        loaded.append(load_unlabelled(unlabelled, loaded[0].labels))
    with open_engine(bundle, device, threads=threads) as engine:
        print(store_answers(engine, loaded, out).path)
