"""export --layout ovms: a model repository for OpenVINO Model Server.

    OUT/config.json                          the server's --config_path
    OUT/models/NAME/1/model.xml, model.bin   or model.onnx
    OUT/models/NAME/labels.txt               one label per line, in the order of the logits; for clients
    OUT/manifest.json                        the bundle's: preprocessing, thresholds and provenance
    OUT/request.json, OUT/README.md          how to serve it and how to send a request

The server runs the same file as the bundle: raw uint8 pixels in, float32 logits out. Sources: the schema of its
configuration (src/schema.cpp), its REST API for KServe v2 with binary data. It was not run on a server: tests check the
configuration against that schema's keys and send the README's request to a stand-in.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from edgepress.deploy.build.handoff import new_folder, require_kind
from edgepress.deploy.build.triton import LABELS, LOGITS, asked, model_files, request_of, require_name
from edgepress.deploy.engines.attention import require_logits_alone
from edgepress.multilabel.bundle import MANIFEST, Bundle

PROGRAM = "OpenVINO Model Server"


def write_ovms(bundle: Bundle, out: Path, *, name: str | None = None) -> Path:
    """Write a model repository for OpenVINO Model Server; returns `out`.

    Args:
        name: the model's name, which is in every request's address; by default the bundle's folder.

    Raises:
        InputError: the server does not serve the bundle, does not take the name, or `out` is not empty.
    """
    name = require_name(bundle.name if name is None else name)
    require_kind(bundle, PROGRAM, ("openvino", ("fp32", "fp16", "int8")), ("onnx", ("fp32", "fp16")))
    require_logits_alone(bundle)
    with new_folder(out, "the model repository") as folder:
        version = folder / "models" / name / "1"
        version.mkdir(parents=True)
        for file in model_files(bundle):
            shutil.copyfile(bundle.path / file, version / file)
        (version.parent / LABELS).write_text("".join(f"{label}\n" for label in bundle.labels.names), encoding="utf-8")
        (folder / "config.json").write_text(json.dumps(server_config(name), indent=2) + "\n", encoding="utf-8")
        shutil.copyfile(bundle.path / MANIFEST, folder / MANIFEST)
        request = json.dumps({**request_of(bundle), "outputs": [{"name": LOGITS}]})
        (folder / "request.json").write_text(request, encoding="utf-8")
        (folder / "README.md").write_text(_readme(bundle, name, len(request.encode())), encoding="utf-8")
    return out


def server_config(name: str) -> dict[str, object]:
    """The server's configuration. Without the hint the CPU computes fp32 models in bf16 where the processor has it."""
    config = {
        "name": name,
        "base_path": f"/repository/models/{name}",
        "target_device": "CPU",
        "plugin_config": {"INFERENCE_PRECISION_HINT": "f32"},
    }
    return {"model_config_list": [{"config": config}]}


def _readme(bundle: Bundle, name: str, header: int) -> str:
    size = bundle.preprocess.size
    return f"""# {name} on OpenVINO Model Server

```
docker run --rm -p 8000:8000 -v "$PWD:/repository" openvino/model_server \\
    --config_path /repository/config.json --rest_port 8000
```

{asked(name, header)}
- The answer's `data` holds the logits in the order of `{LABELS}`. A logit is no probability: what `decisions` in
  `{MANIFEST}` says turns logits into probabilities and those into yes and no (docs/bundle.md of edgepress).
- The model takes raw RGB pixels, uint8 `[B, {size}, {size}, 3]`, in a batch of any size.
- The server's own decoding of JPEGs and its resizing are not used: it would resize by another kernel.
- The model is the bundle `{bundle.name}` ({bundle.manifest.kind}, {bundle.manifest.precision}), digest
  `{bundle.digest}`.
"""
