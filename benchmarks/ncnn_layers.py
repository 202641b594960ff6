"""Which of ncnn's layers INT8 makes faster, each timed alone on what it reads of one picture.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.ncnn_layers RUN [RUN ...]

RUN is a folder with the bundle onnx-fp32. Prints one JSON object for each: by the kind of layer their number, how many
of them are slower in INT8, and their milliseconds of processor time in float and in INT8, the least of several
measurements in turns on one thread. A layer in INT8 quantises what it reads and gives float, unless the layers around
it do that; alone it does both.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from edgepress.calibration.int8.ncnn import NcnnQuantizer
from edgepress.deploy.machine.device import describe_machine
from edgepress.deploy.machine.state import disturbances, read_state
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.ncnn_layers import Layer


def main() -> None:
    """Time the layers of each run and print an object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    for run in parser.parse_args().runs:
        bundle, before = Bundle.open(run / "onnx-fp32"), read_state()
        size = bundle.preprocess.size
        picture = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
        quantizer = NcnnQuantizer(bundle.model_path, picture)
        rows: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for name, times in quantizer.times().items():
            rows[kind_of(quantizer.found[name])].append(times)
        about = {
            "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "machine": asdict(describe_machine()),
            "run": run.name,
            "size": size,
        }
        layers = {
            kind: {
                "layers": len(times),
                "slower": sum(int8 > whole for whole, int8 in times),
                "float_ms": round(1e3 * sum(whole for whole, _ in times), 4),
                "int8_ms": round(1e3 * sum(int8 for _, int8 in times), 4),
            }
            for kind, times in sorted(rows.items())
        }
        print(json.dumps({**about, "layers": layers, "cautions": disturbances(before, read_state())}), flush=True)


def kind_of(layer: Layer) -> str:
    """`Convolution 1x1`, `Gemm`."""
    if not layer.type.startswith("Convolution"):
        return layer.type
    width = layer.params["1"]
    return f"{layer.type} {layer.params.get('11', width)}x{width}"


if __name__ == "__main__":
    main()
