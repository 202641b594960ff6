"""Whether programs without edgepress decide as `edgepress predict` does, on every picture of a split.

    python -m benchmarks.callers runs/quickstart --data examples/clipart-sample \
        --ort .venv/npm/node_modules/onnxruntime-web/dist --model-api VENV/bin/python \
        --record benchmarks/records/callers-cpu.json

prints a row per program for docs/callers.md. VENV is an environment with openvino-model-api, which pins another OpenCV.
The run's onnx-fp32 and openvino-fp32 are called. Rows of `own scaling` let the program scale as it does by itself.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgepress.deploy.build.compile import tools_of
from edgepress.deploy.build.handoff import one_word, yes_above_zero
from edgepress.deploy.build.model_api import write_model_api
from edgepress.deploy.engines import open_engine
from edgepress.deploy.engines.golden import ALLOWED_DIFF
from edgepress.deploy.machine.processor import machine_key
from edgepress.multilabel.bundle import Bundle, write_atomically
from edgepress.multilabel.datasets import MultiLabelDataset, load_dataset

ROOT = Path(__file__).parents[1]
Row = dict[str, Any]
MODEL_API = """
import json, sys
import numpy as np
from PIL import Image
from model_api.adapters import OpenvinoAdapter, create_core
from model_api.models import ClassificationModel
adapter = OpenvinoAdapter(create_core(), sys.argv[1], device="CPU", plugin_config={"INFERENCE_PRECISION_HINT": "f32"})
tagger = ClassificationModel.create_model(adapter, preload=True)
for file in sys.argv[2:]:
    found = tagger(np.asarray(Image.open(file).convert("RGB")))
    raw = np.asarray(found.raw_scores, np.float64)
    print(json.dumps({"tags": [one.name for one in found.top_labels], "scores": np.log(raw / (1 - raw)).tolist()}))
"""


def compared(name: str, bundle: Bundle, expected: np.ndarray, logits: np.ndarray, answers: np.ndarray) -> Row:
    """A program's answers bool `[N, C]` and logits `[N, C]` beside those of edgepress."""
    row = {
        "caller": name,
        "bundle": bundle.name,
        "pictures": len(expected),
        "decisions": int(answers.size),
        "changed": int((answers != bundle.decisions.decide(expected)).sum()),
        "largest_logit_difference": float(np.abs(logits - expected).max()),
        "allowed": ALLOWED_DIFF[bundle.manifest.precision],
    }
    print(
        "|",
        " | ".join(
            [name, bundle.name, f"{row['changed']} of {row['decisions']:,}", f"{row['largest_logit_difference']:.2g}"]
        ),
        "|",
    )
    return row


