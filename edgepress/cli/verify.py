"""verify: prove an engine against the model that it came from."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from edgepress.cli.options import BundlePath, Data, Device, Json, Reader, Rebuild, Remote, Split, Threads, print_json
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import EngineUnavailableError
from edgepress.multilabel.judgement import Reason, judge
from edgepress.remote.host import as_flags, run_there
from edgepress.report.terminal import stdout
from edgepress.report.verification import print_verification


def verb(
    bundle: BundlePath,
    data: Data,
    reader: Reader,
    remote: Remote,
    split: Split = "test",
    device: Device = "cpu",
    threads: Threads = None,
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
    json: Json = False,
) -> None:
    """Prove an engine against the model it came from.

    The engine answers real pictures; exit code 1 where it does not pass.

    An engine passes where the whole 95 % interval of its drop in mAP is within the budget. Where only the drop itself
    is, the verdict is "unproven": more pictures decide.

    An engine that this machine cannot run gets the verdict "not run" with the reason, and exit code 0 unless it is
    required.
    """
    from edgepress.deploy.build.rebuild import fitted
    from edgepress.deploy.verify.verification import verify

    opened = Bundle.open(bundle)
    there = remote.host_given()
    if there is not None:
        asked = {"device": device, "threads": threads, "budget": budget, "required": required}
        given = as_flags({**asked, "stages": stages, "layers": layers})
        answer = run_there(there, "verify", opened, given, reader.load(data, split))
        print_verified(answer.record, json)
        raise typer.Exit(answer.code)
    try:
        opened = fitted(opened, rebuild=rebuild)
        pictures = reader.load(data, split)
        found = verify(opened, pictures, device, budget, threads=threads, stages=stages, layers=layers)
        result = found.as_dict()
    except EngineUnavailableError as error:
        result = {"engine": opened.name, **judge([Reason(kind="machine", text=str(error))]).as_dict()}
    print_verified(result, json)
    if result["verdict"] in ("fail", "unproven") or (required and result["verdict"] == "not run"):
        raise typer.Exit(1)


def print_verified(result: dict[str, Any], as_json: bool) -> None:
    """Print a verification as JSON or as tables."""
    if as_json:
        print_json(result)
    else:
        print_verification(result, stdout())
