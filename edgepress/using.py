"""The verbs that use what was made, or look things over: predict, inspect, data, shard, doctor."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from edgepress.options import (
    BundlePath,
    DataArgument,
    Device,
    Difficult,
    Format,
    Json,
    Rebuild,
    load,
    print_result,
    stdout,
)
from multilabel.errors import InputError


def predict_verb(
    bundle: BundlePath,
    pictures: Annotated[list[Path], typer.Argument(help="Picture files.")],
    device: Device = "cpu",
    rebuild: Rebuild = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a picture, with every probability.")] = False,
) -> None:
    """Tag pictures: a line each, with the labels at or above their thresholds."""
    from json import dumps

    from deploy.passport import fitted
    from deploy.tagger import open_tagger
    from multilabel.bundle import Bundle

    broken = 0
    with open_tagger(fitted(Bundle.open(bundle), rebuild=rebuild), device) as tagger:
        for picture in pictures:
            try:
                probabilities = tagger.predict(picture)
            except InputError as error:  # one broken picture must not cost the others their tags
                print(f"edgepress: {error}", file=sys.stderr)
                broken += 1
                continue
            tags = tagger.tags(probabilities)
            if json:
                line = dumps({"file": str(picture), "tags": tags, "probabilities": probabilities}, ensure_ascii=False)
            else:
                shown = "  ".join(f"{name} {probabilities[name]:.2f}" for name in tags)
                line = f"{picture}  {shown or '(no label over its threshold)'}"
            print(line, flush=True)
    if broken:
        raise typer.Exit(2)


def inspect_verb(bundle: BundlePath, json: Json = False) -> None:
    """Check every byte of a bundle and print what it says of itself."""
    from multilabel.bundle import Bundle

    opened = Bundle.open(bundle)
    manifest = opened.manifest.model_dump(mode="json")
    if not json:
        manifest.get("facts", {}).pop("history", None)
    print_result({"path": str(opened.path), "digest": opened.digest, "size_bytes": opened.size_bytes, **manifest}, json)


def data_verb(
    data: DataArgument,
    split: Annotated[list[str] | None, typer.Option("--split", help="Only these splits (default: all).")] = None,
    format: Format = "auto",
    difficult: Difficult = "ignore",
    json: Json = False,
) -> None:
    """Look a data set over: counts, imbalance, co-occurrence, broken pictures, duplicates across splits."""
    from edgepress.report import print_data
    from multilabel.datasets import list_splits
    from multilabel.inspection import inspect_dataset

    names = split or list_splits(data, format)  # type: ignore[arg-type] # checked there
    report = inspect_dataset({name: load(data, format, difficult, name) for name in names})
    if json:
        print_result(report.as_dict(), json)
    else:
        print_data(report, stdout())


def shard_verb(
    data: DataArgument,
    out: Annotated[Path, typer.Option("--out", help="The folder for the shards: new, or of an earlier call.")],
    splits: Annotated[str | None, typer.Option("--splits", help="Splits, by commas (default: all).")] = None,
    shard_size: Annotated[int, typer.Option("--shard-size", min=1, help="The most MB in one tar.")] = 256,
    format: Format = "auto",
    difficult: Difficult = "ignore",
) -> None:
    """Copy a data set into WebDataset shards, which may lie on several disks; every verb reads them as data.

    An interrupted call goes on with the tars that are missing.
    """
    from multilabel.datasets import list_splits
    from multilabel.shards import write_shards

    names = splits.split(",") if splits is not None else list_splits(data, format)  # type: ignore[arg-type] # checked
    loaded = [load(data, format, difficult, name) for name in names]
    write_shards(loaded, out, shard_bytes=shard_size * 1_000_000)
    print(out)


def doctor_verb(json: Json = False) -> None:
    """Say which backends work on this machine, and for the others what mends it."""
    from deploy.device import check_backends, describe_machine

    backends, machine = check_backends(), describe_machine()
    if json:
        print_result({"machine": machine, "backends": [vars(backend) for backend in backends]}, json)
        return
    table = Table("backend", "works", "detail", title=f"{machine['processor']}, {machine['cores']} cores")
    for backend in backends:
        table.add_row(backend.name, "yes" if backend.works else "no", backend.detail)
    stdout().print(table)
