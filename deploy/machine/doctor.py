"""doctor: report which board this is, which backends work on it, and how to fix the rest.

Nothing here was tried on a Jetson; releases and versions are as published, see docs/devices.md.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from edgepress.deploy.machine.device import (
    Backend,
    Machine,
    check_backends,
    describe_machine,
    installed,
)
from edgepress.deploy.machine.processor import board_model, cpu_field, read_system
from edgepress.multilabel.saturation import weight_bits_here

TEGRA_RELEASE = "etc/nv_tegra_release"
_JETPACK = {34: 5, 35: 5, 36: 6, 38: 7, 39: 7}
"""JetPack by Jetson Linux release: R38 is JetPack 7.0 and 7.1, R39 is 7.2 (developer.nvidia.com, "JetPack archive")."""
_TENSORRT_10 = (36, 4, 0)
"""JetPack 6.1, the first with TensorRT 10; 6.0 has TensorRT 8.6, which has no strongly typed networks."""
_CUDA = {6: "'cuda-python>=12.6,<13'", 7: "'cuda-python>=13,<14'"}
_INTEL = "0x8086"
_ARM = ("aarch64", "armv8l", "armv7l", "armv6l")
_CPU_RUNTIMES = frozenset({"onnxruntime", "openvino", "ai_edge_litert", "ncnn", "torch"})
_TENSORRT = frozenset({"tensorrt", "tensorrt_rtx"})


@dataclass(frozen=True, kw_only=True)
class Board:
    """What the system's files say about the machine."""

    model: str | None
    """The board's name in the device tree; None without a device tree."""
    jetson_linux: tuple[int, ...] | None = None
    """Release of Jetson Linux, such as (36, 4, 3); None on any other machine."""
    intel_gpu: bool = False
    """Whether there is a render node of an Intel GPU; it needs a driver before OpenVINO sees it."""
    intel_npu: bool = False

    @property
    def jetpack(self) -> int | None:
        """JetPack's major version; None if there is none or its version is not known here."""
        return _JETPACK.get(self.jetson_linux[0]) if self.jetson_linux else None

    @property
    def is_raspberry_pi(self) -> bool:
        return (self.model or "").startswith("Raspberry Pi")

    def __str__(self) -> str:
        named = self.model or platform.machine()
        if self.jetson_linux is None:
            return named
        release = ".".join(map(str, self.jetson_linux))
        return f"{named}, Jetson Linux {release} (JetPack {self.jetpack or 'unknown'})"


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What `edgepress doctor` says of a machine."""

    machine: Machine
    board: str | None
    """The board and its release; None where the system's files name none."""
    usable: bool
    """Whether any engine can run."""
    backends: tuple[Backend, ...]
    advice: tuple[str, ...]
    """What is missing, each with the command that fixes it."""
    cautions: tuple[str, ...] = ()
    """What works, but not as one would expect."""

    def as_dict(self) -> dict[str, Any]:
        """The record for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Diagnosis:
        """Read what `as_dict` wrote, among other keys.

        Raises:
            ValidationError: it is something else; pydantic names the first mistake.
        """
        return TypeAdapter(cls).validate_python(record)


def diagnose(root: Path = Path("/")) -> Diagnosis:
    """What `edgepress doctor` says of this machine.

    Args:
        root: the folder that holds /proc, /sys and /etc.
    """
    backends, machine, board = check_backends(), describe_machine(root), find_board(root)
    works = frozenset(backend.name for backend in backends if backend.works)
    openvino = next(backend.detail for backend in backends if backend.name == "openvino")
    features = cpu_field(read_system(root / "proc/cpuinfo") or "", "Features")
    on_gpu = machine.gpu is not None and "cuda.bindings" in works and bool(works & _TENSORRT)
    return Diagnosis(
        machine=machine,
        board=str(board) if board.model or board.jetson_linux else None,
        usable=bool(works & _CPU_RUNTIMES) or on_gpu,
        backends=tuple(backends),
        advice=tuple(advice(board, works, openvino)),
        cautions=tuple(machine_cautions(weight_bits_here(), platform.machine(), features, [*installed(), *opencvs()])),
    )


def machine_cautions(weight_bits: int, machine: str, features: str | None, installed: list[str]) -> list[str]:
    """Warnings about what works here but not as one would expect.

    Args:
        weight_bits: bits of INT8 weights whose products are exact here; see `multilabel.saturation`.
        machine: `platform.machine()`.
        features: an ARM processor's features, as in /proc/cpuinfo.
        installed: runtimes and wheels of OpenCV with their versions, `onnxruntime 1.32.0`.
    """
    found = []
    if weight_bits < 8:
        found.append(
            "this processor has no VNNI: INT8 products of 8-bit weights saturate. edgepress quantize gives weights "
            f"{weight_bits} bits here by itself, and engines of 8-bit weights from other machines are not opened"
        )
    if machine == "aarch64" and features is not None and "asimdhp" not in features.split():
        found.append("this processor has no fp16, without which OpenVINO's INT8 cannot run: take onnx-int8-onnxruntime")
    for name in installed:
        version = re.match(r"onnxruntime(?:-gpu)? (\d+)\.(\d+)", name)
        if version is not None and (int(version[1]), int(version[2])) < (1, 23):
            found.append(f"{name} runs fp16 graphs 2.5 to 4.6 times slower than 1.32 does on x86: take 1.23 or newer")
    for package, meant in (("opencv", "opencv-python-headless"), ("onnxruntime", "the one that you want")):
        several = [name for name in installed if name.startswith(package)]
        if len(several) > 1:
            found.append(
                f"{' and '.join(several)} write into one folder, and which of them runs is chance: pip uninstall all "
                f"of them, and install {meant} again"
            )
    return found


def opencvs() -> list[str]:
    """The wheels of OpenCV that are installed, and their versions; they exclude each other, which pip does not know."""
    found = []
    for name in ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return found


def find_board(root: Path = Path("/")) -> Board:
    """Read the system's files below a root folder."""
    release = read_system(root / TEGRA_RELEASE)
    return Board(
        model=board_model(root),
        jetson_linux=parse_tegra_release(release) if release is not None else None,
        intel_gpu=any(_vendors(root / "sys/class/drm", "renderD*")),
        intel_npu=any(_vendors(root / "sys/class/accel", "accel*")),
    )