def lines(command: Sequence[object]) -> list[Row]:
    done = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def told(bundle: Bundle, rows: list[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Logits and answers from a program's JSON; scores are turned back into logits."""
    scale, offset = yes_above_zero(bundle.decisions)
    logits = [row["logits"] if "logits" in row else (np.array(row["scores"]) - offset) / scale for row in rows]
    names = bundle.labels.names if "logits" in rows[0] else one_word(bundle.labels.names)
    return np.array(logits), np.array([[name in row["tags"] for name in names] for row in rows])


def triton(bundle: Bundle, data: MultiLabelDataset) -> tuple[np.ndarray, np.ndarray]:
    """The picture and the answer as messages of Triton's own protocol, with the bundle's engine as the server's."""
    spec = importlib.util.find_spec("tritonclient")
    assert spec is not None
    assert spec.submodule_search_locations
    sys.path.insert(0, str(Path(spec.submodule_search_locations[0]) / "grpc"))  # the package itself imports grpc
    import service_pb2

    logits = []
    with open_engine(bundle) as engine:
        for row in range(len(data)):
            pixels = engine.preprocess(data.picture(row))[None]
            asked = service_pb2.ModelInferRequest(model_name=bundle.name, raw_input_contents=[pixels.tobytes()])
            asked.inputs.add(name="images", datatype="UINT8", shape=pixels.shape)
            sent = service_pb2.ModelInferRequest.FromString(asked.SerializeToString())
            found = engine(np.frombuffer(sent.raw_input_contents[0], np.uint8).reshape(tuple(sent.inputs[0].shape)))
            answer = service_pb2.ModelInferResponse(raw_output_contents=[found.tobytes()])
            answer.outputs.add(name="logits", datatype="FP32", shape=found.shape)
            back = service_pb2.ModelInferResponse.FromString(answer.SerializeToString())
            logits.append(np.frombuffer(back.raw_output_contents[0], np.float32))
    return np.array(logits), bundle.decisions.decide(np.array(logits))


def browser(bundle: Bundle, ort: Path, files: list[Path], scratch: Path) -> list[Row]:
    from tests.browser import chromium, clean_page
    from tests.callers import served

    (scratch / "page").mkdir()
    (scratch / "page" / "pictures").symlink_to(files[0].parent.resolve())
    ask = "async (file) => await window.tag(await (await fetch(`pictures/${file}`)).blob())"
    with served(scratch / "page", bundle.path, ort) as address, chromium() as running, clean_page(running) as page:
        page.goto(f"{address}/tag.html")
        page.wait_for_function("window.tag !== undefined")
        return [page.evaluate(ask, file.name) for file in files]


def compiled(scratch: Path) -> Path:
    import openvino

    from tests.callers import compile_command, require_compiler

    command = compile_command(require_compiler(), Path(openvino.__file__).parent, scratch / "tag")
    subprocess.run(command, check=True)
    return scratch / "tag"


def prepared(bundle: Bundle, data: MultiLabelDataset, folder: Path) -> list[Path]:
    """The pictures as edgepress prepares them, as PNG."""
    folder.mkdir()
    files = []
    for row in range(len(data)):
        files.append(folder / f"{row:05d}.png")
        cv2.imwrite(str(files[-1]), bundle.preprocess(data.picture(row))[:, :, ::-1])
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--ort", type=Path, required=True)
    parser.add_argument("--model-api", type=Path, required=True)
    parser.add_argument("--record", type=Path)
    given = parser.parse_args()
    data = load_dataset(given.data, "test")
    files = [Path(path) for path in data.paths]  # type: ignore[arg-type]
    onnx, openvino = Bundle.open(given.run / "onnx-fp32"), Bundle.open(given.run / "openvino-fp32")
    expected: dict[str, np.ndarray] = {}
    for bundle in (onnx, openvino):
        with open_engine(bundle) as engine:
            expected[bundle.name] = np.concatenate([engine(engine.preprocess.load(file)[None]) for file in files])
    print("| program | bundle | decisions that differ | largest difference of a logit |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        api = write_model_api(openvino, scratch / "model-api") / "model.xml"
        ready = prepared(openvino, data, scratch / "prepared")
        callers: list[tuple[str, Bundle, Callable[[], tuple[np.ndarray, np.ndarray]]]] = [
            (
                "Python, onnxruntime and Pillow",
                onnx,
                lambda: told(onnx, lines([sys.executable, ROOT / "examples/callers/tag.py", onnx.path, *files])),
            ),
            ("C++, OpenVINO and libjpeg", openvino, lambda: told(openvino, lines([compiled(scratch), api, *files]))),
            (
                "JavaScript, onnxruntime-web in Chromium",
                onnx,
                lambda: told(onnx, browser(onnx, given.ort, files, scratch)),
            ),
            ("Triton's protocol objects", onnx, lambda: triton(onnx, data)),
            (
                "OpenVINO Model API, prepared pixels",
                openvino,
                lambda: told(openvino, lines([given.model_api, "-c", MODEL_API, api, *ready])),
            ),
            (
                "OpenVINO Model API, own scaling",
                openvino,
                lambda: told(openvino, lines([given.model_api, "-c", MODEL_API, api, *files])),
            ),
        ]
        rows = [compared(name, bundle, expected[bundle.name], *call()) for name, bundle, call in callers]
    if given.record:
        about = {"machine": machine_key().processor, "tools": tools_of("onnxruntime", "openvino", "pillow", "numpy")}
        write_atomically(given.record, (json.dumps({**about, "rows": rows}, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
