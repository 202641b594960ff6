"""verify: prove an engine against the model that it came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from edgepress.cli.options import BundlePath, DataFlags, Device, Json, Rebuild, Remote, Split, Threads, print_json
from edgepress.deploy.verify.callers import CALLERS
from edgepress.deploy.verify.golden import GoldenVerification, verify_golden
from edgepress.deploy.verify.verification import Verification, verify
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.errors import EngineUnavailableError, InputError
from edgepress.multilabel.judgement import NotRun
from edgepress.remote.verbs import as_flags, verify_golden_there, verify_there
from edgepress.report.golden import print_golden
from edgepress.report.terminal import stdout
from edgepress.report.verification import print_verification

Pictures = Annotated[Path | None, typer.Option("--data", help="The data set's folder.")]
Budget = Annotated[
    float | None,
    typer.Option("--budget", help="The allowed drop in mAP points (default: fp32 0.1, fp16 0.2, int8 1)"),
]
Required = Annotated[bool, typer.Option("--required", help="Exit code 1 where it cannot run here, too.")]
Stages = Annotated[
    bool,
    typer.Option("--stages", help="Compare every step from the model to the engine, also where the verdict is pass."),
]
Layers = Annotated[
    bool, typer.Option("--layers", help="Compare the tensors inside the graph with its float ONNX graph's.")
]
AsCaller = Annotated[
    str | None,
    typer.Option("--as", help=f"Decode and scale the pictures as another program does: {', '.join(CALLERS)}."),
]
Golden = Annotated[
    bool,
    typer.Option("--golden", help="Check this machine with the pictures in the bundle, step by step; no data set."),
]


def verb(
    bundle: BundlePath,
    reader: DataFlags,
    remote: Remote,
    data: Pictures = None,
    split: Split = "test",
    device: Device = "cpu",
    threads: Threads = None,
    budget: Budget = None,
    required: Required = False,
    stages: Stages = False,
    layers: Layers = False,
    caller: AsCaller = None,
    golden: Golden = False,
    rebuild: Rebuild = False,
    json: Json = False,
) -> None:
    """Prove an engine against the model it came from.

    The engine answers real pictures; exit code 1 where it does not pass.

    An engine passes where the whole 95 % interval of its drop in mAP is allowed. Where only the drop itself
    is, the verdict is "unproven": more pictures decide.

    An engine that this machine cannot run gets the verdict "not run" with the reason, and exit code 0 unless it is
    required. With --as the verdict is on the engine and on what that program does to pictures.

    With --golden no data set is needed: the pictures that are stored in the bundle are decoded, resized, answered and
    decided here, and the first step that differs from where the bundle was made is named.
    """
    from edgepress.deploy.build.rebuild import fitted

    opened, there = Bundle.open(bundle), remote.host_given()
    load = _pictures(reader, data, split, golden, proof=budget is not None or stages or layers or caller is not None)
    if there is not None:
        asked = {"device": device, "threads": threads, "budget": budget, "required": required, "golden": golden}
        given = as_flags({**asked, "stages": stages, "layers": layers, "as": caller})
        answer = verify_golden_there(there, opened, given) if golden else verify_there(there, opened, given, load())
        print_verified(answer.found, json, answer.place)
        raise typer.Exit(answer.code)
    found: Verification | GoldenVerification | NotRun
    try:
        opened = fitted(opened, rebuild=rebuild)
        if golden:
            found = verify_golden(opened, device, threads=threads)
        else:
            found = verify(opened, load(), device, budget, threads=threads, stages=stages, layers=layers, caller=caller)
    except EngineUnavailableError as error:
        found = NotRun(engine=opened.name, reasons=(str(error),))
    print_verified(found, json)
    if found.verdict in ("fail", "unproven") or (required and found.verdict == "not run"):
        raise typer.Exit(1)


def _pictures(
    reader: DataFlags, data: Path | None, split: str, golden: bool, *, proof: bool
) -> Callable[[], MultiLabelDataset]:
    """What loads the pictures that prove an engine.

    Args:
        proof: whether there are options that only this proof has.

    Raises:
        InputError: there is no data set, or one beside --golden.
    """
    if golden and (data is not None or proof):
        raise InputError("--golden: expected edgepress verify BUNDLE --golden, without a data set and its options")
    if data is None and not golden:
        raise InputError("verify needs --data DIR, or --golden to check the machine with the bundle's own pictures")
    return lambda: reader.load(data or Path(), split)


def print_verified(
    found: Verification | GoldenVerification | NotRun, as_json: bool, place: Mapping[str, Any] | None = None
) -> None:
    """Print a verification as JSON or as tables.

    Args:
        place: the first keys of the JSON; see `FoundThere.place`.
    """
    if as_json and isinstance(found, NotRun):
        print_json({**(place or {}), "engine": found.engine, **found.judgement.as_dict()})
    elif as_json and not isinstance(found, NotRun):
        print_json({**(place or {}), **found.as_dict()})
    elif isinstance(found, GoldenVerification):
        print_golden(found, stdout())
    else:
        print_verification(found, stdout())
