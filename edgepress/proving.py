"""The verbs that prove what was made: verify and bench."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgepress.flags import with_flags
from edgepress.options import (
    BundlePath,
    Data,
    Device,
    Difficult,
    Format,
    Json,
    Rebuild,
    Split,
    load,
    print_result,
)
from edgepress.recipe import BenchConfig
from multilabel.errors import EngineUnavailableError


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
