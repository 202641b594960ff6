"""For a folder that no reader accepts: which format it is closest to, and the one thing that it lacks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.tables import first_line, shown, usual_names

_ANYTHING = "a folder of pictures with labels: a table, COCO or VOC files, or a folder a label (docs/data.md lists all)"
_MOST_LISTED = 2000
_OF_YOLO = "export the set as COCO's JSON or Pascal VOC's XML"
_MASKS = frozenset(("mask", "masks", "segmentation", "segmentations", "segmentationclass"))


def nearest(root: Path) -> str:
    """A sentence for the error that says what the folder looks like and what it lacks."""
    return conversion(root) or next(_signs(root), f"holds {_seen(root)}; expected {_ANYTHING}")


def conversion(root: Path) -> str | None:
    """Which known layout without a reader the folder has, and what to convert it to; None where it has none of them."""
    folders = [root, *(root / name for name in files.folders_of(root))]
    folders += [folder / name for folder in folders[1:] for name in files.folders_of(folder)]
    return next((said for folder in folders for said in _of_no_reader(root, folder)), None)


def _of_no_reader(root: Path, folder: Path) -> Iterator[str]:
    def named(path: Path) -> str:
        return path.relative_to(root).as_posix()

    for name in files.named_as(folder, (".yaml", ".yml")):
        if files.mentions(folder / name, "names"):
            yield f"{named(folder / name)} is YOLO's, whose text files of boxes are not read; {_OF_YOLO}"
    if (folder / "val_annotations.txt").is_file():
        yield (
            f"{named(folder / 'val_annotations.txt')} is tiny-imagenet's list of val's labels, which is not read; move "
            f"each picture of {folder.name}/images/ to {folder.name}/<label>/ as it says, then delete it and the lists "
            "of boxes, train/<label>/<label>_boxes.txt"
        )
    kind = folder.name.lower()
    texts = folder if files.named_as(folder, (".txt",)) else next(_folders_with_text(folder), None)
    if kind == "labels" and (folder.parent / "images").is_dir() and texts is not None:
        yield f"{named(texts)}/ holds YOLO's text files of boxes, which are not read; {_OF_YOLO}"
    if kind in _MASKS and folder != root and any(files.below(folder, files.PICTURE_SUFFIXES)):
        yield (
            f"{named(folder)}/ holds masks of a segmentation, and no file names the labels of a picture; write a table "
            "a split (train.csv with the columns path and labels), or export the set as COCO's JSON"
        )


def _folders_with_text(folder: Path) -> Iterator[Path]:
    return (folder / name for name in files.folders_of(folder) if files.named_as(folder / name, (".txt",)))


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
    for name in files.named_as(root, (".txt",)):
        if files.mentions_any(root / name, files.PICTURE_SUFFIXES):
            yield f"{name} lists pictures in text, which is not read; write a table with the columns path and labels"
    if files.named_as(root, (".txt",)) and (root / "labels.txt").is_file():
        yield "labels.txt is there, and no picture's labels: expected <split>/metadata.jsonl or <split>.csv"
    if files.named_as(root, files.PICTURE_SUFFIXES):
        yield "pictures lie in it, and nothing says their labels; expected metadata.jsonl or a table beside them"
    if any(files.named_as(root / name, files.PICTURE_SUFFIXES) for name in files.folders_of(root)):
        yield "holds folders of pictures without a split above them; expected <split>/<label>/ with pictures"


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
        if files.mentions(folder / name, "<annotations", "<image "):
            yield (
                f"{where}{name} is CVAT's, of one split as Datumaro writes it; export the set as its JSON, or put "
                "each split into a folder of its own as annotations.xml beside images/"
            )


def _seen(root: Path) -> str:
    names = [f"{name}/" for name in files.folders_of(root)] + files.files_of(root)
    return shown(names, 5) if names else "nothing"
