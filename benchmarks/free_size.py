"""What the resize inside the model costs, against Preprocess and the engine outside: time and memory.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.free_size ONNX_BUNDLE

Prints a line of JSON for each interpolation and size of a picture: the processor time of the model of the layout
free-size as a multiple of that of Preprocess and the same model, in turns with one thread; the milliseconds of each;
by how much memory the process needs more while the model computes; and how many of the prepared values differ. The
model is the bundle's with another interpolation, because time and pixels do not depend on what it learnt.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy as np
import onnx

from edgepress.deploy.build.free_size import IMAGES, with_free_size
from edgepress.deploy.build.resize_graph import Nodes, add_preprocess
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.preprocess import Preprocess

INTERPOLATIONS = ("bilinear-aa", "bicubic-aa", "area-cubic", "bilinear")
SHAPES = ((1, 1), (480, 640), (960, 1280), (3000, 4000))
ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    options = parser.parse_args()
    bundle = Bundle.open(options.bundle)
    for interpolation in INTERPOLATIONS:
        for height, width in SHAPES:
            print(json.dumps(_measured(bundle, interpolation, height, width)), flush=True)


def _measured(bundle: Bundle, interpolation: str, height: int, width: int) -> dict[str, object]:
    import onnxruntime

    cv2.setNumThreads(1)
    fields = {**bundle.preprocess.model_dump(), "interpolation": interpolation}
    preprocess = Preprocess.model_validate(fields)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.log_severity_level = 1, 4
    graph = onnx.load(str(bundle.model_path))
    plain = onnxruntime.InferenceSession(graph.SerializeToString(), settings)
    name = plain.get_inputs()[0].name
    nodes = Nodes("free_size")
    pixels = add_preprocess(nodes, IMAGES, preprocess)
    with_free_size(graph, nodes, pixels)
    graph.graph.output.append(onnx.helper.make_tensor_value_info(pixels, onnx.TensorProto.UINT8, None))
    inside = onnxruntime.InferenceSession(graph.SerializeToString(), settings)
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    outside = lambda: plain.run(None, {name: preprocess(picture)[None]})  # noqa: E731
    within = lambda: inside.run(["logits"], {IMAGES: picture[None]})  # noqa: E731
    outside()
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    within()
    grown = _resident("VmHWM") - before
    times: list[list[float]] = [[], []]
    for turn in range(2 * ROUNDS):
        for which in ((0, 1), (1, 0))[turn % 2]:
            started = time.process_time()
            (outside, within)[which]()
            times[which].append(1e3 * (time.process_time() - started))
    usual, own = (float(np.median(one)) for one in times)
    differ = inside.run([pixels], {IMAGES: picture[None]})[0][0] != preprocess(picture)
    return {
        "interpolation": interpolation,
        "height": height,
        "width": width,
        "size": preprocess.size,
        "times": round(own / usual, 2),
        "outside_ms": round(usual, 2),
        "inside_ms": round(own, 2),
        "memory_mb": round(grown),
        "differ": float(differ.mean()),
    }


def _resident(what: str) -> float:
    """Resident memory now (VmRSS) or at its peak (VmHWM), in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 1024


if __name__ == "__main__":
    main()
