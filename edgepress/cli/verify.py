"""verify: prove an engine against the model that it came from."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from edgepress.cli.flags import FolderOrUrl
from edgepress.cli.options import BundlePath, DataFlags, Device, Json, Rebuild, Remote, Split, Threads, print_json
from edgepress.deploy.engines.golden import has_golden
from edgepress.deploy.verify.callers import CALLERS
from edgepress.deploy.verify.decision_gate import BOUNDS
from edgepress.deploy.verify.golden import GoldenVerification, verify_golden
from edgepress.deploy.verify.references import require_engine
from edgepress.deploy.verify.verification import Verification, require_budget, verify
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.errors import EngineUnavailableError, InputError, require_choice
from edgepress.multilabel.folder_kinds import refuse_swapped
from edgepress.multilabel.judgement import NotRun
from edgepress.remote.verbs import as_flags, verify_golden_there, verify_there
from edgepress.report.golden import print_golden
from edgepress.report.terminal import stdout
from edgepress.report.verification import print_verification

Pictures = Annotated[
    Path | None, typer.Option("--data", help="The data set's folder, or a URL of shards."), FolderOrUrl()
]
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
    typer.Option("--golden", help="Check this machine by the pictures in the bundle; no --data."),
]


def _defaults(bound: str) -> str:
    return f"({', '.join(f'{name} {getattr(one, bound):g}' for name, one in BOUNDS.items())})"


_PER_YES = "per predicted positive"


@dataclass(frozen=True)
class Allowed:
    """What an engine may lose, in mAP and in its decisions (see `Bounds`), as options of the verb."""

    budget: Budget = None
    flips: Annotated[
        float | None, typer.Option("--flips", hidden=True, help=f"Allowed changes {_PER_YES}  {_defaults('flips')}")
    ] = None
    net_flips: Annotated[
        float | None,
        typer.Option(
            "--net-flips", hidden=True, help=f"Allowed more or fewer yes {_PER_YES}  {_defaults('net_flips')}"
        ),
    ] = None
    f1_drop: Annotated[
        float | None,
        typer.Option("--f1-drop", hidden=True, help=f"Allowed drop of OF1, CF1, in points  {_defaults('f1_drop')}"),
    ] = None
    label_drop: Annotated[
        float | None,
        typer.Option(
            "--label-drop",
            hidden=True,
            help=f"Allowed drop of a label's recall, precision, in points  {_defaults('label_drop')}",
        ),
    ] = None

    @property
    def decisions(self) -> dict[str, float | None]:
        """What is given of `Bounds`."""
        return {name: value for name, value in vars(self).items() if name != "budget"}


def verb(
    bundle: BundlePath,
    reader: DataFlags,
    remote: Remote,
    allowed: Allowed,
    data: Pictures = None,
    split: Split = "test",
    device: Device = "cpu",
    threads: Threads = None,
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

    An engine passes where the whole 95 % intervals of its drop in mAP, and of how its decisions changed, are
    allowed. Where only what was measured is, the verdict is "unproven": more pictures decide.

    An engine that this machine cannot run gets the verdict "not run" with the reason, and exit code 0 unless it is
    required. With --as the verdict is on the engine and on what that program does to pictures.

    With --golden the pictures in the bundle are decoded, resized, answered and decided here; the first step that
    differs is named.
    """
    from edgepress.deploy.build.rebuild import fitted

    if caller is not None:
        require_choice("--as", caller, CALLERS)
    refuse_swapped("verify {bundle} --data {data}", bundle, data)
    opened, there = Bundle.open(bundle), remote.host_given()
    require_budget(allowed.budget)
    bounds = BOUNDS[opened.manifest.precision].override(**allowed.decisions)
    given = [value is not None for value in vars(allowed).values()]
    load = _pictures(opened, reader, data, split, golden, proof=any(given) or stages or layers or caller is not None)
    if there is not None:
        asked = {"device": device, "threads": threads, "required": required, "golden": golden, **vars(allowed)}
        words = as_flags({**asked, "stages": stages, "layers": layers, "as": caller})
        answer = verify_golden_there(there, opened, words) if golden else verify_there(there, opened, words, load())
        print_verified(answer.found, json, answer.place)
        raise typer.Exit(answer.code)
    found: Verification | GoldenVerification | NotRun
    try:
        opened = fitted(opened, rebuild=rebuild)
        if golden:
            found = verify_golden(opened, device, threads=threads)
        else:
            proof = functools.partial(verify, threads=threads, stages=stages, layers=layers, caller=caller)
            found = proof(opened, load(), device, allowed.budget, bounds=bounds)
    except EngineUnavailableError as error:
        found = NotRun(engine=opened.name, reasons=(str(error),))
    print_verified(found, json)
    if found.verdict in ("fail", "unproven") or (required and found.verdict == "not run"):
        raise typer.Exit(1)


def _pictures(
    bundle: Bundle, reader: DataFlags, data: Path | None, split: str, golden: bool, *, proof: bool
) -> Callable[[], MultiLabelDataset]:
    """What loads the pictures that prove an engine.

    Args:
        proof: whether there are options that only this proof has.

    Raises:
        InputError: the bundle is a torch model, there is no data set, or one beside --golden.
    """
    require_engine(bundle)
    if golden and (data is not None or proof):
        raise InputError(
            "--golden: expected edgepress verify BUNDLE --golden, without a data set and without the options of a "
            "comparison on one, such as --as and --budget"
        )
    if data is None and not golden:
        alone = ", or --golden to check the machine with the bundle's own pictures" if has_golden(bundle) else ""
        raise InputError(f"verify needs --data DIR{alone}")
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
