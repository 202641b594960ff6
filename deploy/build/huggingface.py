"""export --layout huggingface: a folder that `huggingface_hub` uploads as it is.

    OUT/manifest.json, model.onnx, golden/, ...   the ONNX bundle itself, so that edgepress opens the folder
    OUT/README.md                                 the model card
    OUT/config.json                               labels, thresholds and preprocessing under the hub's usual names
    OUT/model.safetensors                         the student's weights, if its bundle is beside the ONNX bundle

`Tagger.from_pretrained` opens such a folder, or downloads it by its name on the hub.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

from edgepress.deploy.build.handoff import new_folder, require_kind
from edgepress.deploy.engines.attention import require_logits_alone
from edgepress.multilabel.bundle import MANIFEST, Bundle

PROGRAM = "the layout huggingface"
CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
log = logging.getLogger("edgepress")


def write_huggingface(bundle: Bundle, out: Path, card: str) -> Path:
    """Write a folder to upload; returns `out`.

    Args:
        card: the model card, Markdown.

    Raises:
        InputError: the bundle is no ONNX bundle, or `out` is not empty.
    """
    require_kind(bundle, PROGRAM, ("onnx", ("fp32", "fp16", "int8")))
    require_logits_alone(bundle)
    weights = _weights(bundle)
    with new_folder(out, "what is uploaded") as folder:
        for name in (*bundle.manifest.files, MANIFEST):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.path / name, folder / name)
        (folder / CARD).write_bytes(card.encode("utf-8", "backslashreplace"))
        (folder / CONFIG).write_text(
            json.dumps(hub_config(bundle), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        if weights is None:
            log.warning("%s: the student that it was made from is not beside it: %s is left out", bundle.path, WEIGHTS)
        else:
            shutil.copyfile(weights, folder / WEIGHTS)
    return out


def _weights(bundle: Bundle) -> Path | None:
    """The weights of the torch bundle that an ONNX bundle came from; None where it is not beside it."""
    parent = bundle.open_parent()
    while parent is not None and parent.manifest.kind != "torch":
        parent = parent.open_parent()
    return None if parent is None else parent.model_path


def hub_config(bundle: Bundle) -> dict[str, Any]:
    """`config.json`: what the hub and its users look for, by its usual names; the manifest has all of it as well."""
    manifest, preprocess = bundle.manifest, bundle.preprocess
    names = bundle.labels.names
    return {
        "library_name": "edgepress",
        "problem_type": "multi_label_classification",
        "architecture": manifest.facts.backbone,
        "head": manifest.facts.head,
        "image_size": preprocess.size,
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
        "thresholds": dict(zip(names, bundle.decisions.thresholds, strict=True)),
        "preprocess": preprocess.model_dump(mode="json"),
        "edgepress_version": manifest.tools.get("edgepress"),
    }
