"""The kernel timings that TensorRT's builder keeps beside an engine."""

from __future__ import annotations

import types

import pytest

trt = pytest.importorskip(
    "tensorrt_rtx", reason="tensorrt_rtx is not installed (pip install 'edgepress[tensorrt-rtx]')"
)
onnx = pytest.importorskip("onnx", reason="onnx is not installed; the tests make their parents with it")
pytest.importorskip("timm", reason="timm is not installed; the tests export a small model of it")

from edgepress.deploy.build import timing_cache  # noqa: E402
from edgepress.deploy.build.tensorrt import build_tensorrt  # noqa: E402
from edgepress.deploy.engines.table import GpuTarget  # noqa: E402

pytestmark = pytest.mark.usefixtures("only_rtx")


def test_kernel_timings_are_kept_beside_the_engine(parents, tmp_path, monkeypatch):
    """TensorRT-RTX has the same calls, without effect; that later builds are shorter was not seen on a GPU."""
    monkeypatch.setattr(timing_cache, "is_kept", lambda trt: True)
    for max_batch in (2, 4):  # the second reads what the first wrote
        bundle = build_tensorrt(parents["fp16"], tmp_path / "engine", GpuTarget(sm=86, max_batch=max_batch))
    (cache,) = tmp_path.glob("*.cache")
    assert cache.name == f"timing-tensorrt_rtx-{trt.__version__}-SM86.cache"
    assert cache.stat().st_size > 0
    cache.write_bytes(b"of another device")
    build_tensorrt(parents["fp16"], tmp_path / "another", GpuTarget(sm=86, max_batch=2))
    assert cache.read_bytes() != b"of another device"
    assert not [name for name in bundle.manifest.files if name.endswith(".cache")]


def test_timings_of_another_device_are_measured_again(tmp_path):
    """As TensorRT documents `set_timing_cache`: false of a cache that does not fit the device."""
    given: list[bytes] = []

    def set_cache(cache: bytes, ignore_mismatch: bool) -> bool:
        given.append(cache)
        return not ignore_mismatch and not cache

    (tmp_path / "other.cache").write_bytes(b"another device")
    timing_cache.read(
        types.SimpleNamespace(create_timing_cache=bytes, set_timing_cache=set_cache), tmp_path / "other.cache"
    )
    assert given == [b"another device", b""]


def test_timings_that_are_damaged_are_measured_again(tmp_path):
    given: list[object] = []
    config = types.SimpleNamespace(
        create_timing_cache=lambda data: None if data else "new",
        set_timing_cache=lambda cache, ignore_mismatch: given.append(cache) or True,
    )
    (tmp_path / "damaged.cache").write_bytes(b"damaged")
    timing_cache.read(config, tmp_path / "damaged.cache")
    assert given == ["new"]


def test_tensorrt_rtx_is_given_no_timings(parents, tmp_path):
    build_tensorrt(parents["fp16"], tmp_path / "engine", GpuTarget(sm=86))
    assert not list(tmp_path.glob("*.cache"))
    assert timing_cache.is_kept(types.ModuleType("tensorrt"))
