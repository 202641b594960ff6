"""Ask the driver itself which CUDA device is here, so that the answer needs no package."""

from __future__ import annotations

import ctypes
import sys

_DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
# CUdevice_attribute in cuda.h.
_COMPUTE_CAPABILITY_MAJOR = 75
_COMPUTE_CAPABILITY_MINOR = 76


def cuda_compute_capability() -> tuple[int, int] | None:
    """Compute capability of the first CUDA device, (8, 6) for SM86; None where no driver or device answers.

    The first device is the one that CUDA_VISIBLE_DEVICES puts first, and the one that an engine runs on.
    """
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError:
        return None
    count, device = ctypes.c_int(0), ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or count.value < 1:
        return None
    if driver.cuDeviceGet(ctypes.byref(device), 0):
        return None
    major, minor = ctypes.c_int(0), ctypes.c_int(0)
    for value, attribute in ((major, _COMPUTE_CAPABILITY_MAJOR), (minor, _COMPUTE_CAPABILITY_MINOR)):
        if driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device):
            return None
    return major.value, minor.value


def cuda_driver_version() -> tuple[int, int] | None:
    """The newest CUDA that the driver supports, (13, 0) for 13.0; None where there is no driver."""
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError:
        return None
    version = ctypes.c_int(0)
    if driver.cuDriverGetVersion(ctypes.byref(version)) or version.value < 1000:
        return None
    return version.value // 1000, version.value % 1000 // 10


def sm_name(capability: tuple[int, int]) -> str:
    """The compute capability as TensorRT writes it: SM86 for (8, 6)."""
    return f"SM{capability[0]}{capability[1]}"
