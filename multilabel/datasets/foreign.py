"""Files of tools and data sets that no reader reads: what they are, and what to convert them to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.columns import usual_names
from edgepress.multilabel.datasets.tables import first_line
from edgepress.multilabel.errors import shown

_OF_YOLO = "export the set as COCO's JSON or Pascal VOC's XML"
TABLE = "write a table in the root with the columns path and labels (a.jpg,boat;dock)"
_MASKS = frozenset(("mask", "masks", "segmentation", "segmentations", "segmentationclass"))
_BINARY = {
    ".mat": f"is MATLAB's, which is not read; load it (scipy.io.loadmat) and {TABLE}",
    ".xlsx": "is a spreadsheet, which is not read; save it as CSV with the columns path and labels, or one a label",
    ".xls": "is a spreadsheet, which is not read; save it as CSV with the columns path and labels, or one a label",
    ".ods": "is a spreadsheet, which is not read; save it as CSV with the columns path and labels, or one a label",
    ".pkl": f"is a Python pickle, which is never opened, because it may run code; {TABLE}",
    ".pickle": f"is a Python pickle, which is never opened, because it may run code; {TABLE}",
    ".npy": f"holds an array, which is not read; {TABLE}",
    ".npz": f"holds arrays, which are not read; {TABLE}",
    ".h5": f"holds arrays, which are not read; write the pictures to files and {TABLE}",
    ".hdf5": f"holds arrays, which are not read; write the pictures to files and {TABLE}",
    ".arrow": "is an Arrow file, which is not read; write the pictures to files with a metadata.jsonl beside them",
    ".tfrecord": f"is TensorFlow's, which is not read; write the pictures to files and {TABLE}",
    ".record": f"is TensorFlow's, which is not read; write the pictures to files and {TABLE}",
    ".dcm": "is DICOM, which is not read; convert the pictures to PNG under the same names",
}
_IN_JSON = (
    (("_via_img_metadata",), f"is VIA's project; export the annotations as COCO from VIA, or {TABLE}"),
    (("region_attributes", "shape_attributes"), f"is VIA's; export the annotations as COCO from VIA, or {TABLE}"),
    (
        ("attribute_id_map", "scene_id_map"),
        f"is WIDER Attribute's, whose labels are those of persons; {TABLE}",
    ),
    (("data_list", "metainfo"), f"is OpenMMLab's list, which is not read; {TABLE}"),
    (('"_cls"', '"samples"'), "is FiftyOne's own dataset; export it as FiftyOneImageClassificationDataset, or COCO"),
    (('"data_row"', '"projects"'), f"is Labelbox's export, which is not read; {TABLE}"),
    (('"schema_ref"', "darwin"), "is V7 Darwin's, which is not read; export the set as COCO's JSON"),
    (('"item"', '"slots"'), "is V7 Darwin's, which is not read; export the set as COCO's JSON"),
    (('"className"', '"instances"'), "is SuperAnnotate's, which is not read; export the set as COCO's JSON"),
    (('"assets"', '"regions"', '"tags"'), "is VoTT's JSON, which is not read; export the project as Pascal VOC or CSV"),
    (('"asset"', '"regions"'), "is VoTT's own file, which is not read; export the project as Pascal VOC or CSV"),
    (('"sentences"', '"filename"'), f"holds captions (Karpathy's splits of COCO), which are no labels; {TABLE}"),
    (('"file_ext"', '"tags"'), f"is Danbooru's metadata, which is not read; {TABLE}"),
)
"""Words of a JSON file, and what it is."""
_MOST_LISTED = 200
_MOST_BYTES = 16 * 1024 * 1024


def conversion(root: Path) -> str | None:
    """Which known layout without a reader the folder has, and what to convert it to; None where it has none of them."""
    folders = [root, *(root / name for name in files.folders_of(root))]
    folders += [folder / name for folder in folders[1:] for name in files.folders_of(folder)]
    for signs in (_of_trees, _of_json, _of_tables, _of_texts, _of_binaries):
        found = next((said for folder in folders for said in signs(root, folder)), None)
        if found is not None:
            return found
    return None


def _named(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def _of_trees(root: Path, folder: Path) -> Iterator[str]:
    for name in files.named_as(folder, (".yaml", ".yml")):
        if files.mentions(folder / name, "names"):
            yield f"{_named(root, folder / name)} is YOLO's, whose text files of boxes are not read; {_OF_YOLO}"
    if (folder / "val_annotations.txt").is_file():
        yield (
            f"{_named(root, folder / 'val_annotations.txt')} is tiny-imagenet's list of val's labels, which is not "
            f"read; move each picture of {folder.name}/images/ to {folder.name}/<label>/ as it says, then delete it "
            "and the lists of boxes, train/<label>/<label>_boxes.txt"
        )
    kind = folder.name.lower()
    texts = folder if files.named_as(folder, (".txt",)) else next(_folders_with_text(folder), None)
    if kind == "labels" and (folder.parent / "images").is_dir() and texts is not None:
        yield f"{_named(root, texts)}/ holds YOLO's text files of boxes, which are not read; {_OF_YOLO}"
    if kind in _MASKS and folder != root and any(files.below(folder, files.PICTURE_SUFFIXES)):
        yield (
            f"{_named(root, folder)}/ holds masks of a segmentation, and no file names the labels of a picture; write "
            "a table a split (train.csv with the columns path and labels), or export the set as COCO's JSON"
        )
    if (folder / "meta.json").is_file() and files.mentions(folder / "meta.json", '"classes"', '"tags"'):
        yield (
            f"{_named(root, folder / 'meta.json')} is Supervisely's, whose annotations are not read; export the set as "
            "COCO's JSON or Pascal VOC's XML"
        )


def _folders_with_text(folder: Path) -> Iterator[Path]:
    return (folder / name for name in files.folders_of(folder) if files.named_as(folder / name, (".txt",)))


def _of_json(root: Path, folder: Path) -> Iterator[str]:
    names = files.named_as(folder, (".json", ".jsonl", ".ndjson"))[:_MOST_LISTED]
    for name in names:
        for words, said in _IN_JSON:
            if files.mentions(folder / name, *words):
                yield f"{_named(root, folder / name)} {said}"
    if folder == root:
        for name in files.named_as(folder, (".json",))[:_MOST_LISTED]:
            yield from _of_plain_json(folder / name)


def _of_plain_json(path: Path) -> Iterator[str]:
    """JSON that somebody wrote for themselves: a list of objects, or an object from pictures to labels."""
    try:
        content = json.loads(path.read_bytes()) if path.stat().st_size <= _MOST_BYTES else None
    except (OSError, ValueError, RecursionError):
        return
    if isinstance(content, list) and content and isinstance(content[0], dict):
        yield (
            f"{path.name} is a list of objects with {shown(content[0], 4)}; write one object a line to metadata.jsonl, "
            "with file_name and labels"
        )
    if isinstance(content, dict) and any(str(key).lower().endswith(files.PICTURE_SUFFIXES) for key in content):
        yield (
            f"{path.name} is an object with a key for each picture; write one object a line to metadata.jsonl, with "
            "file_name and labels"
        )


def _of_tables(root: Path, folder: Path) -> Iterator[str]:
    pictures = {name for name in _pictures_of(root)} if files.named_as(folder, (".csv", ".tsv")) else set()
    for name in files.named_as(folder, (".csv", ".tsv")):
        header, first = _two_lines(folder / name)
        where = _named(root, folder / name)
        if "region_shape_attributes" in header:
            yield f"{where} is VIA's table of regions; export the annotations as COCO from VIA, or {TABLE}"
        if any(cell.lower().endswith(files.PICTURE_SUFFIXES) for cell in header):
            yield f"{where} has no header; write the columns' names above its first row, such as path,labels"
        for column, cell in zip(header, first, strict=False):
            joined = next((cell for mark in files.PICTURE_SUFFIXES if f"{mark}_" in cell.lower()), None)
            if joined is not None:
                yield (
                    f"{where}: column {column!r} joins a picture and a label ({joined!r}); split it into two columns, "
                    "path and label, and leave out the rows of what a picture does not show"
                )
            alike = sorted(one for one in pictures if cell and one.startswith(f"{cell}_"))
            if len(alike) > 1 and not usual_names(header):
                yield (
                    f"{where}: {column!r} is {cell!r}, the beginning of {len(alike)} pictures ({shown(alike, 3)}); "
                    "join the channels of each into one picture, or name one of them in a column path"
                )
            stem, _, label = cell.rpartition("_")
            if label and f"{stem}." in {f"{one.rpartition('.')[0]}." for one in pictures}:
                yield (
                    f"{where}: column {column!r} joins a picture and a label ({cell!r}); write one row a picture, with "
                    "a column path and a column a label"
                )
        if folder != root and usual_names(header):
            yield f"{where} is a table in a folder; move it to the root, or join its tables there into one a split"


def _two_lines(path: Path) -> tuple[list[str], list[str]]:
    header = first_line(path)
    return header, first_line(path, skip=1)


def _pictures_of(root: Path) -> list[str]:
    return [path.name for path in files.below(root, files.PICTURE_SUFFIXES)]


def _of_texts(root: Path, folder: Path) -> Iterator[str]:
    texts = files.named_as(folder, (".txt",))
    for name in texts:
        if folder != root and files.mentions_any(folder / name, files.PICTURE_SUFFIXES):
            yield f"{_named(root, folder / name)} lists pictures in text, which is not read; {TABLE}"
    if folder.name.lower() in ("annotations", "attributes") and texts:
        yield f"{_named(root, folder)}/ holds texts ({shown(texts, 3)}), which are not read; {TABLE}"


def _of_binaries(root: Path, folder: Path) -> Iterator[str]:
    for suffix, said in _BINARY.items():
        for name in files.named_as(folder, (suffix,))[:1]:
            yield f"{_named(root, folder / name)} {said}"
