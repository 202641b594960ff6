"""Passport: what a compiled engine was made from and for, and whether it fits the machine that it is opened on.

What matters, by runtime:

- `tensorrt`: a plan opens on the version, the operating system with its processor, and the compute capability that it
  was built for (TensorRT's support matrix, "Engine Portability"; plans here are neither built version compatible nor
  hardware compatible).
- `tensorrt_rtx`: a plan opens on the release that built it and on the compute capabilities that it names (its
  documentation, "Engine Compatibility"); what else its header says the runtime is asked when the plan is opened.
- OpenVINO: newer releases read what older ones wrote, not the other way round. Devices are compiled for on opening.
- ONNX: carries an opset and domains; ONNX Runtime itself says when they are too new (`deploy.engines.onnxruntime`).

The CUDA version of the driver is recorded, and said where it differs, but stops nothing: the runtime that is installed
needs it, the plan does not.
"""

from __future__ import annotations

import importlib.util
import logging
import platform
import re
import sys
from dataclasses import dataclass

from edgepress.deploy.engines.base import require
from edgepress.deploy.engines.tensorrt_runtime import RUNTIMES, load_runtime
from edgepress.deploy.machine.cuda import cuda_compute_capability, cuda_driver_version, sm_name
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import EngineUnavailableError
from edgepress.multilabel.manifest import BuiltForOpenVino, BuiltForTensorRt

log = logging.getLogger("edgepress")
NO_GPU = "no GPU here"


@dataclass(frozen=True)
class Misfit:
    """One thing that a bundle's passport says and this machine does not."""

    what: str
    recorded: str
    found: str
    matters: bool = True
    """False of what is only worth knowing."""
    remedy: str = "build it again here (--rebuild)"

    def __str__(self) -> str:
        return f"{self.what}: recorded {self.recorded}, found {self.found}"


def misfits(bundle: Bundle) -> list[Misfit]:
    """What a bundle's passport says and this machine does not, what matters first; empty of a torch or ONNX bundle.

    Raises:
        EngineUnavailableError: its runtime is not installed.
    """
    built_for = bundle.manifest.built_for
    if isinstance(built_for, BuiltForTensorRt):
        found = _tensorrt(built_for)
    elif isinstance(built_for, BuiltForOpenVino):
        found = _openvino(built_for)
    else:
        found = []
    return sorted(found, key=lambda difference: not difference.matters)


def require_fit(bundle: Bundle) -> None:
    """Stop where a compiled engine does not fit this machine.

    Raises:
        EngineUnavailableError: says what differs, as recorded and as found, and what mends it.
    """
    found = misfits(bundle)
    for difference in found:
        if not difference.matters:
            log.info("%s: %s", bundle.path, difference)
    stopping = [difference for difference in found if difference.matters]
    if stopping:
        raise EngineUnavailableError(f"{bundle.path}: {'; '.join(map(str, stopping))}; {stopping[0].remedy}")


def _tensorrt(built: BuiltForTensorRt) -> list[Misfit]:
    runtime, found = built.runtime, []
    others = [name for name in RUNTIMES if name != runtime and importlib.util.find_spec(name) is not None]
    if importlib.util.find_spec(runtime) is None and others:
        found.append(Misfit("runtime", runtime, others[0]))
    else:
        version = load_runtime(runtime).__version__
        if version != built.version:
            remedy = f"install {runtime} {built.version}, or build it again here (--rebuild)"
            found.append(Misfit(f"{runtime} version", built.version, version, remedy=remedy))
    present, recorded = cuda_compute_capability(), built.compute_capability
    if present is None:
        found.append(Misfit("compute capability", recorded, NO_GPU, remedy="open it on the GPU it was built for"))
    elif sm_name(present) != recorded:
        found.append(Misfit("compute capability", recorded, sm_name(present)))
    if runtime == "tensorrt" and built.platform != platform_here():
        found.append(Misfit("platform", built.platform, platform_here()))
    driver = driver_cuda()
    if present is not None and built.driver_cuda != driver:
        found.append(Misfit("CUDA version of the driver", built.driver_cuda, driver, matters=False))
    return found


def _openvino(built: BuiltForOpenVino) -> list[Misfit]:
    require("openvino", "openvino")
    import openvino as ov

    here = ov.__version__.split("-")[0]
    # Patch releases change no operator set.
    recorded, found = _release(built.version), _release(here)
    if recorded == found:
        return []
    remedy = f"install openvino {built.version} or newer, or build it again here (--rebuild)"
    return [Misfit("openvino version", built.version, here, matters=found < recorded, remedy=remedy)]


def _release(version: str) -> tuple[int, ...]:
    """Year and release of OpenVINO: (2026, 4) of 2026.4.1."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def platform_here() -> str:
    """Operating system and processor, `linux-x86_64`."""
    return f"{sys.platform}-{platform.machine().lower()}"


def driver_cuda() -> str:
    """CUDA version that the driver here supports, `13.0`; `none` without a driver."""
    version = cuda_driver_version()
    return "none" if version is None else f"{version[0]}.{version[1]}"
