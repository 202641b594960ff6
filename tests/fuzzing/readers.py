"""Everything that reads what others made: valid examples of it, and how each is read."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgepress.deploy.bench.against import against_record, read_record
from edgepress.deploy.tag.sources import pictures
from edgepress.multilabel.bundle import MANIFEST, Bundle, write_bundle
from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.datasets.options import Format
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.facts import Facts
from edgepress.multilabel.pictures import check_bytes, decode_picture
from edgepress.multilabel.preprocess import Preprocess
from edgepress.run.recipe import CompareRecipe, Recipe, load_recipe
from tests.deploy.bench.test_benchmark import BENCHMARK
from tests.fuzzing.tools import read_tools, write_tools
from tests.multilabel.layouts import write, write_coco, write_csv, write_nus, write_voc
from tests.multilabel.tars import GOOD, write_tar

PREPROCESS = Preprocess(size=32, resize="squash", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Reader:
    """One kind of input."""

    make: Callable[[Path], list[Path]]
    """Writes a valid example into an empty folder; the files of it that are changed, one at a time."""
    read: Callable[[Path, Path], object]
    """Reads the example, given its folder and the changed file."""


def _encoded(suffix: str, flags: tuple[int, ...] = (), dtype: type = np.uint8) -> bytes:
    rng = np.random.default_rng(3)
    shape = (24, 32, 3) if suffix != ".gif" else (16, 16, 3)
    pixels = rng.integers(0, np.iinfo(dtype).max, shape, dtype)
    done, data = cv2.imencode(suffix, pixels, list(flags))
    assert done
    return data.tobytes()


def _pictures(folder: Path) -> list[Path]:
    examples = {
        "plain.jpg": _encoded(".jpg"),
        "progressive.jpg": _encoded(".jpg", (cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 2)),
        "plain.png": _encoded(".png"),
        "deep.png": _encoded(".png", (), np.uint16),
        "plain.webp": _encoded(".webp"),
        "plain.bmp": _encoded(".bmp"),
        "plain.tif": _encoded(".tif"),
        "plain.gif": _encoded(".gif"),
    }
    for name, data in examples.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in examples]


def _decode(folder: Path, file: Path) -> None:
    data = file.read_bytes()
    check_bytes(data, str(file))
    try:
        decode_picture(data, str(file))
    except InputError as error:
        if not data.startswith(b"\xff\xd8"):  # only of a JPEG is the check less than a decoder's
            raise LookupError(f"passed the check, not the decoder: {error}") from error
        raise


def _imagefolder(folder: Path) -> list[Path]:
    write(folder / "labels.txt", "cat", "dog")
    rows = [{"file_name": "a.png", "labels": ["cat"]}, {"file_name": "b.png", "labels": [], "ignore": ["dog"]}]
    for row in rows:
        (folder / "test").mkdir(exist_ok=True)
        (folder / "test" / str(row["file_name"])).write_bytes(_encoded(".png"))
    return [folder / "labels.txt", write(folder / "test" / "metadata.jsonl", *map(json.dumps, rows))]


def _voc(folder: Path) -> list[Path]:
    write_voc(folder, graded=True)
    return sorted([*folder.glob("Annotations/*.xml"), *folder.glob("ImageSets/Main/*.txt")])


def _coco(folder: Path) -> list[Path]:
    return sorted((write_coco(folder) / "annotations").iterdir())


def _nus(folder: Path) -> list[Path]:
    return sorted(path for path in write_nus(folder).rglob("*.txt"))


def _csv(folder: Path) -> list[Path]:
    write_csv(folder, "file,labels", 'a.jpg,"cat;dog"', "b.jpg,cat", "c.jpg,")
    return [folder / "test.csv"]


def _tar(folder: Path) -> list[Path]:
    write(folder / "labels.txt", "dog", "cat", "sky")
    write_tar(folder / "test-0.tar", GOOD)
    return [folder / "test-0.tar"]


def _manifest(folder: Path) -> list[Path]:
    out = folder / "bundle"
    with write_bundle(
        out, kind="onnx", precision="fp32", model="model.onnx", labels=("cat", "dog"), preprocess=PREPROCESS,
        facts=Facts(backbone="none"), tools={}, inputs="0" * 64,
    ) as partial:  # fmt: skip
        (partial / "model.onnx").write_bytes(b"weights")
    return [out / MANIFEST]


def _recipes(folder: Path) -> list[Path]:
    files = sorted([*(_ROOT / "examples").glob("*.yaml"), *(_ROOT / "benchmarks").glob("*.yaml")])
    for file in files:
        (folder / file.name).write_bytes(file.read_bytes())
    return [folder / file.name for file in files]


def _recipe(folder: Path, file: Path) -> None:
    load_recipe(file, {}, CompareRecipe if file.name.startswith("compare") else Recipe)


def _paths(folder: Path) -> list[Path]:
    (folder / "a.png").write_bytes(_encoded(".png"))
    return [write(folder / "stdin", "a.png", "missing.jpg", "clip.mp4")]


MOST_SOURCES = 50


def _stdin(folder: Path, file: Path) -> None:
    with file.open("rb") as stream:
        # A line may by accident name this machine's whole disk, which is a folder with pictures as any other.
        for source in itertools.islice(pictures(["-"], PREPROCESS, stdin=stream), MOST_SOURCES):
            try:
                source.load()
            except InputError as error:  # it names the path that was read, which is not the file that listed it
                if str(InputError(source.name.split("@")[0])) not in str(error):
                    raise LookupError(f"{source.name!r} is not named: {error}") from error


def _record(blocks: list[float]) -> dict[str, Any]:
    """As `bench` writes it, of what is read again."""
    cells = [{"batch": batch, "streams": 2, "model": {"blocks_ms": blocks, "p50_ms": blocks[0]}} for batch in (1, 8)]
    return {
        "engine": "onnx-fp32",
        "when": "2026-11-24T10:00:00+00:00",
        "digest": "0" * 64,
        "machine": {"processor": "one", "cores": 2, "gpu": None},
        "settings": {"device": "cpu", "hint": "latency", "threads": None},
        "ran": {"runtime": "onnxruntime", "version": "1.22"},
        "after": {"clocks": "locked", "clock_ranges": {"cpu0": [100, 2000]}},
        "pictures": "generated",
        "cells": cells,
    }


def _records(folder: Path) -> list[Path]:
    return [write(folder / "earlier.json", json.dumps(_record([2.0, 2.5, 1.5])))]


def _against(folder: Path, file: Path) -> None:
    earlier = read_record(file)
    try:
        against_record(BENCHMARK, earlier)
    except InputError as error:  # of two records, one of which was measured just now
        if not str(error).startswith("the record has "):
            raise


def _dataset(format: Format) -> Callable[[Path, Path], None]:
    def read(folder: Path, file: Path) -> None:
        split = "val2017" if format == "coco" else "train" if format == "nuswide" else "test"
        load_dataset(folder, split, format=format).check_pictures()

    return read


READERS = {
    "picture": Reader(_pictures, _decode),
    "imagefolder": Reader(_imagefolder, _dataset("imagefolder")),
    "voc": Reader(_voc, _dataset("voc")),
    "coco": Reader(_coco, _dataset("coco")),
    "nuswide": Reader(_nus, _dataset("nuswide")),
    "csv": Reader(_csv, _dataset("csv")),
    "tools": Reader(write_tools, read_tools),
    "webdataset": Reader(_tar, _dataset("webdataset")),
    "manifest": Reader(_manifest, lambda folder, file: Bundle.open(file.parent)),
    "recipe": Reader(_recipes, _recipe),
    "stdin": Reader(_paths, _stdin),
    "record": Reader(_records, _against),
}
