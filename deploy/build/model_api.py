"""export --layout model-api: a model that OpenVINO Model API opens by its path and tags pictures with.

    OUT/model.xml, OUT/model.bin            or model.onnx
    OUT/manifest.json, OUT/README.md

The model gives scores that are above 0 where the bundle answers yes, and Model API compares their sigmoid with 0.5, so
that it answers by the bundle's calibration and thresholds. What it reads is in the model: `model_info` of the IR, and
the same keys in ONNX's metadata.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from edgepress.deploy.build.handoff import (
    model_info,
    new_folder,
    require_kind,
    require_single_answers,
    with_scores,
    yes_above_zero,
)
from edgepress.deploy.engines.attention import require_logits_alone
from edgepress.deploy.engines.base import require
from edgepress.multilabel.bundle import MANIFEST, Bundle
from edgepress.multilabel.errors import InputError

PROGRAM = "OpenVINO Model API"
SCORES = "scores"


def write_model_api(bundle: Bundle, out: Path) -> Path:
    """Write a model for OpenVINO Model API; returns `out`.

    Raises:
        InputError: it does not serve the bundle, or `out` is not empty.
        EngineUnavailableError: openvino, or onnx, is not installed.
    """
    require_kind(bundle, PROGRAM, ("openvino", ("fp32", "fp16", "int8")), ("onnx", ("fp32", "fp16")))
    require_single_answers(bundle, PROGRAM)
    require_logits_alone(bundle)
    if len(bundle.labels) == 1:  # it takes the only score of a picture for no list at all, and stops (0.4.7)
        raise InputError(f"{bundle.path}: has one label, and {PROGRAM} needs two; take --layout ovms or triton")
    openvino = bundle.manifest.kind == "openvino"
    require("openvino" if openvino else "onnx", "openvino" if openvino else "quantize")
    with new_folder(out, "the model") as folder:
        if openvino:
            _write_ir(bundle, folder)
        else:
            _write_onnx(bundle, folder)
        shutil.copyfile(bundle.path / MANIFEST, folder / MANIFEST)
        (folder / "README.md").write_text(_readme(bundle, "model.xml" if openvino else "model.onnx"), encoding="utf-8")
    return out


def _write_ir(bundle: Bundle, folder: Path) -> None:
    import openvino as ov
    from openvino import opset13 as ops

    model = ov.Core().read_model(str(bundle.model_path))
    scale, offset = (values.astype(np.float32)[None] for values in yes_above_zero(bundle.decisions))
    logits = model.get_results()[0].input_value(0)
    scores = ops.add(ops.multiply(logits, ops.constant(scale)), ops.constant(offset))
    scores.output(0).set_names({SCORES})
    tagger = ov.Model([scores], model.get_parameters(), "tagger")
    _tell(tagger, bundle)
    # The weights are stored as they were: those of an fp16 bundle are halves already.
    ov.save_model(tagger, str(folder / "model.xml"), compress_to_fp16=False)


def _tell(model: Any, bundle: Bundle) -> None:
    for key, value in model_info(bundle).items():
        model.set_rt_info(value, ["model_info", key])


def _write_onnx(bundle: Bundle, folder: Path) -> None:
    import onnx

    graph = onnx.load(str(bundle.model_path))
    with_scores(graph, *yes_above_zero(bundle.decisions), graph.graph.output[0].name, SCORES)
    for key, value in model_info(bundle).items():
        entry = graph.metadata_props.add()
        entry.key, entry.value = f"model_info {key}", value
    onnx.save(graph, str(folder / "model.onnx"))


def _readme(bundle: Bundle, model: str) -> str:
    size = bundle.preprocess.size
    return f"""# {bundle.name} for OpenVINO Model API

```python
import numpy as np
from PIL import Image
from model_api.models import ClassificationModel

# On a processor with bf16 OpenVINO would compute in it unless it is told not to.
from model_api.adapters import OpenvinoAdapter, create_core
adapter = OpenvinoAdapter(create_core(), "{model}", device="CPU", plugin_config={{"INFERENCE_PRECISION_HINT": "f32"}})
tagger = ClassificationModel.create_model(adapter, preload=True)
for label in tagger(np.asarray(Image.open("picture.jpg").convert("RGB"))).top_labels:
    print(label.name, label.confidence)
```

- A label is listed if the bundle answers yes: the calibration and the thresholds of `manifest.json` are in the model.
  The confidence is 0.5 at the label's threshold; it is no probability.
- The picture is RGB, uint8. Model API resizes it by its own bilinear interpolation, which skips pixels where a picture
  shrinks, and other decisions follow. Give it {size} x {size} pixels that were prepared as `docs/bundle.md` of
  edgepress says, and every decision is the bundle's.
- White space in a label is written as `_`, because Model API parts the list at spaces; `edgepress_labels` in
  `model_info` has the labels as they are.
- The model is the bundle `{bundle.name}` ({bundle.manifest.kind}, {bundle.manifest.precision}), digest
  `{bundle.digest}`.
"""
