"""Options that several verbs share, and what verbs do with them: load data, find a host, print JSON."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from edgepress.cli.flags import FolderOrUrl
from edgepress.compress.config import TeacherOptions
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.config import FLAGS
from edgepress.multilabel.datasets import DataOptions, MultiLabelDataset, list_splits, load_dataset
from edgepress.multilabel.datasets import Difficult as DatasetDifficult
from edgepress.multilabel.datasets.label_groups import BROKEN
from edgepress.multilabel.datasets.mirror import mirror_of
from edgepress.multilabel.datasets.options import UnusedOptionError
from edgepress.multilabel.datasets.passed_over import in_one_line, passed_over
from edgepress.multilabel.datasets.together import notes_of
from edgepress.multilabel.errors import InputError

if TYPE_CHECKING:
    from edgepress.remote.host import Host

log = logging.getLogger("edgepress")

Data = Annotated[Path, typer.Option("--data", help="The data set's folder, or a URL of shards."), FolderOrUrl()]
DataArgument = Annotated[Path, typer.Argument(help="The data set's folder, or a URL of shards."), FolderOrUrl()]
Train = Annotated[str, typer.Option("--train", help="The split to learn on; INT8's calibration set is of it.")]
Val = Annotated[str, typer.Option("--val", help="The split that chooses.")]
Test = Annotated[str, typer.Option("--test", help="The split that reports.")]
Split = Annotated[str, typer.Option("--split", help="Any split's name.")]
RecipeFile = Annotated[Path | None, typer.Option("--recipe", help="A YAML file of settings; flags win.")]
Out = Annotated[Path, typer.Option("--out", help="The bundle to make.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, or an OpenVINO device.")]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        help="Of ONNX Runtime, LiteRT, ncnn and OpenVINO's CPU (default: what suits the CPUs, within a quota).",
    ),
]
Unproven = Annotated[
    bool,
    typer.Option(
        "--unproven", help="Open it although it has not been shown to answer here as it did where it was made."
    ),
]
Rebuild = Annotated[
    bool,
    typer.Option("--rebuild", help="Make an engine that does not fit this machine again from its ONNX bundle."),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
BundlePath = Annotated[Path, typer.Argument(help="A bundle: a folder with a manifest.json.")]


@dataclass(frozen=True)
class DataFlags:
    """How a data set's folder is read: `DataOptions` as options of a verb."""

    format: Annotated[
        str, typer.Option("--format", help="How the folder is laid out: auto, or a name of docs/data.md.")
    ] = "auto"
    difficult: Annotated[
        str,
        typer.Option("--difficult", help=f"Pascal VOC's difficult objects.  ({', '.join(get_args(DatasetDifficult))})"),
    ] = "ignore"
    values: Annotated[
        str | None,
        typer.Option(
            "--values", hidden=True, help="What a table's cells mean, such as yes=1,no=-1,unknown=0,empty=no."
        ),
    ] = None
    picture_column: Annotated[
        str | None,
        typer.Option("--picture-column", hidden=True, help="The column of a table that names the picture."),
    ] = None
    label_columns: Annotated[
        str | None,
        typer.Option(
            "--label-columns", hidden=True, help="The columns of a table that are labels, or the one that lists them."
        ),
    ] = None
    split_column: Annotated[
        str | None, typer.Option("--split-column", hidden=True, help="The column of a table that names the split.")
    ] = None
    separator: Annotated[
        str | None,
        typer.Option(
            "--separator", hidden=True, help="What separates the labels of a cell; none if each cell is one label."
        ),
    ] = None
    no_label: Annotated[
        str | None,
        typer.Option(
            "--no-label", hidden=True, help="Names that say that a picture has no label, such as 'No Finding'."
        ),
    ] = None
    label_groups: Annotated[
        str | None,
        typer.Option(
            "--label-groups",
            hidden=True,
            help="Labels that exclude or imply others, as YAML (default: labels.yaml in the data set's folder).",
        ),
    ] = None

    @property
    def options(self) -> DataOptions:
        """The same options, checked."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return DataOptions.parse({name: value for name, value in given.items() if value is not None}, FLAGS)

    def splits(self, data: Path) -> list[str]:
        """The names of a data set's splits."""
        return list_splits(data, self.options)

    def load(self, data: Path, split: str) -> MultiLabelDataset:
        """Load one split of a data set; log what was read otherwise than it is written."""
        (loaded,) = self.load_all(data, [split])
        return loaded

    def load_all(self, data: Path, splits: Iterable[str], *, rules: bool = True) -> list[MultiLabelDataset]:
        """Load splits of a data set; log what was read otherwise than it is written, and each sentence once.

        Args:
            rules: whether to log as well which label groups the labels break.
        """
        loaded: list[MultiLabelDataset] = []
        try:
            for split in splits:
                loaded.append(load_dataset(data, split, self.options))
        finally:  # a sentence may explain why the next split is refused
            for said in notes_of(loaded):
                if rules or BROKEN not in said:
                    log.info("%s", said)
        return loaded

    def checked(
        self, data: Path, *splits: str, before_pictures: Callable[[], None] | None = None
    ) -> list[MultiLabelDataset]:
        """Load splits of a data set, with the labels in the order of the first, and read every picture once.

        Args:
            before_pictures: another check that may take long, for when the labels are in order.
        """
        loaded = self.load_all(data, splits)
        for one in loaded:
            if one.meanings is not None:
                log.info("%s: %s", one.split, one.meanings)
        order = loaded[0].labels
        loaded = [one.in_order_of(order, f"the split {splits[0]!r}", f"the split {one.split!r}") for one in loaded]
        if len(splits) > 1:  # a verb that learns from the data set
            self._tell_passed_over(data, loaded)
        if before_pictures is not None:
            before_pictures()
        for split in loaded:
            split.check_pictures()
        return loaded

    def _tell_passed_over(self, data: Path, loaded: list[MultiLabelDataset]) -> None:
        """Say which pictures no split has; those of a split that the verb does not use are none of them."""
        if mirror_of(data) is not None:  # it holds shards alone, and the other splits would be copied for this
            return
        read = {split.split for split in loaded}
        try:
            others = [load_dataset(data, name, self.options) for name in self.splits(data) if name not in read]
        except InputError as error:
            log.info("what no split has is not counted: %s", error)
            return
        if (said := in_one_line(passed_over(data, [*loaded, *others]))) is not None:
            log.info("%s", said)


