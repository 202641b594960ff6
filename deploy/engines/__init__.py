"""One contract over torch, ONNX Runtime, OpenVINO, TensorRT, LiteRT and ncnn; `open_engine` chooses by the table."""

from __future__ import annotations

from pathlib import Path

from edgepress.deploy.engines.base import Engine, Hint, Proof
from edgepress.deploy.engines.golden import require_golden
from edgepress.deploy.engines.lifetime import require_own_threads
from edgepress.deploy.engines.passport import require_fit, require_sound
from edgepress.deploy.engines.table import RUNTIMES
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import InputError

__all__ = ["Engine", "Proof", "open_engine"]


def open_engine(
    bundle_dir: str | Path | Bundle,
    device: str = "cpu",
    *,
    hint: Hint = "latency",
    threads: int | None = None,
    unproven: bool = False,
) -> Engine:
    """Open a bundle's model, ready to run; a context manager.

    Args:
        bundle_dir: a bundle of any kind; every byte of it is checked first.
        device: `cpu`, or `cuda` (torch, ONNX Runtime), or an OpenVINO device (`gpu`, `npu`). A TensorRT engine runs on
            the CUDA device it was built for, also where this says `cpu`.
        hint: what OpenVINO compiles for; with `throughput` it answers several threads at once.
        threads: of ONNX Runtime, LiteRT, ncnn and OpenVINO's CPU; by default the runtime chooses, LiteRT takes all and
            ncnn one, within what this process may use (its affinity, a container's quota).
        unproven: open it though nobody has seen its answers on this machine, and though its INT8 products saturate on
            this processor; see `deploy.engines.golden`.

    Raises:
        InputError: no bundle there, a changed byte, a model that its runtime refuses, an unknown device, or a setting
            that the runtime does not have.
        EngineUnavailableError: this machine cannot run it, or it answers otherwise here than where it was made; says
            why. `deploy.build.rebuild` mends what does not fit it.
        RuntimeError: this process was forked in the middle of its parent's work with the same runtime.

    Example:
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from edgepress import open_engine
        >>> with open_engine("runs/mine/onnx-fp32") as engine:
        ...     pixels = engine.preprocess.load(Path("beach.jpg"))  # uint8 [size, size, 3]
        ...     logits = engine(np.stack([pixels]))
        >>> logits.shape == (1, len(engine.labels))
        True
    """
    bundle = bundle_dir if isinstance(bundle_dir, Bundle) else Bundle.open(bundle_dir)
    require_fit(bundle)
    runtime = RUNTIMES[bundle.manifest.kind]
    if hint != "latency" and "hint" not in runtime.settings:
        raise InputError(f"hint {hint!r}: only OpenVINO takes one; {runtime.name} has none")
    if threads is not None and "threads" not in runtime.settings:
        takers = ", ".join(one.name for one in RUNTIMES.values() if "threads" in one.settings)
        raise InputError(f"threads {threads}: on a CPU {takers} take them; {runtime.name} takes none")
    if runtime.shares_threads:
        require_own_threads(bundle.path, runtime.name)
    given = {"hint": hint, "threads": threads}
    if not unproven:
        require_sound(bundle, device)
    engine: Engine = runtime.engine_class()(bundle, device, **{name: given[name] for name in runtime.settings})
    if unproven:
        return engine
    try:
        require_golden(engine)
    except BaseException:
        engine.close()
        raise
    return engine
