"""Export a student to ONNX, the only source of truth for every engine.

The graph takes uint8 NHWC RGB pictures in a batch of any size, normalises them and gives float32 logits.
"""

from __future__ import annotations

import json
import logging
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import torch
from timm.utils import reparameterize_model
from torch import Tensor, nn

from edgepress.compress.models import MultiLabelModel
from edgepress.deploy.build.front import forget_sources
from edgepress.deploy.build.golden_pictures import golden_pictures, version_of
from edgepress.deploy.build.reference import REFERENCE, Reference
from edgepress.deploy.build.traced import OPSET, traced
from edgepress.deploy.engines.attention import ATTENTION
from edgepress.multilabel.bundle import Bundle, Parent, inputs_hash, up_to_date, write_bundle
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.decisions import Decisions
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.facts import Facts
from edgepress.multilabel.metrics import told_constant
from edgepress.multilabel.reached import answer_split

MODEL = "model.onnx"
log = logging.getLogger("edgepress")


def export_onnx(
    model: MultiLabelModel,
    verified: MultiLabelDataset,
    out: Path,
    *,
    parent: Parent | None = None,
    identity: str,
    decisions: Decisions | None = None,
    attention: bool = False,
    generated_pictures: bool = False,
) -> Bundle:
    """Export a model as the bundle `onnx-fp32`, with its logits on the verified split beside it.

    Args:
        model: must be in evaluation mode.
        verified: the split that engines will be verified on; its labels must be the model's.
        parent: the torch bundle that the model came from, if there is one.
        identity: sha256 of what the model was loaded from; a bundle with the same identity is kept, with its decisions.
        decisions: the bundle's decisions, if some were fitted for the model; without any it gets the label groups of
            the verified split.
        attention: also export what each label looks at, as a second output; see `deploy.engines.attention`.
        generated_pictures: store generated pictures in the bundle in place of eight of the verified split.

    Raises:
        InputError: labels differ, a picture cannot be read, or the backbone cannot be exported with a free batch size.
        DataChangedError: see `MultiLabelDataset.stored`.
    """
    verified = verified.in_order_of(model.labels, "the model", f"the data set {verified.root}")
    shown = {ATTENTION: True} if attention else {}
    made_from = {"model": identity, "parent": parent.model_dump() if parent else None}
    made_with = {"verified": verified.fingerprint(), "opset": OPSET, "golden": version_of(generated_pictures)}
    inputs = inputs_hash({**made_from, **made_with, **shown})
    if (made := up_to_date(out, inputs)) is not None:
        return made
    log.info("exporting %s to ONNX (opset %d)", model.config.backbone, OPSET)
    logits = torch_logits(model, verified)
    reference = Reference.of(verified, logits)
    pictures = golden_pictures(verified, model.preprocess, model.answer, generated=generated_pictures)
    if said := told_constant(logits, model.labels.names):
        log.warning("%s, split %r: %s", verified.root, verified.split, said)
    graph = _to_onnx(model, attention)
    with write_bundle(
        out,
        kind="onnx",
        precision="fp32",
        model=MODEL,
        labels=model.labels.names,
        preprocess=model.preprocess,
        parent=parent,
        opset=OPSET,
        decisions=decisions or Decisions.of_groups(model.labels.names, verified.groups),
        facts=Facts(backbone=model.config.backbone, head=model.config.head).model_copy(update=shown),
        tools={name: version(name) for name in ("torch", "timm", "onnx", "edgepress")},
        inputs=inputs,
    ) as folder:
        onnx.save(graph, folder / MODEL)
        reference.save(folder / REFERENCE)
        pictures.save(folder)
    return Bundle.open(out)


class _Logits(nn.Module):
    """The model without its embeddings, which only training needs."""

    def __init__(self, model: MultiLabelModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.logits(images)


class _Attention(_Logits):
    """Logits and what each label looks at."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.with_attention(images)


def _to_onnx(model: MultiLabelModel, attention: bool) -> onnx.ModelProto:
    # Branches that training needs (RepVGG, RepViT, MobileOne) become one convolution; others pass unchanged.
    fused = reparameterize_model(model)
    module = (_Attention(fused) if attention else _Logits(fused)).eval()
    size = model.preprocess.size
    # Two pictures, because the exporter treats a batch of one as a constant.
    images = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    if attention:
        module(images)  # so its own error is shown, not the one that the exporter wraps it in
    graph = traced(module, images, ["logits", ATTENTION] if attention else ["logits"], model.config.backbone)
    for value in (*graph.graph.input, *graph.graph.output):
        first = value.type.tensor_type.shape.dim[0]
        if not first.dim_param:  # a Python number in the model's code froze it without an error
            raise InputError(f"{model.config.backbone}: the exported {value.name} has a fixed batch {first.dim_value}")
    forget_sources(graph)
    for key, fact in (
        ("labels", json.dumps(model.labels.names)),
        ("preprocess", model.preprocess.model_dump_json()),
        ("edgepress", version("edgepress")),
    ):
        entry = graph.metadata_props.add()
        entry.key, entry.value = key, fact
    onnx.checker.check_model(graph, full_check=True)
    return graph


def torch_logits(model: MultiLabelModel, data: MultiLabelDataset) -> np.ndarray:
    """A model's own logits `[N, C]` on a split.

    Raises:
        InputError: they are not finite, or a picture cannot be read.
        DataChangedError: see `MultiLabelDataset.stored`.
    """
    logits = answer_split(model.answer, model.preprocess, data)
    if not np.isfinite(logits).all():
        raise InputError(f"{model.config.backbone}: the weights give logits that are not finite; train it again")
    return logits
