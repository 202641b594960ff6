"""export --layout free-size: a model that takes pictures of any height and width, and scales them itself.

    OUT/model.onnx                          or model.xml and model.bin of an OpenVINO bundle
    OUT/labels.txt                          one label per line, in the order of the logits
    OUT/golden/N.jpg, 0.png, answers.json   pictures, and what the model answers to them
    OUT/manifest.json, OUT/README.md

In front of the bundle's model, which stays as it is, are the nodes of `deploy.build.resize_graph`. A program decodes a
picture and needs no resize of its own. Before the folder is written, the model answers the bundle's golden pictures
from their decoded pixels, within the bounds that hold for the bundle itself.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgepress.deploy.build.handoff import new_folder
from edgepress.deploy.build.own_file import inner_graphs
from edgepress.deploy.build.resize_graph import LONGEST, Nodes, add_preprocess
from edgepress.deploy.build.triton import LABELS
from edgepress.deploy.engines.attention import require_logits_alone
from edgepress.deploy.engines.base import require
from edgepress.deploy.engines.golden import Golden, disagreement
from edgepress.multilabel.bundle import MANIFEST, Bundle
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.golden_answers import ANSWERS, DECODED, picture_files
from edgepress.multilabel.manifest import Kind
from edgepress.multilabel.onnx_session import FLOAT_STAYS, cpu_session
from edgepress.multilabel.openvino_model import own_signal_stack

if TYPE_CHECKING:
    import onnx

IMAGES = "images"
_PREFIX = "free_size"
_REFUSED: dict[Kind, str] = {
    "torch": "it is a student and no engine: export it first",
    "litert": "no whole model was tried in LiteRT",
    "ncnn": "pnnx fixes the height and width, and leaves operators that ncnn lacks",
    "tensorrt": "TensorRT refuses bytes behind the input, and nothing was run on a GPU",
}
_F32 = {"INFERENCE_PRECISION_HINT": "f32"}
Answers = Callable[[np.ndarray], np.ndarray]
"""From pictures uint8 `[B, H, W, 3]` to logits `[B, C]`."""


def write_free_size(bundle: Bundle, out: Path) -> Path:
    """Write a bundle's model with its preprocessing inside; returns `out`.

    Raises:
        InputError: the bundle's runtime does not take such a model, an If or Loop in it reads the pixels, the bundle
            stores no pictures, the new model answers them otherwise, or `out` is not empty.
        EngineUnavailableError: onnx, onnxruntime or openvino is not installed.
    """
    kind = bundle.manifest.kind
    writers = {"onnx": _write_onnx, "openvino": _write_ir}
    if kind not in writers:
        why = _REFUSED.get(kind, "no such model was tried in it")
        raise InputError(
            f"{bundle.path}: a bundle of kind {kind}: {why}; the layout free-size serves {' and '.join(writers)}"
            " (docs/pixels.md)"
        )
    require_logits_alone(bundle)
    golden, decoded = Golden.of(bundle), _decoded(bundle)
    if golden is None or decoded is None:
        raise InputError(f"{bundle.path}: has no golden pictures to check the new model with; export its model again")
    require("onnx", "quantize")
    require("onnxruntime" if kind == "onnx" else "openvino", "onnxruntime" if kind == "onnx" else "openvino")
    with new_folder(out, "the model") as folder:
        answers = writers[kind](bundle, folder)
        found = np.concatenate([answers(picture[None]) for picture in decoded])
        if (said := disagreement(golden, found, bundle)) is not None:
            raise InputError(f"{bundle.path}: with its preprocessing inside the model answers otherwise: {said}")
        (folder / LABELS).write_text("".join(f"{label}\n" for label in bundle.labels.names), encoding="utf-8")
        (folder / ANSWERS).parent.mkdir()
        for file in (*(path for path, _ in picture_files(bundle.path)), bundle.path / ANSWERS, bundle.path / MANIFEST):
            shutil.copyfile(file, folder / file.relative_to(bundle.path))
        (folder / "README.md").write_text(_readme(bundle), encoding="utf-8")
    return out


def _decoded(bundle: Bundle) -> list[np.ndarray] | None:
    """The decoded pixels of the golden pictures, in their order; None in bundles that store none."""
    if DECODED not in bundle.manifest.files:
        return None
    with np.load(io.BytesIO(bundle.read(DECODED)), allow_pickle=False) as file:
        return [file[name] for name in sorted(file.files, key=int)]


def with_free_size(graph: onnx.ModelProto, nodes: Nodes, pixels: str) -> None:
    """Put nodes in front of a model that takes pixels, in place.

    Args:
        pixels: the name of what the nodes give.
    """
    from onnx import TensorProto, helper

    (taken,) = graph.graph.input
    inner, batch = taken.name, taken.type.tensor_type.shape.dim[0].dim_param
    for node in graph.graph.node:
        node.input[:] = [pixels if name == inner else name for name in node.input]
    behind = list(graph.graph.node)
    del graph.graph.node[:], graph.graph.input[:]
    graph.graph.node.extend([*nodes.nodes, *behind])
    graph.graph.initializer.extend(nodes.constants)
    graph.graph.input.append(helper.make_tensor_value_info(IMAGES, TensorProto.UINT8, [batch, "height", "width", 3]))


def _require_input_outside(graph: onnx.GraphProto, source: Path) -> None:
    """Refuse a graph whose input is read within an If or a Loop, where nothing can be put in front of it."""
    for node in graph.node:
        if any(graph.input[0].name in _read(one) for one in inner_graphs(node)):
            raise InputError(
                f"{source}: its {node.op_type} {node.name!r} reads the pixels in an inner graph, where the layout"
                " free-size cannot put its resize in front of them; export the model without If and Loop, and adopt it"
            )


def _read(graph: onnx.GraphProto) -> set[str]:
    """The names that the nodes of a graph and of its inner graphs read."""
    names = {name for node in graph.node for name in node.input}
    return names.union(*(_read(one) for node in graph.node for one in inner_graphs(node)))


def _write_onnx(bundle: Bundle, folder: Path) -> Answers:
    import onnx

    graph = onnx.load(str(bundle.model_path))
    _require_input_outside(graph.graph, bundle.path)
    nodes = Nodes(_PREFIX)
    with_free_size(graph, nodes, add_preprocess(nodes, IMAGES, bundle.preprocess))
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, str(folder / "model.onnx"))
    session = cpu_session(folder / "model.onnx")
    return lambda pictures: session.run(None, {IMAGES: pictures})[0]


def _write_ir(bundle: Bundle, folder: Path) -> Answers:
    import onnx
    import openvino as ov
    from onnx import TensorProto, helper

    nodes, size = Nodes(_PREFIX), bundle.preprocess.size
    pixels = add_preprocess(nodes, IMAGES, bundle.preprocess)
    front = helper.make_model(
        helper.make_graph(
            nodes.nodes,
            _PREFIX,
            [helper.make_tensor_value_info(IMAGES, TensorProto.UINT8, ["batch", "height", "width", 3])],
            [helper.make_tensor_value_info(pixels, TensorProto.UINT8, ["batch", size, size, 3])],
            nodes.constants,
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=9,
    )
    onnx.checker.check_model(front, full_check=True)
    core = ov.Core()
    scales, tagger = core.read_model(front.SerializeToString()), core.read_model(str(bundle.model_path))
    (taken,) = tagger.get_parameters()
    taken.output(0).replace(scales.get_results()[0].input_value(0))
    model = ov.Model(tagger.get_results(), scales.get_parameters(), tagger.get_friendly_name())
    ov.save_model(model, str(folder / "model.xml"), compress_to_fp16=False)
    with own_signal_stack():
        compiled = core.compile_model(str(folder / "model.xml"), "CPU", _F32)
    return lambda pictures: compiled(pictures)[0]


def _readme(bundle: Bundle) -> str:
    manifest, preprocess = bundle.manifest, bundle.preprocess
    return f"""# {bundle.name} for pictures of any size

