"""export: write a student as ONNX, or an engine as another program takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepress.cli.flags import Flags, FlagsOf, FolderOrUrl
from edgepress.cli.options import DataFlags, Out, Split
from edgepress.compress.config import ModelConfig
from edgepress.multilabel.bundle import Bundle, require_replaceable
from edgepress.multilabel.errors import InputError, require_choice
from edgepress.multilabel.folder_kinds import refuse_swapped
from edgepress.multilabel.lock import only_writer
from edgepress.run.layouts import LAYOUTS, write_layout

Pictures = Annotated[
    Path | None, typer.Option("--data", help="The pictures that engines are verified on."), FolderOrUrl()
]


def verb(
    out: Out,
    reader: DataFlags,
    student: Annotated[
        Path | None, typer.Argument(help="The student: a bundle of kind torch; for --layout an engine's.")
    ] = None,
    data: Pictures = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="A whole model's .safetensors; replaces the bundle's weights.")
    ] = None,
    labels: Annotated[Path | None, typer.Option("--labels", help="labels.txt, for weights from elsewhere.")] = None,
    layout: Annotated[
        str | None,
        typer.Option("--layout", help=f"A bundle that runs, as another program takes it: {', '.join(LAYOUTS)}."),
    ] = None,
    attention: Annotated[
        bool, typer.Option("--attention", help="Also give what each label looks at, for the demo.")
    ] = False,
    generated_pictures: Annotated[
        bool,
        typer.Option(
            "--generated-pictures",
            help="Store generated golden pictures in the bundle, and not eight of the split, which its users get.",
        ),
    ] = False,
    split: Split = "test",
    *,
    flags: Annotated[Flags, FlagsOf(ModelConfig)],
) -> None:
    """Write a student as ONNX, the parent of every engine.

    Torch's logits on a split go with it: engines are verified against them.

    The model is a STUDENT bundle, or --weights of a file that edgepress wrote, or --weights of any file that fits
    --backbone, --head, --width and --size. With --layout a bundle that runs is written for another program instead:
    Triton Inference Server, OpenVINO Model Server, OpenVINO Model API, DeepStream, the Hugging Face hub, or (free-size)
    any program that decodes pictures and does not scale them.
    """
    if layout is not None:
        given = {"data": data, "weights": weights, "labels": labels, "attention": attention}
        more = {**given, "generated-pictures": generated_pictures, **flags}
        _hand_off(layout, student, out, [name for name, value in more.items() if value])
        return
    from edgepress.run.build import export_student

    refuse_swapped("export {bundle} --data {data} --out DIR", student, data)
    if student is not None and student.is_dir() and (kind := Bundle.open(student).manifest.kind) != "torch":
        raise InputError(
            f"{student}: a bundle of kind {kind} is exported already; expected a student (torch), or for another "
            f"program edgepress export {student} --layout LAYOUT --out DIR, of {', '.join(LAYOUTS)}"
        )
    if data is None:
        raise InputError("export needs --data DIR: the pictures that the engines made from it are verified on")
    require_replaceable(out, "onnx", "fp32")
    verified = reader.checked(data, split)[0]
    with only_writer(out):
        made = export_student(
            student, weights, labels, flags, verified, out, attention=attention, generated_pictures=generated_pictures
        )
        print(made.path)


def _hand_off(layout: str, bundle: Path | None, out: Path, more: list[str]) -> None:
    """Write a bundle in a layout.

    Args:
        more: names of the other options that were given.

    Raises:
        InputError: there are any, there is no bundle, or see `write_layout`.
    """
    require_choice("--layout", layout, LAYOUTS)
    if bundle is None or more:
        others = " and ".join(f"--{name.replace('_', '-')}" for name in more)
        told = f"goes without {others}" if more else "is for a bundle, and none is named"
        raise InputError(f"--layout {layout} {told}; expected edgepress export BUNDLE --layout {layout} --out DIR")
    print(write_layout(layout, Bundle.open(bundle), out))
