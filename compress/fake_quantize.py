"""FakeQuantizedModel: a model that computes as its INT8 graph will, and through which gradients pass.

    model = FakeQuantizedModel(student)
    model.observe(images)  # ranges, as a calibrator measures them
    logits, embeddings = model(images)

Nothing is inserted into the student: operations are intercepted as they are called, and tensors are quantised and
dequantised where a Q/DQ graph does so. It thus serves every timm backbone, and the student's state dict is unchanged.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from edgepress.compress.heads import MLDecoderHead
from edgepress.compress.models import MultiLabelModel
from edgepress.multilabel.softmax_range import softmax_range

LEVELS = 255
"""Number of steps in an activation's range: UInt8, asymmetric."""
MOST = 127
"""Largest magnitude of a weight: INT8, symmetric."""


def fake_quantize(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Put `x` on the grid of UInt8 between `low` and `high`, with one scale for all of it.

    As in ONNX Runtime, the range is widened to contain 0, which is on the grid. The gradient passes unchanged where
    `x` is inside, and is 0 outside (Jacob et al., CVPR 2018, arXiv 1712.05877, section 3).

    Args:
        low, high: tensors of one element, without gradient.
    """
    low, high = low.clamp(max=0), high.clamp(min=0)
    scale = ((high - low) / LEVELS).clamp(min=torch.finfo(torch.float32).tiny)
    zero = (-low / scale).round().to(torch.int32)
    return torch.fake_quantize_per_tensor_affine(x.float(), scale, zero, 0, LEVELS).to(x.dtype)


def fake_quantize_weight(weight: Tensor, axis: int = 0) -> Tensor:
    """Put a weight on the grid of symmetric INT8, with one scale per position on `axis`; the gradient passes unchanged.

    A batch norm behind a convolution multiplies whole output channels, and their scales with them: the folded weight
    is on its grid exactly where the plain one is, so nothing is folded here.
    """
    with torch.no_grad():
        others = [dim for dim in range(weight.ndim) if dim != axis]
        scale = weight.detach().abs().amax(dim=others).float() / MOST
        scale = torch.where(scale > 0, scale, 1.0)
        zero = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight.float(), scale, zero, axis, -MOST, MOST).to(weight.dtype)


class FakeQuantizedModel(MultiLabelModel):
    """A student that computes as ONNX Runtime's Q/DQ graph does; its parameters are the student's own.

    It stays in evaluation mode: batch norms keep their statistics, as in the graph into which they are folded, and
    there is no dropout. Ranges are frozen once observed, not learnt: quantising the student measures them again.

    Args:
        student: a fused student; see `compress.models.fuse`.
    """

    ranges: Tensor
    """`[T, 2]`: lowest and highest value of every quantised activation, in the order of computation."""

    def __init__(self, student: MultiLabelModel) -> None:
        super().__init__(student.config, student.labels, student.preprocess)
        self.backbone, self.head, self.label_wise = student.backbone, student.head, student.label_wise
        self.register_buffer("ranges", torch.empty(0, 2))
        self.to(student.mean.device)  # the buffers made here, too: a student on a GPU sees its pictures there
        counter = _Counter()
        with torch.no_grad(), counter:
            size = self.preprocess.size
            super().logits(torch.zeros(1, size, size, 3, dtype=torch.uint8, device=self.mean.device))
        self.convolutions = counter.count
        self.eval()

    def train(self, mode: bool = True) -> FakeQuantizedModel:
        """Stay in evaluation mode, whatever is requested."""
        super().train(False)
        return self

    def observe(self, images: Tensor) -> None:
        """Widen the ranges by what the float model computes on these pictures, uint8 `[B, size, size, 3]`."""
        operations = _QuantizedOperations(images, self.ranges, self.convolutions, observing=True)
        with torch.no_grad(), operations:
            super().logits(images)
        seen = torch.stack(operations.seen)
        if len(self.ranges):
            low, high = torch.minimum(seen, self.ranges)[:, 0], torch.maximum(seen, self.ranges)[:, 1]
            seen = torch.stack([low, high], dim=1)
        self.ranges = seen

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Turn uint8 RGB `[B, size, size, 3]` into logits `[B, C]` and label-wise embeddings `[B, C, dim]`."""
        with _QuantizedOperations(images, self.ranges, self.convolutions):
            tokens = self.tokens(images)
            if isinstance(self.head, MLDecoderHead):
                return self._headed(tokens)
            logits = self.head.logits(tokens)
        return logits, self._headed(tokens)[1]  # no graph computes these embeddings

    def logits(self, images: Tensor) -> Tensor:
        """Turn uint8 RGB `[B, size, size, 3]` into logits `[B, C]` alone."""
        with _QuantizedOperations(images, self.ranges, self.convolutions):
            return super().logits(images)


class _State(enum.Enum):
    """What is known about a tensor that depends on the pictures."""

    FLOAT = enum.auto()
    """It is in float, and is quantised when a quantised operation takes it."""
    RESULT = enum.auto()
    """It results from a quantised operation: it is quantised when taken, unless by a fused operation."""
    QUANTIZED = enum.auto()
    """It is on a grid already."""


_CONVOLUTIONS = {"conv1d", "conv2d", "conv3d"}
_PRODUCTS = _CONVOLUTIONS | {"linear", "matmul", "rmatmul", "bmm"}
"""Operations that are quantised everywhere, with the weights they multiply by."""
_SUMS = {"add", "iadd", "radd", "mul", "imul", "rmul", "cat", "mean", "avg_pool2d", "adaptive_avg_pool2d"}
"""Operations that are quantised up to the last convolution."""
_WITHIN = {"batch_norm", "relu", "relu6", "hardtanh", "clamp"}
"""Operations that are fused with the product or sum before them."""
_MOVES = {
    *("to", "float", "type_as", "contiguous", "clone", "detach", "dropout", "pad", "reshape", "view", "flatten"),
    *("unflatten", "permute", "transpose", "unsqueeze", "squeeze", "expand", "getitem", "chunk", "split", "unbind"),
    *("max_pool2d", "interpolate"),
}
"""Operations that keep values as they are."""
_QUESTIONS = {"get", "size", "dim", "numel", "stride", "is_contiguous", "is_floating_point", "len"}
"""Operations that ask about a tensor without using its values."""


class _QuantizedOperations(TorchFunctionMode):
    """Every operation of one forward pass, on fake-quantised tensors where a Q/DQ graph has them.

    A tensor is quantised once, when an operation first requests it, and everything after sees the result; its number
    in that order finds its range.

    Args:
        convolutions: their number in the whole model; after the last one only products are quantised.
        observing: whether to compute in float, and leave each tensor's range in `seen`.
    """

    def __init__(self, images: Tensor, ranges: Tensor, convolutions: int, observing: bool = False) -> None:
        super().__init__()
        self.ranges, self.convolutions_left, self.observing = ranges, convolutions, observing
        self.seen: list[Tensor] = []
        self._place, self._begun = 0, False
        self._known = WeakTensorKeyDictionary()  # _State, or the quantised tensor that replaces it
        self._positions = WeakTensorKeyDictionary()  # of a softmax's output: over how many it distributes its 1
        # Until the first product it is a picture's bytes, shifted and scaled: a grid that loses nothing.
        self._known[images] = _State.QUANTIZED

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.__name__.strip("_")
        operands = list(_tensors(args))
        varying = [operand in self._known for operand in operands]
        if name in _QUESTIONS or not any(varying):
            return func(*args, **kwargs)
        if name in _PRODUCTS:
            self._begun = True
            return self._product(name, func, args, kwargs)
        if not self._begun:
            return self._told(func(*args, **kwargs), _State.QUANTIZED)
        if name in _WITHIN and self._known.get(operands[0]) is _State.RESULT:
            return self._told(func(*args, **kwargs), _State.RESULT)
        if name == "silu" and self.convolutions_left > 0:  # these are two operations in a graph
            x = self._taken(args[0], also_float=True)
            gate = self._taken(self._told(x.sigmoid(), _State.RESULT))
            return self._told(x * gate, _State.RESULT)
        # A sum with a constant is part of what comes before or after it.
        summed = name in _SUMS and self.convolutions_left > 0 and all(varying)
        args = self._taken(args, also_float=summed)
        if summed:
            state = _State.RESULT
        else:
            kept = name in _MOVES and self._known.get(next(_tensors(args))) is _State.QUANTIZED
            state = _State.QUANTIZED if kept else _State.FLOAT
        result = self._told(func(*args, **kwargs), state)
        if name == "softmax":
            self._positions[result] = result.shape[kwargs["dim"] if "dim" in kwargs else args[1]]
        return result

    def _product(self, name: str, func: Any, args: Any, kwargs: Any) -> Any:
        operands = list(args[:2])
        if name == "matmul" and any(operand.ndim == 3 and operand not in self._known for operand in operands):
            # An ML-Decoder's product of each label with its own vector stays in float.
            return self._told(func(*self._taken(args), **kwargs), _State.FLOAT)
        for place, operand in enumerate(operands):
            if operand in self._known:
                operands[place] = self._taken(operand, also_float=True)
            elif not self.observing:
                operands[place] = fake_quantize_weight(operand, 1 if "matmul" in name else 0)
        bias = args[2] if len(args) > 2 else kwargs.get("bias")
        if name == "linear" and bias is not None and args[0].ndim > 2:
            # In a graph these are a product and a sum; the product's result is quantised.
            product = self._told(func(*operands), _State.RESULT)
            return self._told(self._taken(product) + bias, _State.FLOAT)
        result = func(*operands, *args[2:], **kwargs)
        self.convolutions_left -= name in _CONVOLUTIONS
        return self._told(result, _State.RESULT)

    def _taken(self, args: Any, also_float: bool = False) -> Any:
        """Arguments with results of quantised operations, or everything that depends on the pictures, quantised."""
        if isinstance(args, tuple | list):
            return type(args)(self._taken(arg, also_float) for arg in args)
        state = self._known.get(args) if isinstance(args, Tensor) else None
        if isinstance(state, Tensor):
            return self._taken(state, also_float)  # a tensor changed in place may be float again
        if state is _State.RESULT or (also_float and state is _State.FLOAT):
            return self._quantized(args)
        return args

    def _quantized(self, tensor: Tensor) -> Tensor:
        place, self._place = self._place, self._place + 1
        if self.observing:
            low, high = tensor.detach().float().aminmax()
            if tensor in self._positions:
                low, high = map(high.new_tensor, softmax_range(float(high), self._positions[tensor]))
            self.seen.append(torch.stack((low, high)))
            self._known[tensor] = _State.QUANTIZED
            return tensor
        quantized = fake_quantize(tensor, *self.ranges[place])
        self._known[quantized] = _State.QUANTIZED
        self._known[tensor] = quantized
        return quantized

    def _told(self, result: Any, state: _State) -> Any:
        for tensor in _tensors((result,)):
            self._known[tensor] = state
        return result


class _Counter(TorchFunctionMode):
    """Counts the convolutions of a forward pass."""

    count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.__name__ in _CONVOLUTIONS
        return func(*args, **(kwargs or {}))


def _tensors(args: Any) -> Iterator[Tensor]:
    for arg in args:
        if isinstance(arg, Tensor):
            yield arg
        elif isinstance(arg, tuple | list):
            yield from _tensors(arg)
