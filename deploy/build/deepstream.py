"""export --layout deepstream: a model and a configuration for DeepStream's nvinfer as a primary classifier.

    OUT/model.onnx      float32 pixels [B, 3, size, size] in, one output per label
    OUT/config.txt      nvinfer's configuration (a GLib key file)
    OUT/labels.txt      one label per line: nvinfer reads a line per output, whose labels are parted by ;
    OUT/manifest.json, OUT/README.md

nvinfer's own parser of classifiers takes the most probable class of each output, if its value is above one threshold
for all. Each label is therefore an output of its own, with the sigmoid of a score that is above 0 where the bundle
answers yes. Sources: NVIDIA's DeepStream 7.1 documentation of gst-nvinfer, and `ClassifyPostprocessor` in
nvdsinfer_context_impl_output_parsing.cpp. It was not run in DeepStream: tests read the configuration as GLib does, and
do what that parser does with the model's outputs.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from edgepress.deploy.build.handoff import new_folder, require_kind, require_single_answers, with_scores, yes_above_zero
from edgepress.deploy.build.triton import LABELS
from edgepress.deploy.engines.attention import require_logits_alone
from edgepress.deploy.engines.base import require
from edgepress.multilabel.bundle import MANIFEST, Bundle
from edgepress.multilabel.errors import InputError

PROGRAM = "DeepStream"
PIXELS = "pixels"
_MODES = {"fp32": 0, "fp16": 2}
"""nvinfer's network-mode."""
_BATCH = 16


def write_deepstream(bundle: Bundle, out: Path) -> Path:
    """Write a model and a configuration for nvinfer; returns `out`.

    Raises:
        InputError: nvinfer does not serve the bundle, a label has a semicolon or a line break, or `out` is not empty.
        EngineUnavailableError: onnx is not installed.
    """
    require_kind(bundle, PROGRAM, ("onnx", ("fp32",)))
    require_single_answers(bundle, PROGRAM)
    require_logits_alone(bundle)
    for label in bundle.labels.names:
        if ";" in label or label.splitlines() != [label]:
            raise InputError(f"{bundle.path}: nvinfer parts labels at ; and line breaks, and {label!r} has one")
    if bundle.preprocess.resize == "crop":
        raise InputError(
            f"{bundle.path}: its pictures are cropped ({bundle.preprocess.seen}), and nvinfer scales whole frames; "
            "take squash or letterbox, or crop them before (nvvideoconvert's src-crop) and adopt the model with squash"
        )
    require("onnx", "quantize")
    import onnx

    with new_folder(out, "the model and its configuration") as folder:
        onnx.save(_graph(bundle), str(folder / "model.onnx"))
        (folder / "config.txt").write_text(nvinfer_config(bundle), encoding="utf-8")
        (folder / LABELS).write_text("".join(f"{label}\n" for label in bundle.labels.names), encoding="utf-8")
        shutil.copyfile(bundle.path / MANIFEST, folder / MANIFEST)
        (folder / "README.md").write_text(_readme(bundle), encoding="utf-8")
    return out


def output_names(bundle: Bundle) -> list[str]:
    """The outputs of the model, one per label, in their order."""
    return [f"label_{number:04d}" for number in range(len(bundle.labels))]


def _graph(bundle: Bundle) -> object:
    """The bundle's graph with nvinfer's input in front and an output per label behind."""
    import onnx
    from onnx import TensorProto, helper

    graph = onnx.load(str(bundle.model_path))
    with_scores(graph, *yes_above_zero(bundle.decisions), graph.graph.output[0].name, "edgepress_scores")
    (image,) = graph.graph.input
    batch, size = image.type.tensor_type.shape.dim[0].dim_param, bundle.preprocess.size
    # TensorRT takes bytes as an input only, so the pixels stay float: what read the bytes was a cast to float.
    for node in graph.graph.node:
        if image.name in node.input and node.op_type != "Cast":
            raise InputError(f"{bundle.path}: {node.op_type} {node.name!r} reads bytes, and nvinfer gives floats")
        node.input[:] = ["edgepress_nhwc" if name == image.name else name for name in node.input]
    front = [helper.make_node("Transpose", [PIXELS], ["edgepress_nhwc"], perm=[0, 2, 3, 1])]
    names = output_names(bundle)
    split = "edgepress_split"
    graph.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(len(names), np.int64), split))
    back = [
        helper.make_node("Sigmoid", ["edgepress_scores"], ["edgepress_confidences"]),
        helper.make_node("Split", ["edgepress_confidences", split], names, axis=1),
    ]
    nodes = [*front, *graph.graph.node, *back]
    del graph.graph.node[:], graph.graph.input[:], graph.graph.output[:]
    graph.graph.node.extend(nodes)
    graph.graph.input.append(helper.make_tensor_value_info(PIXELS, TensorProto.FLOAT, [batch, 3, size, size]))
    graph.graph.output.extend(helper.make_tensor_value_info(one, TensorProto.FLOAT, [batch, 1]) for one in names)
    onnx.checker.check_model(graph, full_check=True)
    return graph


def nvinfer_config(bundle: Bundle) -> str:
    """nvinfer's configuration, for a primary classifier on whole frames."""
    size, letterbox = bundle.preprocess.size, bundle.preprocess.resize == "letterbox"
    settings = {
        "gpu-id": 0,
        "onnx-file": "model.onnx",
        "labelfile-path": LABELS,
        "batch-size": _BATCH,
        "network-mode": _MODES[bundle.manifest.precision],
        "network-type": 1,
        "process-mode": 1,
        "gie-unique-id": 1,
        "infer-dims": f"3;{size};{size}",
        "network-input-order": 0,
        "model-color-format": 0,
        "net-scale-factor": 1,
        "maintain-aspect-ratio": int(letterbox),
        "symmetric-padding": int(letterbox),
        "scaling-filter": 1,
        "output-blob-names": ";".join(output_names(bundle)),
        "classifier-threshold": 0.5,
    }
    return "[property]\n" + "".join(f"{key}={value}\n" for key, value in settings.items())


def _readme(bundle: Bundle) -> str:
    return f"""# {bundle.name} in DeepStream

```
gst-launch-1.0 filesrc location=clip.mp4 ! qtdemux ! h264parse ! nvv4l2decoder ! mux.sink_0 \\
    nvstreammux name=mux batch-size=1 width=1280 height=720 ! nvinfer config-file-path=config.txt ! fakesink
```

Every frame gets a classifier's metadata with a label per answer "yes" (`NvDsClassifierMeta`, on the frame's object).
The first start builds a TensorRT engine, which takes minutes.

What nvinfer cannot do, and what follows:

- **Its scaling is not that of training.** It scales on the GPU or the VIC, bilinearly (`scaling-filter=1`), and nothing
  was measured in DeepStream. `edgepress verify BUNDLE --data DATA --as nvinfer` emulates it and tells the drop and the
  changed decisions; `distill --interpolation bilinear` trains for it.
- **It has one threshold for all labels.** The bundle's calibration and thresholds are therefore in the model: a
  confidence is 0.5 at the label's threshold and no probability.
- **It answers one class per output.** The model therefore has an output per label, and `labels.txt` a line per output.
  A custom parser is not needed.
- It knows no labels that exclude or imply each other; bundles with such labels are refused.

The model is the bundle `{bundle.name}`, digest `{bundle.digest}`. This was not run in DeepStream.
"""
