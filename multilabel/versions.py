"""The version of an installed package, by whichever name it was installed."""

from __future__ import annotations

import contextlib
from importlib.metadata import PackageNotFoundError, version

_ALSO = {"onnxruntime": ("onnxruntime-gpu",)}
"""Other names under which the same module is installed; an environment has one of them."""


def package_version(package: str) -> str:
    """The version of an installed package; `onnxruntime` is also found as `onnxruntime-gpu`.

    Raises:
        PackageNotFoundError: it is installed by none of its names.
    """
    for name in (package, *_ALSO.get(package, ())):
        with contextlib.suppress(PackageNotFoundError):
            return version(name)
    raise PackageNotFoundError(package)