def parse_tegra_release(text: str) -> tuple[int, ...] | None:
    """Parse line 1 of /etc/nv_tegra_release: `# R36 (release), REVISION: 4.3, ...` gives (36, 4, 3), others None."""
    found = re.match(r"#\s*R(\d{1,4})\s*\(release\),\s*REVISION:\s*(\d{1,4}(?:\.\d{1,4})*)", text)
    return (int(found[1]), *map(int, found[2].split("."))) if found else None


def advice(board: Board, works: frozenset[str], openvino_devices: str = "") -> list[str]:
    """What this machine lacks for its engines, each with the command that fixes it.

    Args:
        works: names of the backends that work here.
        openvino_devices: as OpenVINO lists them.
    """
    found: list[str] = []
    if board.jetson_linux is not None:
        found += _jetson(board, works)
    elif not works & (_CPU_RUNTIMES | _TENSORRT):
        found.append("no runtime for finished engines: pip install 'edgepress[onnxruntime]' or 'edgepress[openvino]'")
    if platform.machine() in _ARM and (platform.machine() != "aarch64" or sys.maxsize < 2**32):
        os = "64-bit Raspberry Pi OS" if board.is_raspberry_pi else "a 64-bit system"
        kernel = ", though its kernel has 64" if platform.machine() == "aarch64" else ""
        found.append(
            f"a 32-bit system{kernel}, for which ONNX Runtime, OpenVINO and LiteRT have no packages: install {os}"
        )
    for there, device, remedy in (
        (board.intel_gpu, "GPU", "sudo apt install intel-opencl-icd; sudo usermod -aG render $USER, and log in again"),
        (board.intel_npu, "NPU", "sudo snap install intel-npu-driver, or github.com/intel/linux-npu-driver"),
    ):
        if there and "openvino" not in works:
            found.append(f"an Intel {device}, for which there is OpenVINO: pip install 'edgepress[openvino]'")
        elif there and device not in openvino_devices:
            found.append(
                f"an Intel {device} that OpenVINO does not see, because its driver or permission is missing: {remedy}"
            )
    return found


def _jetson(board: Board, works: frozenset[str]) -> list[str]:
    assert board.jetson_linux is not None
    found = []
    if board.jetson_linux < _TENSORRT_10:
        found.append(
            f"{board}: its TensorRT is older than 10 and builds no engine of edgepress; flash JetPack 6.1 or newer. "
            "ONNX Runtime runs on the CPU: pip install 'edgepress[onnxruntime]'"
        )
    elif "tensorrt" not in works:
        found.append("JetPack's TensorRT: sudo apt install nvidia-jetpack (or tensorrt and python3-libnvinfer)")
        if _hides_system_packages():
            found.append(
                "this virtual environment does not see JetPack's packages: python3 -m venv --system-site-packages"
            )
    if "cuda.bindings" not in works and board.jetpack in _CUDA:
        found.append(f"the CUDA bindings that run TensorRT engines: pip install {_CUDA[board.jetpack]}")
    return found


def _hides_system_packages() -> bool:
    if sys.prefix == sys.base_prefix:
        return False
    settings = read_system(Path(sys.prefix) / "pyvenv.cfg") or ""
    return re.search(r"include-system-site-packages\s*=\s*true", settings, re.IGNORECASE) is None


def _vendors(folder: Path, pattern: str) -> list[Path]:
    """Intel devices in a folder of /sys/class."""
    return [path for path in folder.glob(pattern) if read_system(path / "device/vendor") == _INTEL]
