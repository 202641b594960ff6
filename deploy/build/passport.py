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
import json
import logging
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from edgepress.deploy.machine.cuda import cuda_compute_capability, cuda_driver_version, sm_name
from edgepress.multilabel.bundle import MANIFEST, Bundle, Manifest
from edgepress.multilabel.errors import EngineUnavailableError, InputError

log = logging.getLogger("edgepress")
TENSORRT = ("tensorrt", "tensorrt_rtx")
_NO_GPU = "no GPU here"


@dataclass(frozen=True)
class Difference:
    """One thing that a bundle's passport says and this machine does not."""

    what: str
    recorded: str
    found: str
    matters: bool = True
    """False of what is only worth knowing."""
    remedy: str = "build it again here (--rebuild)"

    def __str__(self) -> str:
        return f"{self.what}: recorded {self.recorded}, found {self.found}"


def stamp(parent: Bundle, runtime: str, version: str, **facts: str) -> dict[str, str]:
    """A compiled engine's passport, the manifest's `built_for`.

    Args:
        parent: the ONNX bundle that it is made from.
        facts: what else the runtime needs to be the same: compute capability, flags, ...
    """
    return {
        "runtime": runtime,
        "version": version,
        "onnx_sha256": parent.manifest.files[parent.manifest.model],
        "platform": _platform(),
        **facts,
    }


def differences(bundle: Bundle) -> list[Difference]:
    """What a bundle's passport says and this machine does not, what matters first; empty of a torch or ONNX bundle.

    Raises:
        EngineUnavailableError: its manifest does not say what it was built for, or its runtime is not installed.
    """
    manifest = bundle.manifest
    if manifest.kind == "tensorrt":
        found = _tensorrt(bundle, _complete(bundle))
    elif manifest.kind == "openvino":
        found = _openvino(manifest)
    else:
        found = []
    return sorted(found, key=lambda difference: not difference.matters)


def fitted(bundle: Bundle, *, rebuild: bool = False) -> Bundle:
    """The bundle itself where it fits this machine.

    Args:
        rebuild: where it does not, make it again in its place from its ONNX bundle in the same folder.

    Raises:
        EngineUnavailableError: it does not fit, and cannot be or was not to be rebuilt; says what differs, as recorded
            and as found, and what mends it.
        InputError: its ONNX bundle is damaged, or is refused by the runtime that is here.
    """
    found = differences(bundle)
    stopping = [difference for difference in found if difference.matters]
    for difference in found:
        if not difference.matters:
            log.info("%s: %s", bundle.path, difference)
    if not stopping:
        return bundle
    said = "; ".join(map(str, stopping))
    if not rebuild:
        raise EngineUnavailableError(f"{bundle.path}: {said}; {stopping[0].remedy}")
    if any(difference.found == _NO_GPU for difference in stopping):
        raise EngineUnavailableError(f"{bundle.path}: {said}; without one it can be neither run nor rebuilt")
    log.info("%s: %s; rebuilding it from its ONNX bundle", bundle.path, said)
    return _rebuilt(bundle)


def _rebuilt(bundle: Bundle) -> Bundle:
    """Made again in its place, with its own decisions; the old one stays until the new one is whole."""
    manifest = bundle.manifest
    if manifest.kind == "openvino" and manifest.precision == "int8":
        raise EngineUnavailableError(
            f"{bundle.path}: INT8 for OpenVINO is calibrated on pictures: edgepress quantize {_named(bundle)} "
            f"--target openvino --data DIR --out {bundle.path}"
        )
    parent = _onnx_beside(bundle)
    # Here, for these modules import the engines, and the engines' room imports this one.
    if manifest.kind == "openvino":
        from edgepress.deploy.build.compile import compile_openvino

        assert manifest.precision != "int8"
        return compile_openvino(parent, bundle.path, manifest.precision, replaces=bundle)
    from edgepress.deploy.build.tensorrt import build_tensorrt

    present = cuda_compute_capability()
    assert present is not None, "without a GPU nothing is rebuilt"
    passport = _complete(bundle)
    return build_tensorrt(
        parent,
        bundle.path,
        sm=10 * present[0] + present[1],
        max_batch=int(passport["max_batch"]),
        cuda_graph="cuda_graph" in passport,
        dla=int(passport["dla"]) if "dla" in passport else None,
        replaces=bundle,
    )


