"""rebuild: build a compiled engine that does not fit this machine again, in its place, from the ONNX beside it."""

from __future__ import annotations

import logging

from edgepress.deploy.engines.passport import NO_GPU, misfits, require_fit
from edgepress.deploy.engines.table import RUNTIMES, GpuTarget
from edgepress.deploy.machine.cuda import cuda_compute_capability
from edgepress.multilabel.bundle import Bundle, named_digest
from edgepress.multilabel.errors import EngineUnavailableError
from edgepress.multilabel.manifest import MANIFEST, BuiltForTensorRt, Precision

log = logging.getLogger("edgepress")


def fitted(bundle: Bundle, *, rebuild: bool) -> Bundle:
    """The bundle itself if it fits this machine, otherwise the same engine built again in its place.

    The new engine keeps the old one's decisions; the old one stays until the new one is complete.

    Args:
        rebuild: whether an engine that does not fit may be built again.

    Raises:
        EngineUnavailableError: it does not fit, and it cannot be built again here or `rebuild` is false; says why.
        InputError: its ONNX bundle is damaged, or the installed runtime refuses it.
    """
    if not rebuild:
        require_fit(bundle)
        return bundle
    stopping = [difference for difference in misfits(bundle) if difference.matters]
    if not stopping:
        return bundle
    said = "; ".join(map(str, stopping))
    if any(difference.found == NO_GPU for difference in stopping):
        raise EngineUnavailableError(f"{bundle.path}: {said}; without one it can be neither run nor rebuilt")
    log.info("%s: %s; rebuilding it from its ONNX bundle", bundle.path, said)
    manifest = bundle.manifest
    runtime = RUNTIMES[manifest.kind]
    if manifest.precision == "int8" and not runtime.needs_sm:
        raise EngineUnavailableError(
            f"{bundle.path}: INT8 for {runtime.name} is calibrated on pictures: edgepress quantize {_named(bundle)} "
            f"--target {manifest.kind} --data DIR --out {bundle.path}"
        )
    target: GpuTarget | Precision = manifest.precision
    if isinstance(manifest.built_for, BuiltForTensorRt):
        present, old = cuda_compute_capability(), manifest.built_for
        assert present is not None, "without a GPU nothing is rebuilt"
        sm = 10 * present[0] + present[1]
        target = GpuTarget(sm=sm, max_batch=old.max_batch, cuda_graph=old.cuda_graph, dla=old.dla)
    return runtime.build(_onnx_beside(bundle), bundle.path, target, replaces=bundle)


def _onnx_beside(bundle: Bundle) -> Bundle:
    """Find the ONNX bundle with the parent's digest, whatever the name of its folder beside this one."""
    parent = bundle.manifest.parent
    if parent is not None:
        for file in sorted(bundle.path.resolve().parent.glob(f"*/{MANIFEST}")):
            if named_digest(file) == parent.digest:
                return Bundle.open(file.parent, kind="onnx")
    digest = f"{parent.digest[:12]}..." if parent is not None else "unknown"
    raise EngineUnavailableError(
        f"{bundle.path}: to rebuild it, its ONNX bundle {_named(bundle)} (digest {digest}) must be beside it, "
        f"unchanged; {bundle.path.resolve().parent} holds none with that digest"
    )


def _named(bundle: Bundle) -> str:
    return bundle.manifest.parent.name if bundle.manifest.parent is not None else "it was made from"
