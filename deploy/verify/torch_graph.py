"""The torch model that an fp32 ONNX graph was exported from, as a graph to compare it with."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from edgepress.deploy.engines.torch import TorchEngine
from edgepress.deploy.verify.graph_cuts import Layer, OnnxGraph, of_pictures
from edgepress.multilabel.bundle import Bundle

MODULES = "pkg.torch.onnx.name_scopes"
"""The metadata in which torch's exporter says which modules a node belongs to."""
_EXPORTED = "model."
"""The prefix that `deploy.build.export` adds to the model's own names."""


class TorchGraph:
    """The torch model that an fp32 ONNX graph was exported from: its modules' outputs, under the graph's names.

    The exporter writes into every node which modules it belongs to; the last node of a module computes the module's
    output. A module that the exporter fused away has no node.
    """

    def __init__(self, bundle: Bundle, onnx_file: Path, images: np.ndarray) -> None:
        import onnx

        graph = onnx.load(str(onnx_file)).graph
        pictures = set(of_pictures(graph))
        ends: dict[str, str] = {}
        for node in graph.node:
            scopes = next((entry.value for entry in node.metadata_props if entry.key == MODULES), "")
            # A list of names as Python writes it: the whole model (an empty name), the modules, the operation.
            for name in re.findall(r"'([^']*)'", scopes)[1:-1]:
                if node.output[0] in pictures:
                    ends[name.removeprefix(_EXPORTED)] = node.output[0]
        self._engine, self._output = TorchEngine(bundle), graph.output[0].name
        # If several modules end with the same tensor, the innermost one is the most precise.
        self._modules = {tensor: name for name, tensor in sorted(ends.items(), key=lambda end: len(end[0]))}
        self._modules.pop(self._output, None)
        exact = OnnxGraph(onnx_file, list(self._modules)).so_far(images)
        given = self._engine.module_outputs(images, list(self._modules.values()))
        self._modules = {
            tensor: name
            for tensor, name in self._modules.items()
            if name in given and tensor in exact and given[name].shape == exact[tensor].shape
        }
        self.tensors = [*self._modules, self._output]

    def values(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """The modules' float32 outputs, and the logits, by the graph's names."""
        found = self._engine.module_outputs(images, list(self._modules.values()))
        return {tensor: found[name] for tensor, name in self._modules.items()} | {self._output: self._engine(images)}

    def named(self, layer: Layer) -> Layer:
        """The layer, named after its module instead of its node."""
        return layer._replace(node=self._modules.get(layer.tensor, layer.node))