```python
{_ONNX if manifest.kind == "onnx" else _IR}
print([label for label, logit in zip(open("{LABELS}", encoding="utf-8").read().splitlines(), logits) if logit >= 0])
```

- `{IMAGES}` is uint8 `[B, height, width, 3]`: red, green and blue of decoded, upright pictures with sides of 1 to
  {LONGEST} pixels. The pictures of a batch have one size. The model prepares them by itself ({preprocess.seen},
  {preprocess.interpolation}, {preprocess.size} pixels), so a program needs no resize of its own.
- `logits` is float32 `[B, {len(bundle.labels)}]` in the order of `{LABELS}`. What `decisions` in `{MANIFEST}` says
  turns them into probabilities, and those into yes and no (docs/bundle.md of edgepress). The lines above decide at a
  probability of 0.5, without calibration.
- {_TOLD[manifest.kind]}
- Check a program with the pictures in `golden`: `golden/answers.json` has the logits of each.
- The model is the bundle `{bundle.name}` ({manifest.kind}, {manifest.precision}), digest `{bundle.digest}`.
"""


_OPENED = """from PIL import Image, ImageOps

picture = np.asarray(ImageOps.exif_transpose(Image.open("golden/0.jpg")).convert("RGB"))"""
_ONNX = f"""import numpy as np
import onnxruntime
{_OPENED}
session = onnxruntime.InferenceSession("model.onnx", disabled_optimizers={list(FLOAT_STAYS)})
logits = session.run(["logits"], {{"{IMAGES}": picture[None]}})[0][0]"""
_IR = f"""import numpy as np
import openvino
{_OPENED}
model = openvino.Core().compile_model("model.xml", "CPU", {_F32})
logits = model(picture[None])[0][0]"""
_TOLD: dict[Kind, str] = {
    "onnx": "Without `disabled_optimizers` ONNX Runtime would quantise what an INT8 model leaves in float.",
    "openvino": "Without the hint OpenVINO computes in bf16 on some processors, and the pixels are not exact.",
}
