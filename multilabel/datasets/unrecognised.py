"""For a folder that no reader accepts: which format it is closest to, and the one thing that it lacks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.columns import usual_names
from edgepress.multilabel.datasets.foreign import TABLE, conversion
from edgepress.multilabel.datasets.tables import first_line
from edgepress.multilabel.errors import InputError, shown

_ANYTHING = "a folder of pictures with labels: a table, COCO or VOC files, or a folder a label (docs/data.md lists all)"
_MOST_LISTED = 2000
_MOST_FOLDERS = 50


def nearest(root: Path) -> str:
    """A sentence for the error that says what the folder looks like and what it lacks."""
    return conversion(root) or next(_signs(root), f"holds {_seen(root)}; expected {_ANYTHING}")


def meant_inside(root: Path, recognised: Callable[[Path], bool]) -> str:
    """The end of a message about a folder that is no data set, where folders in it, or in these, are; else nothing.

    Args:
        recognised: whether a folder is a data set; it may raise an InputError.
    """
    level = [root / name for name in files.folders_of(root)][:_MOST_FOLDERS]
    for _ in range(2):
        found = []
        for folder in level:
            with contextlib.suppress(InputError):
                found += [folder] if recognised(folder) and files.below(folder, files.PICTURE_SUFFIXES) else []
        if found:
            are = "is a data set" if len(found) == 1 else "are data sets"
            return f"; {shown([str(one) for one in found], 3)} {are}: give that folder"
        level = [folder / name for folder in level for name in files.folders_of(folder)][:_MOST_FOLDERS]
    return ""


def _signs(root: Path) -> Iterator[str]:
    """Signs of each format, the surest first."""
    inside = [root, *(root / name for name in files.folders_of(root))]
    for folder in inside:
        yield from _of_files(root, folder)
    annotated = next((folder for folder in inside if folder.name.lower() == "annotations"), None)
    if annotated is not None and files.named_as(annotated, (".xml",)):
        yield f"{annotated.name}/ holds VOC's annotations, and no JPEGImages/ or images/ is beside it"
    if (root / "ImageSets").is_dir():
        yield "ImageSets/ is Pascal VOC's, and no JPEGImages/ is beside it; put the pictures there"
    if (root / "ImageList").is_dir():
        yield "ImageList/ is NUS-WIDE's, and TrainTestLabels/ or its list of pictures is missing"
    for name in files.named_as(root, (".csv", ".tsv")):
        header = first_line(root / name)
        if not usual_names(header):
            yield (
                f"{name} has no column for the picture among {shown(header)}; rename it to path, or name it by "
                "--picture-column"
            )
        if len(header) < 2:
            yield f"{name} has no column beside {shown(header)}; expected one a label, or one that lists labels"
    for folder in inside:
        stems = {name.rpartition(".")[0] for name in files.named_as(folder, files.PICTURE_SUFFIXES)}
        for name in files.named_as(folder, (".txt",)):
            if name[: -len(".txt")] in stems:
                yield (
                    f"{(folder / name).relative_to(root).as_posix()} is beside a picture, and texts of tags or boxes "
                    f"are not read by themselves; --format tags reads tags with commas between them, or one a line; "
                    f"otherwise {TABLE}"
                )
        for name in files.named_as(folder, (".json", ".jsonl", ".ndjson")):
            where = (folder / name).relative_to(root).as_posix()
            if name.endswith((".jsonl", ".ndjson")):
                yield (
                    f"{where} is not read under this name; name it metadata.jsonl, put it beside its pictures, one "
                    "folder a split, and give every line file_name and labels"
                )
            elif name[: -len(".json")] in stems or name[: -len(".json")].rpartition(".")[0] in stems:
                yield f"{where} is beside a picture, and is the JSON of no tool that is read; {TABLE}"
    for name in files.named_as(root, (".txt",)):
        if files.mentions_any(root / name, files.PICTURE_SUFFIXES):
            yield f"{name} lists pictures in text, which is not read; write a table with the columns path and labels"
    if files.named_as(root, (".txt",)) and (root / "labels.txt").is_file():
        yield "labels.txt is there, and no picture's labels: expected <split>/metadata.jsonl or <split>.csv"
    for folder in inside[1:]:
        texts = files.named_as(folder, (".txt",))
        if len(texts) > 1 and not files.named_as(folder, files.PICTURE_SUFFIXES):
            yield f"{folder.name}/ holds texts ({shown(texts, 3)}), which are not read; {TABLE}"
    if files.named_as(root, files.PICTURE_SUFFIXES):
        yield "pictures lie in it, and nothing says their labels; expected metadata.jsonl or a table beside them"
    if any(files.named_as(root / name, files.PICTURE_SUFFIXES) for name in files.folders_of(root)):
        yield (
            "holds folders of pictures without a split above them; expected <split>/<label>/ with pictures: put the "
            "folders of labels into one named train"
        )


def _of_files(root: Path, folder: Path) -> Iterator[str]:
    """Signs of formats that are known but not read, or that are incomplete here."""
    where = "" if folder == root else f"{folder.name}/"
    for name in files.named_as(folder, (".json",))[:_MOST_LISTED]:
        keys = [key for key in ("images", "annotations", "categories") if files.mentions(folder / name, f'"{key}"')]
        if len(keys) == 2:
            missing = ({"images", "annotations", "categories"} - set(keys)).pop()
            yield f"{where}{name} is nearly MS-COCO's: it has {' and '.join(keys)}, and no {missing}"
    parquet = files.named_as(folder, (".parquet",))
    if parquet:
        yield (
            f"{where}{parquet[0]} holds pictures and labels in one Parquet file, which is not read; write the pictures "
            "to files with a metadata.jsonl beside them"
        )
    for name in files.named_as(folder, (".xml",))[:_MOST_LISTED]:
        if files.mentions(folder / name, "<annotations", "<track "):
            yield f"{where}{name} is CVAT's for video, whose frames are no files; export the task as CVAT for images"


def _seen(root: Path) -> str:
    names = [f"{name}/" for name in files.folders_of(root)] + files.files_of(root)
    return shown(names, 5) if names else "nothing"
