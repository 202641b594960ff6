"""The parents of the TensorRT engines that tests build."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from edgepress.deploy.engines import tensorrt_runtime
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.datasets import MultiLabelDataset
from tests.deploy.build.tensorrt_parents import DECISIONS, LABELS, QUANTIZATION, SIZE, half, quantized, wrap


@pytest.fixture(scope="module")
def only_rtx() -> Iterator[None]:
    """Build without a GPU, also where the full TensorRT is installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensorrt_runtime, "TENSORRT_MODULES", {"tensorrt_rtx": "tensorrt-rtx"})
        yield


@pytest.fixture(scope="session")
def parents(tmp_path_factory) -> dict[str, Bundle]:
    """ONNX bundles of one small random model: fp32, fp16, int8."""
    from edgepress.compress.config import ModelConfig
    from edgepress.compress.models import make_model
    from edgepress.deploy.build.export import export_onnx

    root = tmp_path_factory.mktemp("parents")
    rng = np.random.default_rng(0)
    paths = [root / f"{i}.png" for i in range(4)]
    for path in paths:
        cv2.imwrite(str(path), rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8))
    config = ModelConfig(backbone="test_efficientnet", head="ml_decoder", width=64, size=SIZE, weights="none")
    model, _ = make_model(config, LABELS)
    nothing = np.zeros((4, len(LABELS)), dtype=np.uint8)
    pictures = MultiLabelDataset(
        root=root, split="test", labels=LABELS, paths=paths, targets=nothing, ignore=nothing.astype(bool)
    )
    fp32 = export_onnx(model.eval(), pictures, root / "onnx-fp32", identity="random")
    images = np.stack([model.preprocess.load(path) for path in paths])
    return {
        "fp32": fp32,
        "fp16": wrap(root / "onnx-fp16", half(fp32), fp32, precision="fp16", decisions=DECISIONS),
        "int8": wrap(
            root / "onnx-int8-tensorrt",
            quantized(fp32, images, root),
            fp32,
            precision="int8",
            calibration=QUANTIZATION,
        ),
    }
