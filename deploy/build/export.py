"""Export a student to ONNX, the only source of truth for every engine.

The graph takes uint8 NHWC RGB pictures in a batch of any size, normalises them and gives float32 logits.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import torch
from timm.utils import reparameterize_model
from torch import Tensor, nn

from edgepress.compress.models import MultiLabelModel
from edgepress.deploy.build.reference import REFERENCE, Reference
from edgepress.deploy.engines.attention import ATTENTION
from edgepress.deploy.engines.golden import GOLDEN, PICTURES, Golden
from edgepress.deploy.verify.torch_graph import MODULES
from edgepress.multilabel.bundle import Bundle, Parent, inputs_hash, up_to_date, write_bundle
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.decisions import Decisions
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.metrics import told_constant
from edgepress.multilabel.reached import answer_split

OPSET = 20
MODEL = "model.onnx"
log = logging.getLogger("edgepress")


def export_onnx(
    model: MultiLabelModel,
    verified: MultiLabelDataset,
    out: Path,
    *,
    parent: Parent | None = None,
    identity: str,
    decisions: Callable[[Callable[[MultiLabelDataset], np.ndarray]], Decisions] | None = None,
    attention: bool = False,
) -> Bundle:
    """Export a model as the bundle `onnx-fp32`, with its logits on the verified split beside it.

    Args:
        model: must be in evaluation mode.
        verified: the split that engines will be verified on; its labels must be the model's.
        parent: the torch bundle that the model came from, if there is one.
        identity: sha256 of what the model was loaded from and of what its decisions are fitted on; a bundle with the
            same identity is kept.
        decisions: fits the bundle's decisions; it gets a function from a split to the model's logits `[N, C]`.
        attention: also export what each label looks at, as a second output; see `deploy.engines.attention`.

    Raises:
        InputError: labels differ, a picture cannot be read, or the backbone cannot be exported with a free batch size.
        DataChangedError: see `MultiLabelDataset.stored`.
    """
    model.labels.require_equal(verified.labels, "the model", f"the data set {verified.root}")
    shown = {ATTENTION: True} if attention else {}
    inputs = inputs_hash(
        {
            "model": identity,
            "verified": verified.fingerprint(),
            "opset": OPSET,
            "golden": PICTURES,
            "parent": parent.model_dump() if parent else None,
            **shown,
        }
    )
    if (made := up_to_date(out, inputs)) is not None:
        return made
    log.info("exporting %s to ONNX (opset %d)", model.config.backbone, OPSET)
    logits = _torch_logits(model, verified)
    reference, golden = Reference.of(verified, logits), Golden.drawn(verified, model.preprocess, logits)
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
        decisions=decisions(lambda data: _torch_logits(model, data)) if decisions else None,
        facts={"backbone": model.config.backbone, "head": model.config.head, **shown},
        tools={name: version(name) for name in ("torch", "timm", "onnx", "edgepress")},
        inputs=inputs,
    ) as (folder, _):
        onnx.save(graph, folder / MODEL)
        reference.save(folder / REFERENCE)
        golden.save(folder / GOLDEN)
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
    try:
        with _quiet():
            program = torch.onnx.export(
                module,
                (images,),
                input_names=["images"],
                output_names=["logits", ATTENTION] if attention else ["logits"],
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1, max=4096)}},
            )
    except Exception as error:  # the exporter raises types of its own, nested
        raise InputError(
            f"{model.config.backbone} cannot be exported with a free batch size: {_cause(error)}"
        ) from error
    assert program is not None
    graph = program.model_proto
    for value in (*graph.graph.input, *graph.graph.output):
        first = value.type.tensor_type.shape.dim[0]
        if not first.dim_param:  # a Python number in the model's code froze it without an error
            raise InputError(f"{model.config.backbone}: the exported {value.name} has a fixed batch {first.dim_value}")
    _forget_sources(graph)
    for key, value in (
        ("labels", json.dumps(model.labels.names)),
        ("preprocess", model.preprocess.model_dump_json()),
        ("edgepress", version("edgepress")),
    ):
        entry = graph.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(graph, full_check=True)
    return graph


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter: it prints every constant that it does not fold and, where it fails, the whole traced graph
    (hundreds of lines) several times. The exception says what went wrong."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        loud = [logging.getLogger(name) for name in ("onnxscript", "torch")]
        before = [logger.level for logger in loud]
        for logger in loud:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loud, before, strict=True):
                logger.setLevel(level)


def _cause(error: BaseException) -> str:
    """The first cause; the exporter wraps it in advice about its own steps, which is longer than what is shown."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _forget_sources(graph: onnx.ModelProto) -> None:
    """Drop the exporter's notes on the traced code: they hold paths of this machine, and a bundle is given away.

    Only the module of each node stays, because `deploy.verify.layers` needs it.
    """
    inner = graph.graph
    for one in (inner, *inner.node, *inner.input, *inner.output, *inner.value_info, *inner.initializer):
        kept = [entry for entry in one.metadata_props if entry.key == MODULES]
        del one.metadata_props[:]
        one.metadata_props.extend(kept)


def _torch_logits(model: MultiLabelModel, data: MultiLabelDataset) -> np.ndarray:
    logits = answer_split(model.answer, model.preprocess, data)
    if not np.isfinite(logits).all():
        raise InputError(f"{model.config.backbone}: the weights give logits that are not finite; train it again")
    return logits
