"""What an engine is compared with: its model's stored logits, or those of a float bundle beside it."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edgepress.deploy.build.reference import REFERENCE, Reference
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.cells import reordered
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.errors import EngineUnavailableError, InputError

log = logging.getLogger("edgepress")


class FoundReference(NamedTuple):
    """What an engine is compared with, in the data set's order of pictures and labels."""

    logits: np.ndarray
    """float32 `[N, C]`."""
    name: str
    targets: np.ndarray
    """uint8 `[N, C]`, the labels as they were when the reference was made."""
    ignore: np.ndarray
    digest: str | None
    """Digest of the bundle that was run for it; None where the model's own logits are stored."""


def find_reference(
    bundle: Bundle, data: MultiLabelDataset, answer: Callable[[Bundle], np.ndarray], folder: Path
) -> FoundReference:
    """The reference of a bundle for a split.

    It is `reference.npz` where that covers every picture, else the fp32 ONNX among the bundle's parents (for that ONNX
    itself, its torch parent).

    Args:
        answer: runs another bundle; gives its logits `[N, C]` in the data set's order of labels.
        folder: where large arrays are kept, as `multilabel.cells` says.

    Raises:
        InputError: a torch bundle; there is no reference, or it cannot run here.
    """
    require_engine(bundle)
    stored = _stored(bundle, data, folder)
    if stored is not None:
        return stored
    parent = float_parent(bundle)
    if parent is None:
        named = bundle.manifest.parent
        lacks, other = "it was made from no other bundle", "adopt or export it again with these"
        if named is not None:
            lacks = f"the bundle it was made from ({named.name}) is not beside it, unchanged"
            other = f"copy {named.name} beside it"
        raise InputError(
            f"{bundle.path}: its {REFERENCE} does not cover these pictures (the split {data.split!r} of {data.root}), "
            f"and {lacks}: say the --data and --split that it was made with, or {other}"
        )
    log.info("%s does not cover these pictures: the reference is %s", REFERENCE, parent.path)
    try:
        return FoundReference(answer(parent), parent.name, data.targets, data.ignore, parent.digest)
    except EngineUnavailableError as error:  # raised for the reference, not for the engine itself
        raise InputError(f"{bundle.path}: the reference {parent.path} cannot run here: {error}") from error


def require_engine(bundle: Bundle) -> None:
    """Refuse a torch model, which is no engine: it has no golden pictures and nothing that it stands for.

    Raises:
        InputError: with the command that makes an engine of it.
    """
    if bundle.kind == "torch":
        export = shlex.join(["edgepress", "export", str(bundle.path), "--data", "DIR", "--out", "ONNX"])
        raise InputError(
            f"{bundle.path}: a torch bundle is what engines are verified against; verify its ONNX instead, which "
            f"{export} makes"
        )


def float_parent(bundle: Bundle) -> Bundle | None:
    """The nearest fp32 ONNX among a bundle's parents; for an fp32 ONNX without one, the torch model; None if none is
    beside the bundle."""
    first = parent = bundle.open_parent()
    while parent is not None and (parent.manifest.kind, parent.manifest.precision) != ("onnx", "fp32"):
        parent = parent.open_parent()
    # Whatever is nearer than an fp32 ONNX would be compared with itself.
    itself = (bundle.manifest.kind, bundle.manifest.precision) == ("onnx", "fp32")
    return first if parent is None and itself else parent


def _stored(bundle: Bundle, data: MultiLabelDataset, folder: Path) -> FoundReference | None:
    """The reference that is stored in the bundle; None where it does not cover every picture or has other labels."""
    if REFERENCE not in bundle.manifest.files:
        return None
    stored = Reference.load(bundle.path / REFERENCE, folder)
    rows = stored.rows(data.hashes())
    if rows is None or set(stored.labels) != set(data.labels.names):
        return None
    columns = [stored.labels.index(name) for name in data.labels.names]
    cells = (reordered(one, rows, columns, folder) for one in (stored.logits, stored.targets, stored.ignore))
    logits, targets, ignore = cells
    return FoundReference(logits, f"{stored.source} ({REFERENCE})", targets, ignore, None)
