"""The verbs that use what was made: verify, bench, predict, inspect, data, shard, doctor."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from edgepress.flags import with_flags
from edgepress.options import (
    BundlePath,
    Data,
    DataArgument,
    Device,
    Difficult,
    Format,
    Json,
    Rebuild,
    Split,
    load,
    print_result,
    stdout,
)
from edgepress.recipe import BenchConfig
from multilabel.errors import EngineUnavailableError, InputError


def verify_verb(
    bundle: BundlePath,
    data: Data,
    split: Split = "test",
    format: Format = "auto",
    difficult: Difficult = "ignore",
    device: Device = "cpu",
    budget: Annotated[
        float | None, typer.Option("--budget", help="Largest drop in mAP points (default: fp32 0.1, fp16 0.2, int8 1)")
    ] = None,
    required: Annotated[bool, typer.Option("--required", help="Exit code 1 where it cannot run here, too.")] = False,
    rebuild: Rebuild = False,
    json: Json = False,
) -> None:
    """Prove an engine against the model it came from, on real pictures; exit code 1 where it fails.

    An engine that this machine cannot run gets the verdict "not run" with the reason, and exit code 0 unless it is
    required.
    """
    from deploy.passport import fitted
    from deploy.verify import verify
    from multilabel.bundle import Bundle

    opened = Bundle.open(bundle)
    try:
        opened = fitted(opened, rebuild=rebuild)
        result = verify(opened, load(data, format, difficult, split), device, budget).as_dict()
    except EngineUnavailableError as error:
        result = {"engine": opened.name, "verdict": "not run", "reasons": [str(error)]}
    print_result(result, json)
    if result["verdict"] == "fail" or (required and result["verdict"] == "not run"):
        raise typer.Exit(1)


@with_flags(BenchConfig)
def bench_verb(
    bundle: BundlePath,
    data: Annotated[Path | None, typer.Option("--data", help="Time on its pictures (default: generated ones)")] = None,
    split: Split = "test",
    format: Format = "auto",
    difficult: Difficult = "ignore",
    device: Device = "cpu",
    rebuild: Rebuild = False,
    json: Json = False,
    *,
    flags: dict[str, Any],
) -> None:
    """Time an engine on this machine: the model alone, and from JPEG bytes to logits."""
    config = BenchConfig.parse(flags, "flags")
    from deploy.latency import bench
    from deploy.passport import fitted
    from multilabel.bundle import Bundle
    from multilabel.pictures import read_bytes

    opened = Bundle.open(bundle)
    pictures = [read_bytes(path) for path in load(data, format, difficult, split).paths[:64]] if data else None
    try:
        opened = fitted(opened, rebuild=rebuild)
        result = bench(opened, pictures, device=device, batch=config.batch, seconds=config.seconds).as_dict()
    except EngineUnavailableError as error:
        result = {"engine": opened.name, "verdict": "not run", "reasons": [str(error)]}
    print_result(result, json)


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
