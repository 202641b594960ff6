"""Which students convert to ncnn and to LiteRT: backbones of timm with random weights, under both heads.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.conversions --size 64 [BACKBONE ...]

Each is made with random weights and norms fitted on random pictures, exported to ONNX, and converted, which proves on
random pictures that the runtime answers as ONNX Runtime does. Prints one JSON object for each backbone, head and
runtime: `ok`, and otherwise the message with which the conversion was refused; `ok` is null where the backbone itself
cannot be exported at this size. What passes here may still be slow: time it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgepress.compress.config import ModelConfig
from edgepress.compress.models import MultiLabelModel, make_model
from edgepress.deploy.build.export import export_onnx
from edgepress.multilabel.datasets import MultiLabelDataset, load_dataset
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.litert_model import litert_model
from edgepress.multilabel.ncnn_model import ncnn_model

BACKBONES = (
    "mobilenetv2_050",
    "mobilenetv3_small_100",
    "mobilenetv4_conv_small",
    "tf_efficientnet_lite0",
    "repvit_m0_9",
    "fastvit_t8",
    "ghostnet_100",
    "edgenext_xx_small",
    "mobileone_s0",
    "tinynet_e",
    "mnasnet_small",
    "semnasnet_075",
    "lcnet_050",
    "regnety_002",
    "hgnetv2_b0",
    "starnet_s1",
    "efficientvit_b0",
    "mobilevitv2_050",
    "resnet18",
    "efficientformer_l1",
)
SAMPLE = Path(__file__).parent.parent / "examples" / "clipart-sample"
CONVERTERS: dict[str, Callable[[Path], Any]] = {
    "ncnn": lambda file: ncnn_model(file, half=False),
    "LiteRT": litert_model,
}


def main() -> None:
    """Try every backbone and print a row for each attempt."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("backbones", nargs="*", default=BACKBONES)
    parser.add_argument("--size", type=int, default=64, help="pixels (default 64)")
    options = parser.parse_args()
    data = load_dataset(SAMPLE, "val")
    data = data.subset(list(range(8)))
    for head in ("linear", "ml_decoder"):
        for backbone in options.backbones:
            for row in tried(ModelConfig(backbone=backbone, head=head, size=options.size, weights="none"), data):
                print(json.dumps({"backbone": backbone, "head": head, "size": options.size, **row}), flush=True)


def tried(config: ModelConfig, data: MultiLabelDataset) -> list[dict[str, Any]]:
    """A row for each runtime."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            model = fitted(config, data)
            bundle = export_onnx(model, data, Path(folder) / "onnx-fp32", identity=config.backbone)
        except InputError as error:
            return [{"runtime": runtime, "ok": None, "said": told(error, folder)} for runtime in CONVERTERS]
        return [outcome(runtime, bundle.model_path, folder) for runtime in CONVERTERS]


def fitted(config: ModelConfig, data: MultiLabelDataset) -> MultiLabelModel:
    torch.manual_seed(0)
    model, _ = make_model(config, data.labels)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    pictures = np.random.default_rng(0).integers(0, 256, (32, config.size, config.size, 3), np.uint8)
    model.train()
    with torch.no_grad():
        for batch in np.split(pictures, 4):
            model.logits(torch.from_numpy(batch))
    return model.eval()


def outcome(runtime: str, file: Path, folder: str) -> dict[str, Any]:
    try:
        CONVERTERS[runtime](file)
    except InputError as error:
        return {"runtime": runtime, "ok": False, "said": told(error, folder)}
    return {"runtime": runtime, "ok": True}


def told(error: InputError, folder: str) -> str:
    """The message without the temporary folder's name."""
    return " ".join(str(error).split()).replace(f"{folder}/onnx-fp32/", "")[:300]


if __name__ == "__main__":
    main()
