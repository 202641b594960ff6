"""One session exports the same model once: each further export of it is read from a folder that its processes share.

An export takes two to three seconds, nearly all of them in torch's tracing, and tests export the same weights for many
purposes. Same are models whose modules, their code, their settings and their tensors are the same; one that
holds anything of which this cannot be said, such as a class or a function of a test, is exported anew.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from edgepress.deploy.build import traced

try:
    from torch.onnx._internal.exporter import _registration
except ImportError:  # another torch has its operators elsewhere, and exports take a little longer
    _registration = None

_PACKAGES = ("edgepress", "timm", "torch", "transformers")
"""Whose code stays as it is for a session. transformers 5 gives every torch.nn.Module a method of its own."""


@dataclass(frozen=True)
class _Kept:
    """What of torch's program edgepress reads."""

    file: Path

    @property
    def model_proto(self) -> onnx.ModelProto:
        return onnx.load(self.file)


@contextlib.contextmanager
def exported_once(folder: Path) -> Iterator[None]:
    """While this lasts, torch.onnx.export, and what traces with it, give what they gave for the same model."""
    export, trace = torch.onnx.export, traced.exported

    def once_traced(module: Any, arguments: Any, **named: Any) -> onnx.ModelProto:
        same = identity(module, arguments, named | {"optimize": False})
        if same is None:
            return trace(module, arguments, **named)
        file = folder / f"{same}.onnx"
        if not file.exists():
            _write(file, trace(module, arguments, **named))
        return onnx.load(file)

    @functools.wraps(export)
    def once(module: Any, arguments: Any = (), *more: Any, **named: Any) -> Any:
        same = None if more or not named.get("optimize", True) else identity(module, arguments, named)
        if same is None:
            return export(module, arguments, *more, **named)
        file = folder / f"{same}.onnx"
        if not file.exists():
            program = export(module, arguments, **named)
            if program is None:
                return None
            _write(file, program.model_proto)
        return _Kept(file)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", once)
        patch.setattr(traced, "exported", once_traced)
        apis = getattr(_registration, "onnxscript_apis", None)  # torch's own way to them, which versions change
        if apis is not None:
            # torch asks for the same list of 500 operators in every export, and reads the source of each.
            listed = functools.cache(lambda: type(apis).__getattr__(apis, "get_torchlib_ops")())
            patch.setattr(apis, "get_torchlib_ops", listed, raising=False)
        yield


def _write(file: Path, graph: onnx.ModelProto) -> None:
    begun = file.with_suffix(f".{os.getpid()}")
    begun.write_bytes(graph.SerializeToString())
    begun.replace(file)


def identity(module: Any, arguments: Any, named: dict[str, Any]) -> str | None:
    """The hash of all that an export follows from; None where it cannot be told."""
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
        said += [name, written, part.extra_repr(), repr(sorted(settings.items()))]
    words = "\n".join(said)
    if " at 0x" in words:  # an address says nothing of what is there
        return None
    found = hashlib.sha256(words.encode())
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        found.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()


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
