"""What an engine's answers lose where its caller scales pictures in another way, with and without `--resize-jitter`.

    OMP_NUM_THREADS=2 .venv/bin/python -m benchmarks.resize_parity examples/clipart-sample OUT --seeds 0,1,2

Trains students on the labels alone that differ in nothing but how pictures are scaled, fits their decisions on val, and
verifies their fp32 ONNX engines with the pixels of every caller. Prints a line of JSON for each student: its mAP on
val, by which a default may be chosen, and for each caller the drop in points of mAP and the share of changed decisions
on test, both against the engine's own pixels. Finished students are kept.

    .venv/bin/python -m benchmarks.resize_parity --table benchmarks/records/resize-parity-cpu.jsonl

prints such lines as a table of means over seeds, and what the jitter and `bilinear-aa` change over all pairs of
students that differ in nothing else, with the standard error of the mean.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any, get_args

from edgepress.compress.config import DistillConfig
from edgepress.compress.distill import distill
from edgepress.deploy.verify.callers import CALLERS
from edgepress.deploy.verify.verification import verify
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.datasets import MultiLabelDataset, load_dataset
from edgepress.multilabel.resampling import Interpolation
from edgepress.run.build import calibrate_bundle, export_student
from edgepress.run.recipe import DecisionsConfig

SETTINGS = {"epochs": 8, "batch_size": 32, "lr": 0.002, "augment": "none", "cutout": 0.3, "preset": "alone"}
"""Those of the quickstart until 30 November 2026, without a teacher."""


COLUMNS = ("pil", "torchvision", "browser", "nvinfer")
"""Callers of the table: `opencv-linear` and `android` have the pixels of `browser` here."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("out", type=Path, nargs="?", help="folder for the students, which are kept")
    parser.add_argument("--table", type=Path, help="lines that were printed before: train nothing")
    parser.add_argument("--students", default="tf_efficientnet_lite0:64", help="backbone:size, by commas")
    parser.add_argument("--interpolations", default="area-cubic,bilinear-aa", help=f"of {get_args(Interpolation)}")
    parser.add_argument("--seeds", default="0", help="by commas")
    options = parser.parse_args()
    if options.table:
        print_table([json.loads(line) for line in options.table.read_text(encoding="utf-8").splitlines()])
        return
    train, val, test = (load_dataset(options.data, split) for split in ("train", "val", "test"))
    for student, seed, interpolation, jitter in itertools.product(
        options.students.split(","), options.seeds.split(","), options.interpolations.split(","), (False, True)
    ):
        backbone, size = student.split(":")
        name = f"{backbone}-{size}-{interpolation}{'-jitter' if jitter else ''}-{seed}"
        folder = options.out / name
        print(name, file=sys.stderr, flush=True)
        scaled = {"interpolation": interpolation, "resize_jitter": jitter}
        config = DistillConfig.parse(
            {"backbone": backbone, "size": int(size), "seed": int(seed), **SETTINGS, **scaled}, name
        )
        made = distill(train, val, None, config, folder / "student")
        onnx = export_student(made.path, None, None, {}, test, folder / "onnx-fp32")
        fitted, _ = calibrate_bundle(onnx, val, folder / "fitted", DecisionsConfig(), "cpu")
        row = {"student": student, "seed": int(seed), **scaled, "val_mAP": made.manifest.facts.val_mAP}
        print(json.dumps({**row, "callers": {caller: _lost(fitted, test, caller) for caller in CALLERS}}), flush=True)


def print_table(rows: list[dict[str, Any]]) -> None:
    """Means over seeds, and paired differences."""
    ways = sorted({(row["student"], row["interpolation"], row["resize_jitter"]) for row in rows})
    by_way = {way: sorted((row for row in rows if _way(row) == way), key=lambda row: row["seed"]) for way in ways}
    for (student, interpolation, jitter), found in by_way.items():
        val = [100 * row["val_mAP"] for row in found]
        cells = [f"{mean(_drops(found, caller)):.2f}, {mean(_changed(found, caller)):.1f} %" for caller in COLUMNS]
        seeds = ", ".join(f"{one:.2f}" for one in val)
        name = f"`{interpolation}`{', jitter' if jitter else ''}"
        print(f"| {student} | {name} | {mean(val):.2f} ({seeds}) | {' | '.join(cells)} |")
    students = sorted({row["student"] for row in rows})
    for interpolation in sorted({row["interpolation"] for row in rows}):
        pairs = [(by_way[one, interpolation, False], by_way[one, interpolation, True]) for one in students]
        print(f"jitter with {interpolation}: {_differ(pairs)}")
    pairs = [(by_way[one, "area-cubic", False], by_way[one, "bilinear-aa", False]) for one in students]
    print(f"bilinear-aa instead of area-cubic: {_differ(pairs)}")


def _differ(pairs: Sequence[tuple[list[dict[str, Any]], list[dict[str, Any]]]]) -> str:
    """How val mAP, and a browser's drop and changed decisions, differ over pairs of students with the same seed."""
    said = []
    measures = {
        "val mAP": lambda rows: [100 * row["val_mAP"] for row in rows],
        "drop": lambda rows: _drops(rows, "browser"),
        "changed": lambda rows: _changed(rows, "browser"),
    }
    for name, measure in measures.items():
        before, after = ([value for pair in pairs for value in measure(pair[at])] for at in (0, 1))
        moved = [b - a for a, b in zip(before, after, strict=True)]
        error = stdev(moved) / math.sqrt(len(moved))
        said.append(f"{name} {mean(before):.2f} to {mean(after):.2f} ({mean(moved):+.2f} ± {error:.2f})")
    return ", ".join(said)


def _way(row: dict[str, Any]) -> tuple[str, str, bool]:
    return row["student"], row["interpolation"], row["resize_jitter"]


def _drops(rows: list[dict[str, Any]], caller: str) -> list[float]:
    return [row["callers"][caller]["drop_points"] for row in rows]


def _changed(rows: list[dict[str, Any]], caller: str) -> list[float]:
    return [100 * row["callers"][caller]["changed"] for row in rows]


def _lost(bundle: Bundle, test: MultiLabelDataset, caller: str) -> dict[str, float | None]:
    found = verify(bundle, test, caller=caller)
    return {"drop_points": found.drop_points, "changed": found.flip_rate, "grey_levels": found.caller_moves}


if __name__ == "__main__":
    main()
