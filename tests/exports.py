"""One session traces the same network once: each further export of it begins with what its processes share in a folder.

An export takes two to three seconds, nearly all of them in torch's tracing, and tests export the same network for many
purposes. Same are models whose modules, their code, their settings and the shapes of their tensors are the same; one
that holds anything of which this cannot be said, such as a class or a function of a test, is traced anew. A model's own
weights take the place of those that were traced, and all that follows is done as in every export.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

try:
    import onnx_ir as ir
    from torch.onnx._internal.exporter import _registration
except ImportError:  # another torch has its operators elsewhere, and every network is traced anew
    _registration = None

_PACKAGES = ("edgepress", "timm", "torch", "transformers")
"""Whose code stays as it is for a session. transformers 5 gives every torch.nn.Module a method of its own."""


@functools.cache
def _operators(apis: Any) -> Any:
    """torch asks for the same list of 500 operators in every export, and reads the source of each."""
    return type(apis).__getattr__(apis, "get_torchlib_ops")()


@contextlib.contextmanager
def exported_once(folder: Path) -> Iterator[None]:
    """While this lasts, torch.onnx.export traces each network once."""
    export = torch.onnx.export

    @functools.wraps(export)
    def once(module: Any, arguments: Any = (), *more: Any, **named: Any) -> Any:
        whole = named | {"optimize": False}
        same = None if more or _registration is None else identity(module, arguments, whole)
        if same is None:
            return export(module, arguments, *more, **named)
        file = folder / f"{same}.onnx"
        if not file.exists():
            _write(file, export(module, arguments, **whole).model_proto)
        program = torch.onnx.ONNXProgram(ir.serde.deserialize_model(with_weights(onnx.load(file), module)), None)
        if named.get("optimize", True):
            program.optimize()
        return program

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", once)
        apis = getattr(_registration, "onnxscript_apis", None)  # torch's own way to them, which versions change
        if apis is not None:
            patch.setattr(apis, "get_torchlib_ops", functools.partial(_operators, apis), raising=False)
        yield


def _write(file: Path, graph: onnx.ModelProto) -> None:
    begun = file.with_suffix(f".{os.getpid()}")
    begun.write_bytes(graph.SerializeToString())
    begun.replace(file)


def with_weights(graph: onnx.ModelProto, module: torch.nn.Module) -> onnx.ModelProto:
    """The trace with a module's own weights in the place of those that were traced."""
    tensors = tensors_of(module)
    for initializer in graph.graph.initializer:
        if initializer.name in tensors:
            assert initializer.HasField("raw_data"), initializer.name
            initializer.raw_data = tensors[initializer.name].detach().contiguous().numpy().tobytes()
    return graph


def tensors_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """By every name that one has: torch's program may take any of them."""
    everything = {"remove_duplicate": False}
    return {**dict(module.named_parameters(**everything)), **dict(module.named_buffers(**everything))}


def identity(module: Any, arguments: Any, named: dict[str, Any]) -> str | None:
    """The hash of all that a trace follows from; None where it cannot be told."""
    if not (isinstance(module, torch.nn.Module) and isinstance(arguments, tuple) and named.get("dynamo")):
        return None
    if not all(isinstance(argument, torch.Tensor) for argument in arguments):
        return None
    said = [repr(sorted((name, str(value)) for name, value in named.items()))]
    said += [f"{tuple(argument.shape)} {argument.dtype}" for argument in arguments]
    for name, part in module.named_modules():
        written = code(type(part))
        if written is None:
            return None
        held = ("_parameters", "_buffers", "_modules")
        settings = {key: value for key, value in vars(part).items() if key not in held}
        if any(isinstance(value, torch.Tensor) for value in settings.values()):  # it is written into the graph
            return None
        said += [name, written, part.extra_repr(), repr(sorted(settings.items()))]
    words = "\n".join(said)
    if " at 0x" in words:  # an address says nothing of what is there
        return None
    shapes = "\n".join(f"{name} {tuple(one.shape)} {one.dtype}" for name, one in tensors_of(module).items())
    return hashlib.sha256(f"{words}\n{shapes}".encode()).hexdigest()


def code(kind: type) -> str | None:
    """Where the functions of a class and of what it inherits from are written; None if not all are in a package."""
    said = [f"{kind.__module__}.{kind.__qualname__}"]
    for base in kind.__mro__[:-1]:
        for name, one in vars(base).items():
            if isinstance(one, types.FunctionType):
                if one.__module__.partition(".")[0] not in _PACKAGES:  # it may use what a test holds
                    return None
                said.append(f"{name} {one.__code__.co_filename}:{one.__code__.co_firstlineno}")
    return " ".join(said)
