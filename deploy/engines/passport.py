"""Passport: what a compiled engine was made from and for, and whether it fits the machine that opens it.

What matters, by runtime:

- `tensorrt`: a plan opens on the version, the operating system with its processor, and the compute capability that it
  was built for (TensorRT's support matrix, "Engine Portability"; plans here are neither built version compatible nor
  hardware compatible).
- `tensorrt_rtx`: a plan opens on the release that built it and on the compute capabilities that it names (its
  documentation, "Engine Compatibility"); the runtime checks the rest of its header when the plan is opened.
- OpenVINO: an IR names its version and its operator sets; every release that has them reads it, newer or older than the
  one that wrote it. It is compiled for the device when it is opened.
- LiteRT: a file names the version of each of its operators; LiteRT itself says when it lacks one
  (`deploy.engines.litert`).
- ncnn: a file names its layers and no version; the engine says which of them this ncnn lacks (`deploy.engines.ncnn`).
- ONNX: a graph has an opset and domains; ONNX Runtime itself says when they are too new (`deploy.engines.onnxruntime`).

The CUDA version of the driver is recorded, and a difference is reported but stops nothing: the installed runtime needs
it, the plan does not.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import platform
import re
import sys
from dataclasses import dataclass

from edgepress.deploy.engines.base import require
from edgepress.deploy.engines.table import RUNTIMES
from edgepress.deploy.engines.tensorrt_runtime import TENSORRT_MODULES, load_runtime
from edgepress.deploy.machine.cuda import cuda_compute_capability, cuda_driver_version, sm_name
from edgepress.multilabel.bundle import MANIFEST, Bundle
from edgepress.multilabel.errors import EngineUnavailableError, InputError
from edgepress.multilabel.manifest import BuiltForLiteRt, BuiltForNcnn, BuiltForOpenVino, BuiltForTensorRt
from edgepress.multilabel.saturation import weight_bits_here

log = logging.getLogger("edgepress")
NO_GPU = "no GPU here"
IR_VERSION = 11
"""Version of the IR that OpenVINO 2022.1 to 2026.4 write and read."""


@dataclass(frozen=True)
class Misfit:
    """One difference between a bundle's passport and this machine."""

    what: str
    recorded: str
    found: str
    matters: bool = True
    """False if the difference is only worth knowing."""
    remedy: str = "build it again here (--rebuild)"

    def __str__(self) -> str:
        return f"{self.what}: recorded {self.recorded}, found {self.found}"


def misfits(bundle: Bundle) -> list[Misfit]:
    """Differences between a bundle's passport and this machine, what matters first; empty for a torch or ONNX bundle.

    Raises:
        EngineUnavailableError: its runtime is not installed.
    """
    built_for = bundle.manifest.built_for
    if isinstance(built_for, BuiltForTensorRt):
        found = _tensorrt(built_for)
    elif isinstance(built_for, BuiltForOpenVino):
        found = _openvino(bundle, built_for)
    elif isinstance(built_for, BuiltForLiteRt):
        found = _litert(built_for)
    elif isinstance(built_for, BuiltForNcnn):
        found = _ncnn(built_for)
    else:
        assert built_for is None, f"no comparison for {type(built_for).__name__}"
        found = []
    return sorted(found, key=lambda difference: not difference.matters)


def require_fit(bundle: Bundle) -> None:
    """Stop if a compiled engine does not fit this machine.

    Raises:
        EngineUnavailableError: it does not; says what differs, as recorded and as found, and how to fix it.
    """
    found = misfits(bundle)
    for difference in found:
        if not difference.matters:
            log.info("%s: %s", bundle.path, difference)
    stopping = [difference for difference in found if difference.matters]
    if stopping:
        raise EngineUnavailableError(f"{bundle.path}: {'; '.join(map(str, stopping))}; {stopping[0].remedy}")


def require_sound(bundle: Bundle, device: str = "cpu") -> None:
    """Stop if an INT8 engine's products saturate on this processor, because it would answer wrongly without an error.

    Raises:
        EngineUnavailableError: they do; names a sound engine beside it, or the command that makes one.
    """
    fault = unsound(bundle, device)
    if fault is not None:
        raise EngineUnavailableError(f"{bundle.path}: {fault}")


