"""depthwise: the weights' gradient of depthwise convolutions on small maps, as fast as the rest of a step on a CPU.

oneDNN 3.12 (torch 2.14.1) has no kernel for this gradient where a map is smaller than the kernel: it multiplies small
matrices for each picture and channel instead, which takes 8 to 50 times as long as the sums below
(`findings/onednn-depthwise-weight-gradient.sh`; x86 with AVX2). Inputs of 64 to 128 px end in such maps.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.overrides import TorchFunctionMode

_Pair = tuple[int, int]


def small_depthwise(device: torch.device, *, compiled: bool = False) -> contextlib.AbstractContextManager[object]:
    """Until the block ends, let convolutions that are called in it have the faster gradient where there is one.

    Their outputs are the same to the bit, and their gradients differ by rounding. Elsewhere than on a CPU, and in a
    model that torch.compile has compiled, nothing changes.

    Example:
        >>> convolution = torch.nn.Conv2d(8, 8, 5, padding=2, groups=8)
        >>> with small_depthwise(torch.device("cpu")):
        ...     convolution(torch.ones(1, 8, 2, 2)).sum().backward()
        >>> convolution.weight.grad[0, 0].diagonal()
        tensor([0., 1., 4., 1., 0.])
    """
    return contextlib.nullcontext() if compiled or device.type != "cpu" else _Mode()


class _Mode(TorchFunctionMode):
    def __torch_function__(
        self, function: Callable, types: object, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is torch.conv2d and (settings := _settings(*args, **(kwargs or {}))):
            return _Convolution.apply(*settings)
        return function(*args, **(kwargs or {}))


def _settings(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> tuple[Tensor, Tensor, Tensor | None, _Pair, _Pair] | None:
    """The arguments of a convolution whose gradient is computed here, or None."""
    channels, one, *kernel = weight.shape
    if not (groups == channels > 1 == one and weight.requires_grad and torch.is_grad_enabled()):
        return None
    if isinstance(padding, str) or _pair(dilation) != (1, 1) or input.dim() != 4:
        return None
    if input.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return None
    strides, paddings = _pair(stride), _pair(padding)
    sides = [
        (side + 2 * pad - size) // step + 1
        for side, pad, size, step in zip(input.shape[2:], paddings, kernel, strides, strict=True)
    ]
    smaller = all(side < size for side, size in zip(sides, kernel, strict=True))
    return (input, weight, bias, strides, paddings) if smaller else None


def _pair(value: int | Sequence[int]) -> _Pair:
    if isinstance(value, int):
        return value, value
    return value[0], value[-1]  # torch takes a single number in a list as well


class _Convolution(torch.autograd.Function):
    """A depthwise convolution; the gradient of its input is torch's own."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, input: Tensor, weight: Tensor, bias: Tensor | None, stride: _Pair, padding: _Pair
    ) -> Tensor:
        ctx.save_for_backward(input, weight)
        ctx.stride, ctx.padding = stride, padding
        return torch.conv2d(input, weight, bias, stride, padding, 1, len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        of_input = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_input = torch.ops.aten.convolution_backward(
                gradient, input, weight, None, ctx.stride, ctx.padding, (1, 1), False, (0, 0), len(weight),
                (True, False, False),
            )[0]  # fmt: skip
        if ctx.needs_input_grad[1]:
            of_weight = _of_weight(input, gradient, weight, ctx.stride, ctx.padding)
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum(dim=(0, 2, 3))
        return of_input, of_weight, of_bias, None, None


def _of_weight(input: Tensor, gradient: Tensor, weight: Tensor, stride: _Pair, padding: _Pair) -> Tensor:
    """Gradient `[C, 1, kh, kw]`: of each of the kernel's places, the sum of the products of what it met.

    Args:
        input: `[N, C, H, W]`.
        gradient: that of the output, `[N, C, OH, OW]`.
    """
    # Channels last, the products run through the channels, which are many, and not through a map's few places.
    pixels, gradients = input.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1)
    height, width = weight.shape[2:]
    found = weight.new_zeros(height, width, len(weight))
    for row in range(height):
        out_rows, in_rows = _met(row, gradients.shape[1], pixels.shape[1], stride[0], padding[0])
        for column in range(width):
            out_columns, in_columns = _met(column, gradients.shape[2], pixels.shape[2], stride[1], padding[1])
            product = gradients[:, out_rows, out_columns] * pixels[:, in_rows, in_columns]
            found[row, column] = product.sum(dim=(0, 1, 2))
    return found.permute(2, 0, 1).unsqueeze(1)


def _met(place: int, outputs: int, inputs: int, stride: int, padding: int) -> tuple[slice, slice]:
    """Along one side, the outputs for which a place of the kernel lies on the map and not on its padding, and the
    inputs that it meets there."""
    shift = place - padding
    first = max(0, -(shift // stride))
    last = min(outputs - 1, (inputs - 1 - shift) // stride)
    if last < first:
        return slice(0, 0), slice(0, 0)
    return slice(first, last + 1), slice(first * stride + shift, last * stride + shift + 1, stride)