def _onnx_beside(bundle: Bundle) -> Bundle:
    """The ONNX bundle with the parent's digest, in whatever folder beside this one."""
    parent = bundle.manifest.parent
    if parent is not None:
        for file in sorted(bundle.path.resolve().parent.glob(f"*/{MANIFEST}")):
            if named_digest(file) == parent.digest:
                return Bundle.open(file.parent, kind="onnx")
    digest = f"{parent.digest[:12]}..." if parent is not None else "unknown"
    raise EngineUnavailableError(
        f"{bundle.path}: to rebuild it, its ONNX bundle {_named(bundle)} (digest {digest}) must stand beside it, "
        f"unchanged; {bundle.path.resolve().parent} holds none with that digest"
    )


def named_digest(file: Path) -> object:
    """The digest that a manifest names; None of a file that is none. Opening the bundle checks it."""
    try:
        fields = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None  # a neighbour's file, and no reason to stop
    return fields.get("digest") if isinstance(fields, dict) else None


def _named(bundle: Bundle) -> str:
    return bundle.manifest.parent.name if bundle.manifest.parent is not None else "it was made from"


def _complete(bundle: Bundle) -> dict[str, str]:
    """The passport of a TensorRT engine, with everything that opening it needs."""
    passport = bundle.manifest.built_for or {}
    missing = {"runtime", "version", "compute_capability", "max_batch"} - passport.keys()
    if (
        missing
        or passport["runtime"] not in TENSORRT
        or not re.fullmatch(r"[1-9]\d{0,5}", passport["max_batch"])
        or not re.fullmatch(r"\d", passport.get("dla", "0"))
    ):
        raise EngineUnavailableError(
            f"{bundle.path}: its manifest does not say what it was built for "
            f"({', '.join(sorted(missing)) or passport}); build it again with edgepress compile"
        )
    return passport


def _tensorrt(bundle: Bundle, passport: dict[str, str]) -> list[Difference]:
    from edgepress.deploy.engines.tensorrt import load_runtime

    runtime, found = passport["runtime"], []
    others = [name for name in TENSORRT if name != runtime and importlib.util.find_spec(name) is not None]
    if importlib.util.find_spec(runtime) is None and others:
        found.append(Difference("runtime", runtime, others[0]))
    else:
        version = load_runtime(runtime).__version__
        if version != passport["version"]:
            remedy = f"install {runtime} {passport['version']}, or build it again here (--rebuild)"
            found.append(Difference(f"{runtime} version", passport["version"], version, remedy=remedy))
    present, recorded = cuda_compute_capability(), passport["compute_capability"]
    if present is None:
        found.append(Difference("compute capability", recorded, _NO_GPU, remedy="open it on the GPU it was built for"))
    elif sm_name(present) != recorded:
        found.append(Difference("compute capability", recorded, sm_name(present)))
    if "platform" in passport and runtime == "tensorrt" and passport["platform"] != _platform():
        found.append(Difference("platform", passport["platform"], _platform()))
    driver = driver_cuda()
    if present is not None and passport.get("driver_cuda", driver) != driver:
        found.append(Difference("CUDA version of the driver", passport["driver_cuda"], driver, matters=False))
    return found


def _openvino(manifest: Manifest) -> list[Difference]:
    if importlib.util.find_spec("openvino") is None:
        raise EngineUnavailableError("openvino is not installed here (pip install 'edgepress[openvino]')")
    import openvino as ov

    here = ov.__version__.split("-")[0]
    recorded = (manifest.built_for or {}).get("version") or manifest.tools.get("openvino")
    if recorded is None or _release(recorded) == _release(here):
        return []
    # Patch releases change no operator set.
    older = _release(here) < _release(recorded)
    remedy = f"install openvino {recorded} or newer, or build it again here (--rebuild)"
    return [Difference("openvino version", recorded, here, matters=older, remedy=remedy)]


def _release(version: str) -> tuple[int, int]:
    """Year and release of OpenVINO: (2026, 4) of 2026.4.1."""
    found = re.match(r"(\d{1,9})\.(\d{1,9})", version)
    if found is None:
        raise InputError(f"openvino version {version!r} in the manifest: expected one as 2026.4.1; compile it again")
    return int(found[1]), int(found[2])


def _platform() -> str:
    return f"{sys.platform}-{platform.machine().lower()}"


def driver_cuda() -> str:
    """CUDA version that the driver here supports, `13.0`; `none` without a driver."""
    version = cuda_driver_version()
    return "none" if version is None else f"{version[0]}.{version[1]}"
