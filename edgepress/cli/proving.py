"""The verbs that prove what was made: verify and bench."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from edgepress.cli.flags import with_flags
from edgepress.cli.options import (
    BundlePath,
    Data,
    Device,
    Difficult,
    Format,
    HostName,
    HostPython,
    Json,
    Rebuild,
    Split,
    SshOption,
    load,
    print_result,
    stdout,
)
from edgepress.multilabel.bundle import write_atomically
from edgepress.multilabel.errors import EngineUnavailableError, InputError
from edgepress.remote.host import OTHER, as_flags, host_of, run_there
from edgepress.report.bench_table import print_bench
from edgepress.report.verification import print_verification
from edgepress.run.recipe import BenchConfig


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
    stages: Annotated[
        bool,
        typer.Option("--stages", help="Compare every step from torch to the engine, also where the verdict is pass."),
    ] = False,
    layers: Annotated[
        bool, typer.Option("--layers", help="Compare the tensors inside the graph with its float ONNX graph's.")
    ] = False,
    rebuild: Rebuild = False,
    host: HostName = None,
    host_python: HostPython = None,
    ssh_option: SshOption = None,
    json: Json = False,
) -> None:
    """Prove an engine against the model it came from, on real pictures; exit code 1 where it does not pass.

    An engine passes where the whole 95 % interval of its drop in mAP is within the budget. Where only the drop itself
    is, the verdict is "unproven": more pictures decide.

    An engine that this machine cannot run gets the verdict "not run" with the reason, and exit code 0 unless it is
    required.
    """
    from edgepress.deploy.build.rebuild import fitted
    from edgepress.deploy.verify.verification import verify
    from edgepress.multilabel.bundle import Bundle

    opened = Bundle.open(bundle)
    there = host_of(host, host_python, ssh_option)
    if there is not None:
        given = as_flags({"device": device, "budget": budget, "required": required, "stages": stages, "layers": layers})
        answer = run_there(there, "verify", opened, given, load(data, format, difficult, split))
        print_verified(answer.record, json)
        raise typer.Exit(answer.code)
    try:
        opened = fitted(opened, rebuild=rebuild)
        pictures = load(data, format, difficult, split)
        result = verify(opened, pictures, device, budget, stages=stages, layers=layers).as_dict()
    except EngineUnavailableError as error:
        result = {"engine": opened.name, "verdict": "not run", "reasons": [str(error)]}
    print_verified(result, json)
    if result["verdict"] in ("fail", "unproven") or (required and result["verdict"] == "not run"):
        raise typer.Exit(1)


def print_verified(result: dict[str, Any], as_json: bool) -> None:
    """A verification, as JSON or as tables."""
    if as_json:
        print_result(result, as_json)
    else:
        print_verification(result, stdout())


@with_flags(BenchConfig)
def bench_verb(
    bundle: BundlePath,
    data: Annotated[Path | None, typer.Option("--data", help="Time on its pictures (default: generated ones)")] = None,
    split: Split = "test",
    format: Format = "auto",
    difficult: Difficult = "ignore",
    device: Device = "cpu",
    hint: Annotated[str, typer.Option("--hint", help="What OpenVINO compiles for: latency, throughput.")] = "latency",
    threads: Annotated[
        int | None, typer.Option("--threads", help="Of ONNX Runtime and OpenVINO's CPU (default: they choose).")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", help="Another bundle, timed in turn with this one; or a record made by --save."),
    ] = None,
    save: Annotated[Path | None, typer.Option("--save", help="File to write the record to, as JSON.")] = None,
    rebuild: Rebuild = False,
    host: HostName = None,
    host_python: HostPython = None,
    ssh_option: SshOption = None,
    json: Json = False,
    *,
    flags: dict[str, Any],
) -> None:
    """Time an engine on this machine: the model alone, and from JPEG bytes to logits.

    The exit code is 0 also where this machine cannot run the engine; the record then says why.
    """
    config = BenchConfig.parse(flags, "flags")
    if hint not in ("latency", "throughput"):
        raise InputError(f"--hint {hint!r}: expected latency or throughput")
    from edgepress.deploy.bench.against import Record, against_bundle, against_record, open_other
    from edgepress.deploy.bench.latency import bench
    from edgepress.deploy.build.rebuild import fitted
    from edgepress.multilabel.bundle import Bundle
    from edgepress.multilabel.pictures import read_bytes

    opened, other = Bundle.open(bundle), open_other(against) if against else None
    there = host_of(host, host_python, ssh_option)
    if there is not None:
        timed = load(data, format, difficult, split) if data else None
        timed = timed and timed.subset(np.arange(min(64, len(timed))))
        second = other if isinstance(other, Bundle) else None
        given = {"device": device, "hint": hint, "threads": threads}
        given["against"] = f"{OTHER}/{second.name}" if second else None
        answer = run_there(there, "bench", opened, as_flags({**given, **flags}), timed, second)
        if isinstance(other, Record) and "cells" in answer.record:
            answer.record["against"] = against_record(answer.record, other).model_dump()
        print_timed(answer.record, save, json)
        raise typer.Exit(answer.code)
    pictures = [read_bytes(path) for path in load(data, format, difficult, split).paths[:64]] if data else None
    settings: dict[str, Any] = {"device": device, "hint": hint, "threads": threads, "seconds": config.seconds}
    try:
        opened = fitted(opened, rebuild=rebuild)
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
    """A benchmark, as JSON or as a table, and in a file where one is named."""
    if save is not None:
        write_atomically(save, (dumps(result, indent=2, ensure_ascii=False) + "\n").encode())
    if as_json or "cells" not in result:
        print_result(result, as_json)
    else:
        print_bench(result, stdout())
