"""Options that several verbs share, and what verbs do with them: load data, find a host, print JSON."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.datasets import Difficult as DatasetDifficult
from edgepress.multilabel.datasets import Format as DatasetFormat
from edgepress.multilabel.datasets import MultiLabelDataset, load_dataset

if TYPE_CHECKING:
    from edgepress.remote.host import Host

Data = Annotated[Path, typer.Option("--data", help="The data set's folder.")]
DataArgument = Annotated[Path, typer.Argument(help="The data set's folder.")]
Train = Annotated[str, typer.Option("--train", help="The split to learn and calibrate on.")]
Val = Annotated[str, typer.Option("--val", help="The split that chooses.")]
Test = Annotated[str, typer.Option("--test", help="The split that reports.")]
Split = Annotated[str, typer.Option("--split", help="Any split's name.")]
RecipeFile = Annotated[Path | None, typer.Option("--recipe", help="A YAML file of settings; flags win.")]
Teachers = Annotated[
    list[Path] | None,
    typer.Option(
        "--teacher",
        help="The bundle of a teacher; repeated, several answer as one. None for a student that learns alone.",
    ),
]
Out = Annotated[Path, typer.Option("--out", help="The bundle to make.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, or an OpenVINO device.")]
Threads = Annotated[
    int | None,
    typer.Option("--threads", help="Of ONNX Runtime and OpenVINO's CPU (default: they choose, within a CPU quota)."),
]
Unproven = Annotated[
    bool,
    typer.Option("--unproven", help="Open it though nobody has seen that it answers here as where it was made."),
]
Rebuild = Annotated[
    bool,
    typer.Option("--rebuild", help="Make an engine that does not fit this machine again from its ONNX bundle."),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
BundlePath = Annotated[Path, typer.Argument(help="A bundle: a folder with a manifest.json.")]


@dataclass(frozen=True)
class Reader:
    """How a data set's folder is read."""

    format: Annotated[
        str, typer.Option("--format", help=f"How the folder is laid out.  ({', '.join(get_args(DatasetFormat))})")
    ] = "auto"
    difficult: Annotated[
        str,
        typer.Option("--difficult", help=f"Pascal VOC's difficult objects.  ({', '.join(get_args(DatasetDifficult))})"),
    ] = "ignore"

    def load(self, data: Path, split: str) -> MultiLabelDataset:
        """One split of a data set."""
        return load_dataset(data, split, self.format, difficult=self.difficult)  # type: ignore[arg-type] # checked there

    def checked(self, data: Path, *splits: str) -> list[MultiLabelDataset]:
        """The splits of a data set, every picture read once."""
        loaded = [self.load(data, split) for split in splits]
        for split in loaded:
            split.check_pictures()
        return loaded


@dataclass(frozen=True)
class Remote:
    """Where a verb does its work."""

    host: Annotated[
        str | None, typer.Option("--host", help="Do it on another machine that ssh reaches, such as user@jetson.")
    ] = None
    host_python: Annotated[
        str | None,
        typer.Option("--host-python", help="The Python there that edgepress is installed for (default: python3)."),
    ] = None
    ssh_option: Annotated[
        list[str] | None, typer.Option("--ssh-option", help="A value of ssh's -o, such as Port=2222; may be repeated.")
    ] = None

    def host_given(self) -> Host | None:
        """The other machine; None where the work is done here."""
        from edgepress.remote.host import host_of

        return host_of(self.host, self.host_python, self.ssh_option)


def print_path(bundle: Bundle) -> None:
    if speaks():
        print(bundle.path)


def speaks() -> bool:
    """Of several processes under `accelerate launch` the first speaks for all."""
    return os.environ.get("RANK", "0") == "0"


def print_json(record: dict[str, Any]) -> None:
    print(json.dumps(record, ensure_ascii=False))
