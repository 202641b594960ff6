"""A teacher that is a graph: an ONNX bundle, which gives logits, and inner values that are asked for by name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from edgepress.compress.features import Features
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import InputError, did_you_mean
from edgepress.multilabel.onnx_session import cpu_session


class OnnxTeacher(nn.Module):
    """An ONNX bundle as a teacher, run by ONNX Runtime on the CPU.

    Args:
        bundle: a bundle of kind onnx, in fp32, with one output, as `adopt` or `export` made it.
        features: names of tensors in its graph, float32: feature maps `[B, channels, rows, columns]` from shallow to
            deep, and at most one tensor of label-wise embeddings `[B, labels, width]`.

    Raises:
        InputError: it has another precision, or attention as a second output; or a feature is unknown, or has another
            shape.
    """

    embedding_dim: int
    """Width of the label-wise embeddings; 0 where none are named."""
    map_channels: tuple[int, ...]
    """Widths of the named feature maps."""

    def __init__(self, bundle: Bundle, features: Sequence[str] = ()) -> None:
        super().__init__()
        if bundle.manifest.precision != "fp32":
            raise InputError(f"{bundle.path}: a teacher in {bundle.manifest.precision}; expected the fp32 ONNX bundle")
        self.labels, self.preprocess = bundle.labels, bundle.preprocess
        graph = bundle.read(bundle.manifest.model)
        self.session = cpu_session(_with_outputs(graph, features, bundle) if features else graph)
        if len(self.session.get_outputs()) != 1 + len(features):
            raise InputError(f"{bundle.path}: has attention as a second output; expected the bundle without it")
        self._maps: list[str] = []
        self._embeddings: str | None = None
        self._kept: list[np.ndarray] = []
        self._device = torch.device("cpu")
        self.embedding_dim, self.map_channels = 0, ()
        if features:
            self._sort(features, bundle)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Turn uint8 RGB `[B, size, size, 3]` into logits `[B, C]` and embeddings `[B, C, dim]`; maps are kept."""
        wanted = [*self._maps, *([self._embeddings] if self._embeddings else [])]
        logits, *inside = self._run(images, wanted)
        embeddings = inside.pop() if self._embeddings else np.zeros((*logits.shape, 0), np.float32)
        self._kept, self._device = inside, images.device
        return torch.from_numpy(logits).to(images.device), torch.from_numpy(embeddings).to(images.device)

    def logits(self, images: Tensor) -> Tensor:
        """Turn uint8 RGB `[B, size, size, 3]` into logits `[B, C]`."""
        return torch.from_numpy(self._run(images, [])[0]).to(images.device)

    def features(self) -> Features:
        """The named feature maps of the last forward pass; the deepest one's positions are the tokens."""
        maps = [torch.from_numpy(one).to(self._device) for one in self._kept]
        return Features(maps[-1].flatten(2).transpose(1, 2), maps)

    def _run(self, images: Tensor, names: list[str]) -> list[np.ndarray]:
        logits = self.session.get_outputs()[0].name
        return self.session.run([logits, *names], {self.session.get_inputs()[0].name: images.cpu().numpy()})

    def _sort(self, features: Sequence[str], bundle: Bundle) -> None:
        """Try the graph on two black pictures, and find out what each named tensor is."""
        size = self.preprocess.size
        found = self._run(torch.zeros(2, size, size, 3, dtype=torch.uint8), list(features))[1:]
        for name, tensor in zip(features, found, strict=True):
            what = f"{bundle.path}: the tensor {name!r} is {tensor.dtype} {list(tensor.shape)} for two pictures"
            if tensor.dtype == np.float32 and tensor.ndim == 4 and len(tensor) == 2:
                self._maps.append(name)
                self.map_channels = (*self.map_channels, tensor.shape[1])
            elif tensor.dtype == np.float32 and tensor.shape[:2] == (2, len(self.labels)) and tensor.ndim == 3:
                if self._embeddings is not None:
                    raise InputError(f"{what}, and {self._embeddings!r} is of embeddings as well; expected one of them")
                self._embeddings, self.embedding_dim = name, tensor.shape[2]
            else:
                raise InputError(
                    f"{what}; expected float32 feature maps [2, channels, rows, columns] or label-wise embeddings "
                    f"[2, {len(self.labels)}, width]"
                )


def _with_outputs(graph: bytes, names: Sequence[str], bundle: Bundle) -> bytes:
    """The same graph with further outputs."""
    import onnx

    model = onnx.load_model_from_string(graph)
    known = [output for node in model.graph.node for output in node.output if output]
    for name in names:
        if name not in known:
            raise InputError(
                f"{bundle.path}: no tensor {name!r} in its graph of {len(known)} (teacher_features); a viewer such as "
                f"Netron shows their names{did_you_mean(name, known)}"
            )
    if len(set(names)) != len(names):
        raise InputError(f"{bundle.path}: teacher_features names a tensor twice")
    have = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in have)
    return model.SerializeToString()
