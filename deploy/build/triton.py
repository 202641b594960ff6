"""Serving hand-off: write a model repository for Triton Inference Server from a finished bundle.

    OUT/models/NAME/1/model.onnx            or model.xml and model.bin, or model.plan
    OUT/models/NAME/config.pbtxt            a ModelConfig in protobuf's text format
    OUT/models/NAME/labels.txt              one label per line, in the order of the logits
    OUT/manifest.json                       the bundle's: preprocessing, thresholds and provenance
    OUT/request.json, OUT/README.md         how to serve it and how to send a request

The server runs the same file as the bundle: raw uint8 pixels in, float32 logits out. Sources: Triton's
`model_config.proto`, its protocol extensions "Binary tensor data" and "Classification", and the READMEs of its ONNX
Runtime and OpenVINO backends. It was not run on a server: tests parse the configuration and send the README's request
to a stand-in.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path, PurePosixPath

from edgepress.deploy.build.handoff import new_folder
from edgepress.deploy.engines.attention import require_logits_alone
from edgepress.multilabel.bundle import MANIFEST, Bundle
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.manifest import BuiltForTensorRt

IMAGES, LOGITS = "images", "logits"
"""The names that `deploy.build.export` gives to every model's input and output."""
LABELS = "labels.txt"
_BACKENDS = {"onnx": "onnxruntime", "openvino": "openvino", "tensorrt": "tensorrt"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_PREFERRED_BATCH = 8
_QUEUE_MICROSECONDS = 100
_OPTIMISES_NOTHING = 2
"""The level at which Triton's backend has ONNX Runtime change nothing in the graph. At -1, which it calls basic, ONNX
Runtime still quantises what was left in float."""
_SHOWN = 5
"""Number of labels that the README's request asks for."""


def write_triton(
    bundle: Bundle, out: Path, *, name: str | None = None, max_batch: int = 64, device: str = "cpu"
) -> Path:
    """Write a model repository that Triton serves a bundle from; returns `out`.

    The server batches ONNX and TensorRT models. OpenVINO's backend takes no batch smaller than the largest, so an
    OpenVINO model is written with a free first dimension, and a client sends batches itself.

    Args:
        bundle: of kind onnx, openvino, or tensorrt built by the full TensorRT.
        out: a new or empty folder; after an error nothing is left in it.
        name: the model's name, which is in every request's address; by default the bundle's folder.
        max_batch: most pictures at once for ONNX; a TensorRT engine has its own limit.
        device: `cpu` or `cuda`, where the server runs an ONNX model.

    Raises:
        InputError: Triton does not serve the bundle, does not take the name or device, or `out` is not empty.
    """
    name = require_name(bundle.name if name is None else name)
    require_logits_alone(bundle)
    config = model_config(bundle, name, max_batch, device)
    with new_folder(out, "the model repository") as folder:
        version = folder / "models" / name / "1"
        version.mkdir(parents=True)
        for file in model_files(bundle):
            shutil.copyfile(bundle.path / file, version / file)
        (version.parent / "config.pbtxt").write_text(config, encoding="utf-8")
        (version.parent / LABELS).write_text("".join(f"{label}\n" for label in bundle.labels.names), encoding="utf-8")
        shutil.copyfile(bundle.path / MANIFEST, folder / MANIFEST)
        request = json.dumps(request_of(bundle))
        (folder / "request.json").write_text(request, encoding="utf-8")
        (folder / "README.md").write_text(_readme(bundle, name, len(request.encode())), encoding="utf-8")
    return out


def require_name(name: str) -> str:
    """
    Raises:
        InputError: this cannot be a model's name in an address.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"model name {name!r}: expected letters, digits, _ . and -, as it is part of an address")
    return name


def model_config(bundle: Bundle, name: str, max_batch: int = 64, device: str = "cpu") -> str:
    """A bundle's `config.pbtxt`; arguments and errors as `write_triton`."""
    kind, built_for = bundle.manifest.kind, bundle.manifest.built_for
    if kind not in _BACKENDS:
        made = "export the student first" if kind == "torch" else f"{kind} has no backend in Triton"
        raise InputError(f"{bundle.path}: a bundle of kind {kind}; expected one of {', '.join(_BACKENDS)}: {made}")
    if device not in ("cpu", "cuda") or (kind == "openvino" and device != "cpu"):
        raise InputError(f"device {device!r}: expected cpu or cuda; an OpenVINO model is served on the cpu")
    if isinstance(built_for, BuiltForTensorRt):
        if built_for.runtime != "tensorrt":
            raise InputError(
                f"{bundle.path}: built by {built_for.runtime}; Triton's backend opens plans of tensorrt, built on the "
                "server's GPU by the server's version"
            )
        device, max_batch = "cuda", built_for.max_batch
    if max_batch < 1:
        raise InputError(f"max_batch {max_batch}: expected at least 1")
    size, batched = bundle.preprocess.size, kind != "openvino"
    first = "" if batched else "-1, "
    lines = [
        f'name: "{name}"',
        f'backend: "{_BACKENDS[kind]}"',
        f"max_batch_size: {max_batch if batched else 0}",
        f'input [ {{ name: "{IMAGES}" data_type: TYPE_UINT8 dims: [ {first}{size}, {size}, 3 ] }} ]',
        f'output [ {{ name: "{LOGITS}" data_type: TYPE_FP32 dims: [ {first}{len(bundle.labels)} ] '
        f'label_filename: "{LABELS}" }} ]',
        f"instance_group [ {{ count: 1 kind: KIND_{'GPU' if device == 'cuda' else 'CPU'} }} ]",
    ]
    if _has_float_nodes(bundle):
        lines.append(f"optimization {{ graph {{ level: {_OPTIMISES_NOTHING} }} }}")
    if batched:
        preferred = ", ".join(map(str, sorted({min(_PREFERRED_BATCH, max_batch), max_batch})))
        lines += [
            f"dynamic_batching {{ preferred_batch_size: [ {preferred} ] "
            f"max_queue_delay_microseconds: {_QUEUE_MICROSECONDS} }}"
        ]
    return "\n".join(lines) + "\n"


def _has_float_nodes(bundle: Bundle) -> bool:
    """Whether an INT8 ONNX graph has nodes that were left in float on purpose.

    ONNX Runtime quantises these too, and answers otherwise (`findings/onnxruntime-float-convolution-between-qdq.sh`).
    Our engine switches that one optimisation off; Triton's backend takes a level alone. Where no node is in float, the
    default is what our engine runs.
    """
    calibration = bundle.manifest.calibration
    return bundle.manifest.kind == "onnx" and calibration is not None and bool(calibration.kept_float)


def model_files(bundle: Bundle) -> list[str]:
    """The model file, and the file that its runtime reads beside it under the same name (OpenVINO's weights)."""
    stem = PurePosixPath(bundle.manifest.model).stem
    return [name for name in bundle.manifest.files if PurePosixPath(name).stem == stem]


def request_of(bundle: Bundle) -> dict[str, object]:
    """The JSON that is sent before a picture's bytes; it asks for the labels with the highest logits."""
    size = bundle.preprocess.size
    pixels = size * size * 3
    return {
        "inputs": [
            {
                "name": IMAGES,
                "shape": [1, size, size, 3],
                "datatype": "UINT8",
                "parameters": {"binary_data_size": pixels},
            }
        ],
        "outputs": [{"name": LOGITS, "parameters": {"classification": min(_SHOWN, len(bundle.labels))}}],
    }


def _notes(bundle: Bundle) -> list[str]:
    """What the README says of the model, a line each."""
    manifest, size, labels = bundle.manifest, bundle.preprocess.size, len(bundle.labels)
    made_with = ", ".join(f"{tool} {number}" for tool, number in manifest.tools.items())
    notes = [
        f"- The model is the bundle `{bundle.name}` ({manifest.kind}, {manifest.precision}), digest `{bundle.digest}`, "
        f"made with {made_with or 'unknown versions'}.",
        f"- It takes raw RGB pixels, uint8 `[B, {size}, {size}, 3]`, resized as `preprocess` in `manifest.json` says, "
        f"and gives float32 logits `[B, {labels}]` in the order of `labels.txt`.",
        "- A logit is no probability. What `decisions` in `manifest.json` says turns logits into probabilities and "
        "those into yes and no; where there is none it is the sigmoid and 0.5.",
    ]
    if bundle.decisions.groups:
        notes.append(
            "- Some labels exclude or imply others (`groups` in `decisions`): within a group the logits are those of a "
            "softmax, and answers must not contradict each other. `edgepress.multilabel.decisions.Decisions` has the "
            'one implementation, which needs numpy and pydantic: `Decisions.model_validate(manifest["decisions"])`, '
            "then `.probabilities(logits)` and `.decide(logits)`."
        )
    if manifest.kind == "openvino":
        notes.append(
            "- Triton does not batch for OpenVINO here: send several pictures in one request, without the parameter "
            "`classification`, which would rank over all of them. Its backend lets OpenVINO choose the precision, "
            "which is bf16 on some CPUs."
        )
    if _has_float_nodes(bundle):
        notes.append(
            "- Some nodes of this INT8 graph are in float on purpose. ONNX Runtime would quantise them too, and the "
            "backend cannot switch off that optimisation alone, so the configuration switches off all: the answers "
            "are right, but nothing computes in INT8, and the model is slower than in float. Serve the float model "
            "instead, OpenVINO's INT8, or an INT8 graph without such nodes (`edgepress quantize` with a larger "
            "allowed drop, `--budget`)."
        )
    if isinstance(manifest.built_for, BuiltForTensorRt):
        notes.append(
            f"- The plan opens only in a server with TensorRT {manifest.built_for.version} on a GPU of compute "
            f"capability {manifest.built_for.compute_capability}."
        )
    return notes


def asked(name: str, header: int) -> str:
    """How the README of a repository says that a server of the KServe protocol is asked, as Triton and OpenVINO's are.

    Args:
        name: of the model.
        header: bytes of the JSON before the pixels.
    """
    return f"""Ask it, in this folder; `edgepress` prepares the pixels as they were in training:

```sh
python -c 'import json, pathlib, sys
from edgepress.multilabel.preprocess import Preprocess
preprocess = Preprocess.model_validate(json.load(open("{MANIFEST}"))["preprocess"])
sys.stdout.buffer.write(preprocess.load(pathlib.Path(sys.argv[1])).tobytes())' "$PICTURE" > pixels.rgb
cat request.json pixels.rgb | curl --silent --fail --data-binary @- \\
    --header "Content-Type: application/octet-stream" \\
    --header "Inference-Header-Content-Length: {header}" \\
    "${{SERVER:-http://localhost:8000}}/v2/models/{name}/infer"
```
"""


def _readme(bundle: Bundle, name: str, header: int) -> str:
    labels = len(bundle.labels)
    return f"""# {name} on Triton Inference Server

Serve it; TRITON_IMAGE is an image of Triton Inference Server that has this model's backend:

```
docker run --rm -p 8000:8000 -v "$PWD/models:/models" $TRITON_IMAGE \\
    tritonserver --model-repository=/models
```

{asked(name, header)}
The answer's `data` holds the {min(_SHOWN, labels)} highest logits as `logit:index:label`. Without `parameters` in
`request.json` (and with its new length in the header) it holds every logit.

{chr(10).join(_notes(bundle))}
"""
