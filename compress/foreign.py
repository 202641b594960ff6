"""A teacher that is a graph: an ONNX bundle, which returns logits and does not expose its inner values."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgepress.compress.config import DistillConfig
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import InputError

ON_LOGITS = ("mld", "kd", "mse", "ps")
"""The terms that need only logits."""


class OnnxTeacher(nn.Module):
    """An ONNX bundle as a teacher, run by ONNX Runtime on the CPU.

    Args:
        bundle: a bundle of kind onnx, in fp32, with one output, as `adopt` or `export` made it.

    Raises:
        InputError: it has another precision, or attention as a second output.
    """

    embedding_dim = 0
    """A graph has no label-wise embeddings."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        import onnxruntime as ort

        if bundle.manifest.precision != "fp32":
            raise InputError(f"{bundle.path}: a teacher in {bundle.manifest.precision}; expected the fp32 ONNX bundle")
        self.labels, self.preprocess = bundle.labels, bundle.preprocess
        options = ort.SessionOptions()
        options.log_severity_level = 3
        data = bundle.model_path.read_bytes()
        self.session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        if len(self.session.get_outputs()) != 1:
            raise InputError(f"{bundle.path}: has attention as a second output; expected the bundle without it")

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Turn uint8 RGB `[B, size, size, 3]` into logits `[B, C]` and embeddings of width 0 `[B, C, 0]`."""
        logits = self.logits(images)
        return logits, logits.new_zeros(*logits.shape, 0)

    def logits(self, images: Tensor) -> Tensor:
        """Turn uint8 RGB `[B, size, size, 3]` into logits `[B, C]`."""
        found = self.session.run(None, {self.session.get_inputs()[0].name: images.cpu().numpy()})[0]
        return torch.from_numpy(found).to(images.device)


def require_taught_by_logits(config: DistillConfig, teacher: Bundle) -> None:
    """Raise an error if the settings request what a graph does not provide.

    Raises:
        InputError: there is such a setting; the message names the first, and those that a graph can teach.
    """
    asked = [name for name in config.terms if name not in ON_LOGITS]
    asked += ["inherit_head"] if config.inherit_head == "auto" else []
    if asked:
        flags = ", ".join(f"--{name}" for name in ON_LOGITS)
        raise InputError(
            f"{teacher.path}: an ONNX graph teaches by its logits, but {asked[0]} needs what is inside it: leave "
            f"{asked[0]} out and take {flags} (such as --preset mld)"
        )
