"""A package that is installed by another of its names."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from edgepress.multilabel import versions
from edgepress.multilabel.versions import install_command, package_version


def test_onnx_runtime_for_a_gpu_is_onnx_runtime(tmp_path: Path, monkeypatch):
    """An environment that has onnxruntime-gpu alone, as the documentation asks for."""
    made = tmp_path / "onnxruntime_gpu-1.31.1.dist-info"
    made.mkdir()
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.31.1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert package_version("onnxruntime") == version("onnxruntime")  # the one of that very name comes first

    def without(name: str) -> str:
        if name == "onnxruntime":
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(versions, "version", without)
    assert package_version("onnxruntime") == "1.31.1"
    with pytest.raises(PackageNotFoundError, match="no-such-package"):
        package_version("no-such-package")


def test_the_extra_for_gpus_is_installed_where_onnxruntime_is_not():
    assert install_command("openvino") == "pip install 'edgepress[openvino]'"
    assert install_command("gpu").startswith("pip install 'edgepress[gpu]' in an environment without onnxruntime")
