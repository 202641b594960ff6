"""Options that several verbs share, and how verbs load data and print results."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich.console import Console
from rich.table import Table

from edgepress.multilabel.datasets import Difficult as DatasetDifficult
from edgepress.multilabel.datasets import Format as DatasetFormat

Data = Annotated[Path, typer.Option("--data", help="The data set's folder.")]
DataArgument = Annotated[Path, typer.Argument(help="The data set's folder.")]
Train = Annotated[str, typer.Option("--train", help="The split to learn and calibrate on.")]
Val = Annotated[str, typer.Option("--val", help="The split that chooses.")]
Test = Annotated[str, typer.Option("--test", help="The split that reports.")]
Format = Annotated[str, typer.Option("--format", help=f"The folder's layout: {', '.join(get_args(DatasetFormat))}.")]
Difficult = Annotated[
    str, typer.Option("--difficult", help=f"Pascal VOC's difficult objects: {', '.join(get_args(DatasetDifficult))}.")
]
Split = Annotated[str, typer.Option("--split", help="Any split's name.")]
RecipeFile = Annotated[Path | None, typer.Option("--recipe", help="A YAML file of settings; flags win.")]
Teachers = Annotated[
    list[Path] | None,
    typer.Option(
        "--teacher",
        help="The teacher: a bundle of kind torch; repeated, several answer as one. None for one that learns alone.",
    ),
]
Out = Annotated[Path, typer.Option("--out", help="The bundle to make.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, or an OpenVINO device.")]
Rebuild = Annotated[
    bool,
    typer.Option("--rebuild", help="Make an engine that does not fit this machine again from its ONNX bundle."),
]
HostName = Annotated[
    str | None, typer.Option("--host", help="Do it on another machine that ssh reaches, such as user@jetson.")
]
HostPython = Annotated[
    str | None,
    typer.Option("--host-python", help="The Python there that edgepress is installed for (default: python3)."),
]
SshOption = Annotated[
    list[str] | None, typer.Option("--ssh-option", help="A value of ssh's -o, such as Port=2222; may be repeated.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
BundlePath = Annotated[Path, typer.Argument(help="A bundle: a folder with a manifest.json.")]


def load(data: Path, format: str, difficult: str, split: str):
    from edgepress.multilabel.datasets import load_dataset

    return load_dataset(data, split, format, difficult=difficult)  # type: ignore[arg-type] # checked there


def checked(data: Path, format: str, difficult: str, *splits: str) -> list:
    """The splits of a data set, every picture read once."""
    loaded = [load(data, format, difficult, split) for split in splits]
    for split in loaded:
        split.check_pictures()
    return loaded


def print_path(bundle) -> None:
    if speaks():
        print(bundle.path)


def speaks() -> bool:
    """Of several processes under `accelerate launch` the first speaks for all."""
    return os.environ.get("RANK", "0") == "0"


def stdout() -> Console:
    # A pipe has no width of its own; the table needs about this much.
    return Console(width=None if sys.stdout.isatty() else 140, markup=False)


def print_result(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(result, ensure_ascii=False))
        return
    table = Table(show_header=False)
    for name, value in _flatten(result):
        table.add_row(name, value)
    stdout().print(table)


def print_doctor(report: dict[str, Any], console: Console) -> None:
    """A row a backend, and below them what is missing and the command that mends it."""
    machine = report["machine"]
    table = Table("backend", "works", "detail", title=f"{machine['processor']}, {machine['cores']} cores")
    for backend in report["backends"]:
        table.add_row(backend["name"], "yes" if backend["works"] else "no", backend["detail"])
    console.print(table)
    if report["board"]:
        console.print(report["board"], highlight=False, soft_wrap=True)
    for line in report["advice"]:
        console.print(f"missing: {line}", highlight=False, soft_wrap=True)


def _flatten(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            rows += _flatten(value, f"{prefix}{name}.")
        elif value not in (None, "", []):
            text = f"{value:.4g}" if isinstance(value, float) else str(value)
            rows.append((prefix + name, text if len(text) <= 200 else text[:197] + "..."))
    return rows