def _said(name: str) -> str:
    field = TeacherOptions.model_fields[name]
    words = [*get_args(field.annotation), f"default: {field.default}"] if isinstance(field.default, str) else []
    return f"{' '.join((field.description or '').split())}{'  ' if words else ''}" + (
        f"({', '.join(words[:-1])}) ({words[-1]})" if words else ""
    )


@dataclass(frozen=True)
class Taught:
    """Finished teachers: `TeacherOptions` as options of a verb."""

    teacher: Annotated[
        list[str] | None,
        typer.Option(
            "--teacher",
            help="A teacher's bundle, of kind torch or onnx; repeated, several answer as one. None for a student that "
            "learns alone.",
        ),
    ] = None
    teacher_labels: Annotated[list[str] | None, typer.Option("--teacher-labels", help=_said("teacher_labels"))] = None
    teacher_features: Annotated[
        list[str] | None, typer.Option("--teacher-features", hidden=True, help=_said("teacher_features"))
    ] = None
    teacher_calibration: Annotated[
        str | None, typer.Option("--teacher-calibration", hidden=True, help=_said("teacher_calibration"))
    ] = None
    teacher_weak: Annotated[str | None, typer.Option("--teacher-weak", hidden=True, help=_said("teacher_weak"))] = None

    @property
    def options(self) -> TeacherOptions:
        """The same options, checked."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.teacher_features:  # repeated, by commas, or both, as the flags of a recipe are
            given["teacher_features"] = [name for part in self.teacher_features for name in part.split(",")]
        return TeacherOptions.parse({name: value for name, value in given.items() if value is not None}, FLAGS)


@dataclass(frozen=True)
class Remote:
    """The machine on which a verb does its work."""

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
        """The other machine; None if the work is done here."""
        from edgepress.remote.host import host_of

        return host_of(self.host, self.host_python, self.ssh_option)


@contextlib.contextmanager
def of_recipe(file: Path | None) -> Iterator[None]:
    """Name the key of a recipe's file where what it says is for data of another format.

    Raises:
        InputError: in the place of `UnusedOptionError`, whose message it goes on with.
    """
    try:
        yield
    except UnusedOptionError as error:
        flag = f"--{error.option.replace('_', '-')}"
        where = f"{flag}, or remove the key {error.option} from {file}" if file is not None else flag
        raise InputError(f"{error}: leave out {where}") from None


def require_file(option: str, file: Path | None) -> None:
    """Stop before any work if a file cannot be written where an option says: a misspelt folder would be created."""
    if file is not None and file.is_dir():
        raise InputError(f"{option} {file}: is a folder; expected a file in it, such as {file / 'NAME'}")
    if file is not None and not file.parent.is_dir():
        raise InputError(f"{option} {file}: {file.parent} is no folder; expected a file in one that exists")


def print_path(bundle: Bundle) -> None:
    if speaks():
        print(bundle.path)


def speaks() -> bool:
    """Among several processes under `accelerate launch` only the first one prints."""
    return os.environ.get("RANK", "0") == "0"


_AS_IT_IS = json.JSONEncoder(ensure_ascii=False)  # json.dumps would make one for each record


def print_json(record: dict[str, Any]) -> None:
    """Print a record on one line. Characters that the stream cannot show are escaped as JSON does it: those that its
    encoding lacks, and the bytes of a file's name that are no text."""
    text = _AS_IT_IS.encode(record)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(record)
    print(text, flush=True)