def unsound(bundle: Bundle, device: str = "cpu", bits: int | None = None) -> str | None:
    """Why an INT8 engine's products saturate on a processor, and the engine to take or the command that makes one; None
    where they do not.

    Args:
        bits: weight bits whose products are exact on the processor; by default those of this machine.
    """
    calibration = bundle.manifest.calibration
    if calibration is None or not RUNTIMES[bundle.manifest.kind].saturates or device != "cpu":
        return None
    # The graph that TensorRT's builder reads has products of two signed numbers, which do not saturate.
    bits = weight_bits_here() if bits is None else bits
    if calibration.for_tensorrt or calibration.weight_bits <= bits:
        return None
    made = (
        f"its INT8 products of {calibration.weight_bits}-bit weights saturate on this processor, which has no VNNI, "
        "and its answers would be wrong"
    )
    other = _exact_sibling(bundle, bits)
    if other is not None:
        return f"{made}: take {other.path}, which has {bits}-bit weights, or insist with --unproven"
    target = "openvino" if bundle.manifest.kind == "openvino" else "onnxruntime"
    parent = bundle.manifest.parent.name if bundle.manifest.parent is not None else "ONNX-FP32"
    return (
        f"{made}: make it for such processors (edgepress quantize {parent} --target {target} --weight-bits {bits} "
        "--data DIR), or insist with --unproven"
    )


def _exact_sibling(bundle: Bundle, bits: int) -> Bundle | None:
    """The INT8 engine beside a bundle that was made from the same model for the same runtime, with weights of at most
    `bits` bits."""
    ours = bundle.manifest
    for file in sorted(bundle.path.resolve().parent.glob(f"[!.]*/{MANIFEST}")) if ours.parent is not None else ():
        try:
            other = Bundle.open(file.parent, kind=ours.kind)
        except InputError:
            continue  # of another kind, or damaged: no engine to take
        made = other.manifest.calibration
        if other.manifest.parent == ours.parent and made is not None and made.weight_bits <= bits:
            return other
    return None


def _tensorrt(built: BuiltForTensorRt) -> list[Misfit]:
    runtime, found = built.runtime, []
    others = [name for name in TENSORRT_MODULES if name != runtime and importlib.util.find_spec(name) is not None]
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


def _openvino(bundle: Bundle, built: BuiltForOpenVino) -> list[Misfit]:
    require("openvino", "openvino")
    import openvino as ov

    here = ov.__version__.split("-")[0]
    remedy = f"install openvino {built.version} or newer, or build it again here (--rebuild)"
    found = []
    graph = bundle.read(bundle.manifest.model)
    opset = max((int(number) for number in re.findall(rb'version="opset(\d{1,4})"', graph)), default=1)
    known = _newest_opset()
    if opset > known:
        found.append(Misfit("openvino opset", f"opset{opset}", f"opset{known} of {here}", remedy=remedy))
    net = re.search(rb'<net [^>]*\bversion="(\d{1,4})"', graph)
    if net is not None and int(net[1]) > IR_VERSION:
        found.append(Misfit("version of the IR", net[1].decode(), str(IR_VERSION), remedy=remedy))
    # Patch releases change nothing in the IR. The golden check finds whether another one gives the same answers.
    if _release(built.version) != _release(here):
        found.append(Misfit("openvino version", built.version, here, matters=False))
    return found


def _litert(built: BuiltForLiteRt) -> list[Misfit]:
    require("ai_edge_litert", "litert")
    here = importlib.metadata.version("ai-edge-litert")
    return (
        []
        if _release(built.version) == _release(here)
        else [Misfit("ai-edge-litert version", built.version, here, matters=False)]
    )


def _ncnn(built: BuiltForNcnn) -> list[Misfit]:
    require("ncnn", "ncnn")
    here = importlib.metadata.version("ncnn")
    return [] if built.version == here else [Misfit("ncnn version", built.version, here, matters=False)]


def _newest_opset() -> int:
    """The newest operator set of the installed OpenVINO; each set has a module."""
    newest = 1
    while importlib.util.find_spec(f"openvino.opset{newest + 1}") is not None:
        newest += 1
    return newest


def _release(version: str) -> tuple[int, ...]:
    """The first two numbers of a version: (2026, 4) for 2026.4.1."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def platform_here() -> str:
    """Operating system and processor, `linux-x86_64`."""
    return f"{sys.platform}-{platform.machine().lower()}"


def driver_cuda() -> str:
    """CUDA version that the driver here supports, `13.0`; `none` without a driver."""
    version = cuda_driver_version()
    return "none" if version is None else f"{version[0]}.{version[1]}"
