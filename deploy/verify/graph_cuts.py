"""A graph's inner tensors: computed in one pass, and each computed alone from given values of all earlier ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from edgepress.multilabel.cores import thread_limit
from edgepress.multilabel.onnx_session import cpu_session
from edgepress.multilabel.openvino_model import own_signal_stack

_QUANTISED = ("QuantizeLinear", "DequantizeLinear")
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class Layer(NamedTuple):
    """The node that computes one tensor that the float graph has as well."""

    tensor: str
    node: str
    """Name of the node that computes it; in an INT8 graph the node before its quantisation."""
    operator: str


class Graph(Protocol):
    """A graph whose tensors are compared with the float graph's; a call takes pictures uint8 `[B, size, size, 3]`."""

    layers: list[Layer]
    """The layers in the order of execution."""

    def so_far(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Every layer's tensor, with the graph as it is."""

    def alone(self, images: np.ndarray, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Every layer's tensor, where each layer reads `given` instead of the other layers' tensors."""


class FloatGraph:
    """The fp32 ONNX graph that others are compared with."""

    def __init__(self, file: Path) -> None:
        import onnx

        model = onnx.load(str(file))
        names = of_pictures(model.graph)
        self._input = model.graph.input[0].name
        types = _types(model, names)
        self.tensors = [name for name in names if types[name] == "tensor(float)"]
        self._session = _session(_with_outputs(model, self.tensors))

    def values(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Its float32 tensors by name, for pictures uint8 `[B, size, size, 3]`."""
        return dict(zip(self.tensors, self._session.run(None, {self._input: images}), strict=True))


class OnnxGraph:
    """An ONNX graph in float32 or float16, or with Q/DQ pairs, computed as written by ONNX Runtime's CPU.

    Kernels are not fused, because the graph itself is examined. A quantised tensor is taken after its Q/DQ pair, as its
    readers see it.

    Args:
        tensors: names that the float graph has.
    """

    def __init__(self, file: Path, tensors: Collection[str]) -> None:
        import onnx

        model = onnx.load(str(file))
        self._input = model.graph.input[0].name
        shared = [name for name in of_pictures(model.graph) if name in set(tensors)]
        seen = _as_read(model.graph)
        types = _types(model, [seen.get(name, name) for name in shared])
        shared = [name for name in shared if types[seen.get(name, name)] in _TYPES]
        self._seen = {name: seen.get(name, name) for name in shared}
        self._types = {name: _TYPES[types[at]] for name, at in self._seen.items()}
        makers = {output: node for node in model.graph.node for output in node.output}
        self.layers = [Layer(name, makers[name].name, makers[name].op_type) for name in shared]
        self._whole = _session(_with_outputs(model, list(self._seen.values())))
        cut = _cut(model, self._seen, self._types)
        self._cut = _session(_with_outputs(cut, list(self._seen.values())))

    def so_far(self, images: np.ndarray) -> dict[str, np.ndarray]:
        return self._named(self._whole.run(None, {self._input: images}))

    def alone(self, images: np.ndarray, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        feeds = {self._input: images}
        for place in self._cut.get_inputs():
            if place.name != self._input:
                name = place.name.removesuffix(_GIVEN)
                feeds[place.name] = given[name].astype(self._types[name])
        return self._named(self._cut.run(None, {place.name: feeds[place.name] for place in self._cut.get_inputs()}))

    def _named(self, values: list[np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(self._seen, values, strict=True))


class OpenVinoGraph:
    """An OpenVINO graph in f32 on the CPU; tensors that keep their names of the ONNX graph are compared.

    A tensor that a FakeQuantize reads is taken after it, as its readers see it.

    Args:
        tensors: names that the float graph has.
    """

    def __init__(self, file: Path, tensors: Collection[str]) -> None:
        import openvino as ov

        self._ov, self._core, self._file = ov, ov.Core(), file
        wanted = set(tensors)
        model = self._core.read_model(file)
        layers = self._outputs(model, wanted)
        self.layers = [layer for layer, _ in layers]
        with own_signal_stack():
            self._whole = self._compiled(model, [seen for _, seen in layers], [])
            self._cut, self._given = self._compile_cut({layer.tensor for layer in self.layers})

    def so_far(self, images: np.ndarray) -> dict[str, np.ndarray]:
        return self._named(self._whole([images]))

    def alone(self, images: np.ndarray, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return self._named(self._cut([images, *(given[name] for name in self._given)]))

    def _named(self, values: Any) -> dict[str, np.ndarray]:
        return {layer.tensor: values[place] for place, layer in enumerate(self.layers)}

    def _outputs(self, model: Any, wanted: Collection[str]) -> list[tuple[Layer, Any]]:
        """The layers, each with the output that its readers see."""
        pictures = {model.inputs[0].get_node().get_friendly_name()}
        found = []
        for op in model.get_ordered_ops():
            sources = [value.get_source_output().get_node().get_friendly_name() for value in op.inputs()]
            if op.get_type_name() == "Result" or not pictures.intersection(sources):
                continue
            pictures.add(op.get_friendly_name())
            for output in op.outputs():
                name = min(output.get_names() & set(wanted), default=None)
                if name is None or not output.get_element_type().is_real():
                    continue
                readers = [value.get_node() for value in output.get_target_inputs()]
                quantised = [reader for reader in readers if reader.get_type_name() == "FakeQuantize"]
                seen = quantised[0].output(0) if quantised else output
                found.append((Layer(name, op.get_friendly_name(), op.get_type_name()), seen))
        return found

    def _compile_cut(self, names: Collection[str]) -> tuple[Any, list[str]]:
        """The graph in which each layer reads parameters instead of the other layers, and their names in order."""
        model = self._core.read_model(self._file)
        layers = self._outputs(model, names)
        parameters, given = [], []
        for layer, seen in layers:
            readers = [value for value in seen.get_target_inputs() if value.get_node().get_type_name() != "Result"]
            parameter = self._ov.opset13.parameter(seen.get_partial_shape(), seen.get_element_type())
            for reader in readers:
                reader.replace_source_output(parameter.output(0))
            if readers:
                parameters.append(parameter)
                given.append(layer.tensor)
        return self._compiled(model, [seen for _, seen in layers], parameters), given

    def _compiled(self, model: Any, outputs: list[Any], parameters: list[Any]) -> Any:
        """A function from inputs to the values of these outputs."""
        model.add_parameters(parameters)
        model.add_outputs(outputs)
        places = [model.get_result_index(output) for output in outputs]
        options: dict[str, object] = {"INFERENCE_PRECISION_HINT": "f32"}
        limit = thread_limit()
        if limit is not None:
            options["INFERENCE_NUM_THREADS"] = limit
        compiled = self._core.compile_model(model, "CPU", options)

        def run(inputs: list[np.ndarray]) -> list[np.ndarray]:
            values = compiled(inputs)
            return [values[place] for place in places]

        return run


_GIVEN = "/given"


def of_pictures(graph: Any) -> list[str]:
    """The tensors that depend on the graph's input, in the order of execution, without those inside a Q/DQ pair."""
    reached = {graph.input[0].name}
    found = []
    for node in graph.node:
        if reached.intersection(node.input):
            reached.update(name for name in node.output if name)
            if node.op_type not in _QUANTISED:
                found += [name for name in node.output if name]
    return found


def _as_read(graph: Any) -> dict[str, str]:
    """The output of the DequantizeLinear for each quantised tensor."""
    quantised = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    return {
        quantised[node.input[0]]: node.output[0]
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in quantised
    }


def _cut(model: Any, seen: Mapping[str, str], types: Mapping[str, Any]) -> Any:
    """A copy in which every reader of a layer's tensor reads a graph input instead."""
    from onnx import helper

    result = type(model)()
    result.CopyFrom(model)
    given = {at: name for name, at in seen.items()} | {name: name for name in seen}
    read: dict[str, None] = defaultdict()
    for node in result.graph.node:
        if node.op_type == "QuantizeLinear":
            continue  # it belongs to the layer whose tensor it rounds
        for place, name in enumerate(node.input):
            if name in given:
                node.input[place] = given[name] + _GIVEN
                read[given[name]] = None
    for name in read:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(types[name]))
        result.graph.input.append(helper.make_tensor_value_info(name + _GIVEN, kind, None))
    return result


def _with_outputs(model: Any, names: list[str]) -> Any:
    """A copy whose outputs are these tensors; the runtime finds their types."""
    import onnx

    result = type(model)()
    result.CopyFrom(model)
    del result.graph.output[:]
    result.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return result


def _types(model: Any, names: list[str]) -> dict[str, str]:
    return {output.name: output.type for output in _session(_with_outputs(model, names)).get_outputs()}


def _session(model: Any) -> Any:
    return cpu_session(model.SerializeToString(), "basic")
