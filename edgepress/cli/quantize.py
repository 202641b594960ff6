"""quantize: make an INT8 model for a target, with the ranges of its values from training pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepress.cli.flags import Flags, FlagsOf
from edgepress.cli.options import Data, DataFlags, Remote, Test, Train, Val
from edgepress.deploy.engines.table import quantized
from edgepress.deploy.machine.device import describe_machine
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.config import FLAGS
from edgepress.multilabel.errors import InputError, require_choice
from edgepress.multilabel.folder_kinds import refuse_swapped
from edgepress.multilabel.judgement import judge
from edgepress.multilabel.lock import only_writer
from edgepress.report.terminal import stdout
from edgepress.run.recipe import QuantizeConfig


def verb(
    onnx: Annotated[Path, typer.Argument(help="The fp32 ONNX bundle.")],
    data: Data,
    target: Annotated[str, typer.Option("--target", help=f"One of {', '.join(quantized())}.")],
    reader: DataFlags,
    remote: Remote,
    out: Annotated[Path | None, typer.Option("--out", help="The bundle to make; by default beside ONNX.")] = None,
    train: Train = "train",
    val: Val = "val",
    test: Test = "test",
    *,
    flags: Annotated[Flags, FlagsOf(QuantizeConfig)],
) -> None:
    """Make an INT8 model for a target.

    Takes the fastest candidate that loses no more on val than is allowed, in mAP and in decisions, and prints what
    every candidate of the search reached. Exit code 1 where the one that was taken loses more, or is slower than fp32
    on this machine.

    With --host a device answers val and times every candidate, and the choice goes by that.
    """
    config = QuantizeConfig.parse(flags, FLAGS)
    from edgepress.report.summary import print_trade
    from edgepress.run.judge import missed_on_val, slower_than_fp32
    from edgepress.run.quantize import quantize_bundle
    from edgepress.run.splits import load_splits

    names = quantized(config.weight_bits)
    require_choice("--target", target, names)
    there = remote.host_given()
    if there is not None and target == "tensorrt":
        raise InputError(
            "--host: an engine of a TensorRT graph takes minutes to build, so its search times no candidate on a "
            "device; leave --host out, and time the engine itself with bench --host"
        )
    refuse_swapped(f"quantize {{bundle}} --data {{data}} --target {target}", onnx, data)
    bundle = Bundle.open(onnx, kind="onnx")
    splits = load_splits(str(data), train, val, test, reader.options)
    out = out or bundle.path.parent / names[target]
    with only_writer(out):
        made = quantize_bundle(bundle, splits, target, out, config, host=there)  # type: ignore[arg-type]
    print_trade(made, stdout())
    print(made.path)
    found = made.manifest.calibration
    missed = missed_on_val(found)
    judged = judge([missed, slower_than_fp32(found, describe_machine().processor)])
    for reason in judged.reasons:
        print(f"{made.name}: {reason.verdict}: {reason}")
    if judged.verdict != "pass":
        if missed and found is not None and found.untried:
            print(f"{made.name}: tried {found.tried_told}: more time may find another (--time-limit)")
        raise typer.Exit(1)
