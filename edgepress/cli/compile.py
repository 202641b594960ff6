"""compile: turn an ONNX bundle into an engine of a runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepress.cli.flags import Flags, FlagsOf
from edgepress.deploy.engines.table import compiled
from edgepress.multilabel.bundle import Bundle, require_replaceable
from edgepress.multilabel.config import FLAGS
from edgepress.run.recipe import CompileConfig


def verb(
    onnx: Annotated[Path, typer.Argument(help="An ONNX bundle; for TensorRT INT8 that of quantize --target tensorrt.")],
    engine: Annotated[str, typer.Option("--engine", help=f"{', '.join(compiled())}.")],
    out: Annotated[Path | None, typer.Option("--out", help="The bundle to make; by default beside ONNX.")] = None,
    *,
    flags: Annotated[Flags, FlagsOf(CompileConfig)],
) -> None:
    """Compile an ONNX bundle for a runtime.

    A TensorRT engine takes the precision of its ONNX.
    """
    config = CompileConfig.parse(flags, FLAGS)
    from edgepress.run.build import compile_bundle, require_compiled

    require_compiled(engine, onnx)
    bundle = Bundle.open(onnx, kind="onnx")
    if out is not None:
        kind, _, precision = engine.partition("-")
        require_replaceable(out, kind, precision or bundle.manifest.precision)  # type: ignore[arg-type] # checked there
    print(compile_bundle(bundle, engine, out, config).path)
