"""bench: measure how long an engine takes on this machine, or on another."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from edgepress.cli.flags import Flags, FlagsOf
from edgepress.cli.options import (
    BundlePath,
    Device,
    Json,
    Reader,
    Rebuild,
    Remote,
    Split,
    Threads,
    Unproven,
    print_json,
)
from edgepress.multilabel.bundle import Bundle, write_atomically
from edgepress.multilabel.errors import EngineUnavailableError, InputError
from edgepress.remote.host import OTHER, as_flags, run_there
from edgepress.report.bench_table import print_bench
from edgepress.report.terminal import print_record, stdout
from edgepress.run.recipe import BenchConfig


def verb(
    bundle: BundlePath,
    reader: Reader,
    remote: Remote,
    data: Annotated[Path | None, typer.Option("--data", help="Time on its pictures (default: generated ones)")] = None,
    split: Split = "test",
    device: Device = "cpu",
    hint: Annotated[str, typer.Option("--hint", help="What OpenVINO compiles for: latency, throughput.")] = "latency",
    threads: Threads = None,
    unproven: Unproven = False,
    against: Annotated[
        Path | None,
        typer.Option("--against", help="Another bundle, timed in turn with this one; or a record made by --save."),
    ] = None,
    save: Annotated[Path | None, typer.Option("--save", help="File to write the record to, as JSON.")] = None,
    rebuild: Rebuild = False,
    json: Json = False,
    *,
    flags: Annotated[Flags, FlagsOf(BenchConfig)],
) -> None:
    """Time an engine, on this machine or another.

    Both the model alone is timed, and the whole way from JPEG bytes to logits.

    The exit code is 0 also where this machine cannot run the engine; the record then says why.
    """
    config = BenchConfig.parse(flags, "flags")
    if hint not in ("latency", "throughput"):
        raise InputError(f"--hint {hint!r}: expected latency or throughput")
    from edgepress.deploy.bench.against import Record, against_bundle, against_record, open_other
    from edgepress.deploy.bench.latency import bench
    from edgepress.deploy.build.rebuild import fitted
    from edgepress.multilabel.pictures import read_bytes

    opened, other = Bundle.open(bundle), open_other(against) if against else None
    there = remote.host_given()
    if there is not None:
        timed = reader.load(data, split) if data else None
        timed = timed and timed.subset(np.arange(min(64, len(timed))))
        second = other if isinstance(other, Bundle) else None
        given = {"device": device, "hint": hint, "threads": threads, "unproven": unproven}
        given["against"] = f"{OTHER}/{second.name}" if second else None
        answer = run_there(there, "bench", opened, as_flags({**given, **flags}), timed, second)
        if isinstance(other, Record) and "cells" in answer.record:
            answer.record["against"] = against_record(answer.record, other).model_dump()
        print_timed(answer.record, save, json)
        raise typer.Exit(answer.code)
    pictures = [read_bytes(path) for path in reader.load(data, split).paths[:64]] if data else None
    settings: dict[str, Any] = {"device": device, "hint": hint, "threads": threads, "unproven": unproven}
    try:
        opened = fitted(opened, rebuild=rebuild)
        settings["seconds"] = config.seconds
        result = bench(opened, pictures, batches=config.batches, streams=config.stream_counts, **settings).as_dict()
        if isinstance(other, Bundle):
            other = fitted(other, rebuild=rebuild)
            result["against"] = against_bundle(opened, other, pictures, config.batches, **settings).model_dump()
        elif other is not None:
            result["against"] = against_record(result, other).model_dump()
    except EngineUnavailableError as error:
        result = {"engine": opened.name, "verdict": "not run", "reasons": [str(error)]}
    print_timed(result, save, json)


def print_timed(result: dict[str, Any], save: Path | None, as_json: bool) -> None:
    """Print a benchmark as JSON or as a table, and save it if a file is named."""
    if save is not None:
        write_atomically(save, (dumps(result, indent=2, ensure_ascii=False) + "\n").encode())
    if as_json:
        print_json(result)
    elif "cells" not in result:
        print_record(stdout(), result)
    else:
        print_bench(result, stdout())
