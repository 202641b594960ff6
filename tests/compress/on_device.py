"""Train on a device that stands in for a GPU: its tensors are the processor's under another name, and an operation on
them together with one of the processor's own is an error, as CUDA's is.

    python -m tests.compress.on_device DATA OUT

Teaches, distils and fine-tunes tiny models there, in a process of its own, because torch takes a device's name for the
whole process. Mixed precision and several processes are not stood in for. Not run on a GPU.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState, PartialState
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "standin"
ATEN = torch.ops.aten
MOVES = (ATEN.copy_.default, ATEN._to_copy.default)
INDEXED = (ATEN.index.Tensor, ATEN.index_put_.default, ATEN.index_put.default, ATEN._index_put_impl_.default)
"""They take places that are the processor's own, in CUDA as here."""


class Module:
    """What torch asks of a device's module."""

    is_available = is_initialized = staticmethod(lambda: True)
    device_count = staticmethod(lambda: 1)
    current_device = staticmethod(lambda: 0)
    _is_in_bad_fork = staticmethod(lambda: False)
    manual_seed_all = staticmethod(lambda seed: None)
    get_amp_supported_dtype = staticmethod(lambda: [torch.bfloat16, torch.float16])


_setup_privateuseone_for_python_backend(NAME, Module())
torch.__future__.set_overwrite_module_params_on_conversion(True)
# Before edgepress is imported, whose functions are decorated with it: it forbids what wrapped tensors need.
torch.inference_mode = torch.no_grad  # type: ignore[misc,assignment]


class OnDevice(torch.Tensor):
    """A tensor of the device, and the one of the processor that it is."""

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> OnDevice:
        strides, offset = inner.stride(), inner.storage_offset()
        fields = {"strides": strides, "storage_offset": offset, "dtype": inner.dtype, "device": f"{NAME}:0"}
        return torch.Tensor._make_wrapper_subclass(cls, inner.size(), **fields)

    def __init__(self, inner: torch.Tensor) -> None:
        self.inner = inner

    def __deepcopy__(self, memo: dict[int, Any]) -> torch.Tensor:
        made: torch.Tensor = OnDevice(self.inner.clone())
        return torch.nn.Parameter(made, self.requires_grad) if isinstance(self, torch.nn.Parameter) else made

    def new_tensor(self, value: Any, **_: Any) -> torch.Tensor:
        return OnDevice(torch.tensor(value, dtype=self.dtype))  # torch makes it below the mode

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


class Device(TorchDispatchMode):
    """Makes tensors on the device where it is asked for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operation on the processor, and give a tensor of the device where CUDA would."""
    tensors = [one for one in tree_iter((args, kwargs)) if isinstance(one, torch.Tensor)]
    ours = [one for one in tensors if isinstance(one, OnDevice)]
    asked = kwargs.get("device")
    given = asked is not None and torch.device(asked).type == NAME
    if ours and func not in MOVES:
        held = [args[0], *args[2:3]] if func in INDEXED else tensors
        mixed = [one for one in held if not isinstance(one, OnDevice) and one.dim() > 0]
        if mixed:
            raise RuntimeError(f"{func}: a tensor of the processor {list(mixed[0].shape)} beside one of the device")
    plain = {**kwargs, **({} if asked is None else {"device": "cpu"}), **({"pin_memory": False} if given else {})}
    found = func(*tree_map(_inner, args), **tree_map(_inner, plain))
    if func is ATEN.copy_.default:
        return args[0]
    stays = given if asked is not None else bool(ours)
    if not stays or func is ATEN._local_scalar_dense.default:
        return found
    before = {id(one.inner): one for one in ours}  # an operation in place gives back what it was given

    def wrapped(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return before[id(value)] if id(value) in before else OnDevice(value)

    return tree_map(wrapped, found)


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, OnDevice) else value


def stand_in() -> None:
    """Let training take the device for the accelerator's."""
    from edgepress.compress import distill, quantize_aware

    generator = torch.Generator
    torch.Generator = lambda device=None: generator()  # type: ignore[misc,assignment] # the device has none of its own
    make, make_model = distill.make_accelerator, distill.make_model

    def on_device(config: Any) -> Any:
        accelerator = make(config)
        for state in (AcceleratorState, PartialState):
            state._shared_state["device"] = torch.device(f"{NAME}:0")
        return accelerator

    def moved(config: Any, labels: Any) -> Any:
        model, source = make_model(config, labels)
        return model.to(NAME), source

    distill.make_accelerator = quantize_aware.make_accelerator = on_device
    distill.make_model = moved  # before its optimiser is made, because here a move makes new parameters


def main(data: Path, out: Path) -> None:
    """Train everything once; print a line for each."""
    from edgepress.compress.config import QuantizeAwareConfig
    from edgepress.compress.distill import answers_of, distill, teach
    from edgepress.compress.quantize_aware import quantize_aware
    from edgepress.multilabel.datasets import load_dataset
    from tests.compress.lessons import STUDENT, TEACHER, updated

    torch.set_num_threads(1)
    stand_in()
    train, val = load_dataset(data, "train"), load_dataset(data, "val")
    everything = updated(STUDENT, hint=1, kd=1, mse=1, ps=0.1, rkd=0.01, pkt=1, review_kd=0.1, at=1, fitnet=0.1)
    kept = updated(STUDENT, hint=1, variations=1, epochs=2)
    with Device():
        teacher = teach(train, val, updated(TEACHER, positive_weights="balanced"), out / "teacher")
        print("taught", flush=True)
        distill(train, val, teacher, everything, out / "everything")
        print("distilled with every term", flush=True)
        student = distill(train, val, teacher, kept, out / "kept")
        print("distilled from kept answers", flush=True)
        distill(train, val, teacher, updated(everything, simkd=1, variations=1, epochs=2), out / "inside")
        assert not list(answers_of(out / "inside").rglob("*.inside"))  # which a device computes faster than it is read
        print("distilled beside the teacher", flush=True)
        quantize_aware(train, val, teacher, student, QuantizeAwareConfig(epochs=1, pictures=8), out / "fine-tuned")
        print("fine-tuned for INT8", flush=True)
        try:
            torch.zeros(3, device=NAME) + torch.zeros(3)
        except RuntimeError as error:
            print("mixed tensors are refused:", error)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
