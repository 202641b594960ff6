"""bench: measure how long an engine takes on this machine, or on another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from edgepress.cli.flags import Flags, FlagsOf, FolderOrUrl
from edgepress.cli.options import (
    BundlePath,
    DataFlags,
    Device,
    Json,
    Rebuild,
    Remote,
    Split,
    Threads,
    Unproven,
    print_json,
    require_file,
)
from edgepress.deploy.bench.against import Record, Timed, against_bundle, against_record, open_other
from edgepress.multilabel.bundle import Bundle, write_atomically
from edgepress.multilabel.config import FLAGS
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.errors import EngineUnavailableError, require_choice
from edgepress.multilabel.folder_kinds import refuse_swapped
from edgepress.multilabel.judgement import NotRun
from edgepress.remote.verbs import OTHER, as_flags, bench_there
from edgepress.report.bench_table import print_bench
from edgepress.report.terminal import print_record, stdout
from edgepress.run.recipe import BenchConfig

MOST_PICTURES = 64
"""The first pictures of a data set are used in turn."""


def verb(
    bundle: BundlePath,
    reader: DataFlags,
    remote: Remote,
    data: Annotated[
        Path | None, typer.Option("--data", help="Time on its pictures (default: generated ones)"), FolderOrUrl()
    ] = None,
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
    config = BenchConfig.parse(flags, FLAGS)
    require_choice("--hint", hint, ("latency", "throughput"))
    require_file("--save", save)
    refuse_swapped("bench {bundle} --data {data}", bundle, data)
    opened, other = Bundle.open(bundle), open_other(against) if against else None
    given: dict[str, Any] = {"device": device, "hint": hint, "threads": threads, "unproven": unproven}
    there = remote.host_given()
    if there is None:
        encoded = _pictures(reader.load(data, split)) if data else None
        print_timed(_here(opened, other, encoded, config, given, rebuild), save, json)
        return
    pictures = reader.load(data, split) if data else None
    pictures = pictures and pictures.subset(np.arange(min(MOST_PICTURES, len(pictures))))
    second = other if isinstance(other, Bundle) else None
    given["against"] = f"{OTHER}/{second.name}" if second else None
    answer = bench_there(there, opened, as_flags({**given, **flags}), pictures, second)
    found = answer.found
    if isinstance(other, Record) and isinstance(found, Timed):
        found = replace(found, against=against_record(found.benchmark, other))
    print_timed(found, save, json, answer.place)
    raise typer.Exit(answer.code)


def _pictures(data: MultiLabelDataset) -> list[bytes]:
    from edgepress.multilabel.pictures import read_bytes

    return [read_bytes(path) for path in data.paths[:MOST_PICTURES]]


def _here(
    bundle: Bundle,
    other: Bundle | Record | None,
    encoded: list[bytes] | None,
    config: BenchConfig,
    given: dict[str, Any],
    rebuild: bool,
) -> Timed | NotRun:
    """Time an engine on this machine, or say why it cannot run."""
    from edgepress.deploy.bench.latency import bench
    from edgepress.deploy.build.rebuild import fitted

    settings = {**given, "seconds": config.seconds}
    try:
        bundle = fitted(bundle, rebuild=rebuild)
        timed = bench(bundle, encoded, batches=config.batches, streams=config.stream_counts, **settings)
        if isinstance(other, Bundle):
            other = fitted(other, rebuild=rebuild)
            against = against_bundle(bundle, other, encoded, config.batches, **settings)
            return Timed(benchmark=timed, against=against)
        return Timed(benchmark=timed, against=against_record(timed, other) if other is not None else None)
    except EngineUnavailableError as error:
        return NotRun(engine=bundle.name, reasons=(str(error),))


def print_timed(
    found: Timed | NotRun, save: Path | None, as_json: bool, place: Mapping[str, Any] | None = None
) -> None:
    """Print a benchmark as JSON or as a table, and save it if a file is named.

    Args:
        place: the first keys of the JSON; see `FoundThere.place`.
    """
    record = {**(place or {}), **(found.as_dict() if isinstance(found, Timed) else found.model_dump(mode="json"))}
    if save is not None:
        write_atomically(save, (dumps(record, indent=2, ensure_ascii=False) + "\n").encode())
    if as_json:
        print_json(record)
    elif isinstance(found, Timed):
        print_bench(found.benchmark, found.against, stdout())
    else:
        print_record(stdout(), record)
