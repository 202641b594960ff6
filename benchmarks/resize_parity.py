"""What an engine's answers lose where its caller scales pictures in another way, with and without `--resize-jitter`.

    OMP_NUM_THREADS=2 .venv/bin/python -m benchmarks.resize_parity examples/clipart-sample OUT --seeds 0,1,2

Trains students on the labels alone that differ in nothing but how pictures are scaled, fits their decisions on val, and
verifies their fp32 ONNX engines with the pixels of every caller. Prints a line of JSON for each student: its mAP on
val, by which a default may be chosen, and for each caller the drop in points of mAP and the share of changed decisions
on test, both against the engine's own pixels. Finished students are kept.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path
from typing import get_args

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path, help="folder for the students, which are kept")
    parser.add_argument("--students", default="tf_efficientnet_lite0:64", help="backbone:size, by commas")
    parser.add_argument("--interpolations", default="area-cubic,bilinear-aa", help=f"of {get_args(Interpolation)}")
    parser.add_argument("--seeds", default="0", help="by commas")
    options = parser.parse_args()
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


def _lost(bundle: Bundle, test: MultiLabelDataset, caller: str) -> dict[str, float | None]:
    found = verify(bundle, test, caller=caller)
    return {"drop_points": found.drop_points, "changed": found.flip_rate, "grey_levels": found.caller_moves}


if __name__ == "__main__":
    main()
