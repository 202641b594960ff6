"""The version of an installed package, by whichever name it was installed, and the command that installs an extra."""

from __future__ import annotations

import contextlib
from importlib.metadata import PackageNotFoundError, version

_ALSO = {"onnxruntime": ("onnxruntime-gpu",)}
"""Other names under which the same module is installed; an environment has one of them."""


def install_command(extra: str) -> str:
    """The command that installs an extra of edgepress, and where, as messages name it.

    Example:
        >>> install_command("openvino")
        "pip install 'edgepress[openvino]'"
    """
    alone = " in an environment without onnxruntime, which writes into the same folder" if extra == "gpu" else ""
    return f"pip install 'edgepress[{extra}]'{alone}"


def package_version(package: str) -> str:
    """The version of an installed package; `onnxruntime` is also found as `onnxruntime-gpu`.

    Raises:
        PackageNotFoundError: it is installed by none of its names.
    """
    for name in (package, *_ALSO.get(package, ())):
        with contextlib.suppress(PackageNotFoundError):
            return version(name)
    raise PackageNotFoundError(package)
