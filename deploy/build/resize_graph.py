"""Preprocessing as ONNX nodes: from uint8 pictures of any height and width to the pixels that a model takes.

The nodes compute what `multilabel.preprocess` computes, for the layout free-size: two matrix products, or two gathers,
whose weights the graph computes from the picture's height and width.

A sum that becomes a byte is a sum of whole numbers below 2^24. It is exact in float32 in any order, so every runtime
that computes in float32 gets the same bytes. `area-cubic` alone sums fractions where a picture shrinks, as OpenCV does.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from edgepress.multilabel.preprocess import Preprocess

if TYPE_CHECKING:
    import onnx

LONGEST = 65535
"""The longest side of a picture in pixels, which is a JPEG's."""
_BLOCKS = 4
"""Parts of the result, each computed from the part of the picture beneath it: all other weights are 0."""
_HALF = 2.0**11
"""A weight is a whole number of 2^-22ths, as in `multilabel.resampling`, and has two halves of 11 bits. A half times a
byte has 19 bits, so whatever the pixels are the sum of 32 taps is exact, and in practice that of hundreds."""
_Tensor: TypeAlias = str | int | float | np.ndarray
"""A tensor's name, or a constant: an int becomes int64 and a float float32."""


class Nodes:
    """Nodes and constants in the order in which they are added."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def __call__(self, operator: str, *inputs: _Tensor, **attributes: Any) -> str:
        """Add a node; returns the name of its output."""
        return self.several(1, operator, *inputs, **attributes)[0]

    def several(self, outputs: int, operator: str, *inputs: _Tensor, **attributes: Any) -> list[str]:
        """Add a node; returns the names of its outputs."""
        from onnx import helper

        name = f"{self._prefix}/{operator.lower()}_{len(self.nodes)}"
        names = [name, *(f"{name}_{number}" for number in range(1, outputs))]
        self.nodes.append(helper.make_node(operator, [self._named(one) for one in inputs], names, name, **attributes))
        return names

    def _named(self, value: _Tensor) -> str:
        from onnx import numpy_helper

        if isinstance(value, str):
            return value
        name = f"{self._prefix}/constant_{len(self.constants)}"
        if not isinstance(value, np.ndarray):
            value = np.array(value, np.int64 if isinstance(value, int) else np.float32)
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def floats(self, value: _Tensor) -> str:
        return self("Cast", value, to=1)

    def quotient(self, a: _Tensor, b: _Tensor) -> str:
        """a / b in float32; exact where that is a whole number of 1/1024.

        OpenVINO multiplies by an approximate 1 / b, so that even 41 / 41 is below 1 (`findings/openvino-division.sh`),
        and a sum that should end exactly between two bytes would be rounded to the other one.
        """
        plain = self("Div", a, b)
        near = self("Mul", self("Round", self("Mul", plain, 1024.0)), 1 / 1024)
        return self("Where", self("Equal", self("Mul", near, b), a), near, plain)

    def between(self, low: _Tensor, value: _Tensor, high: _Tensor) -> str:
        return self("Max", low, self("Min", value, high))


@dataclass(frozen=True)
class _Axis:
    """A side of a picture and the side of the square that it becomes."""

    length: str
    """Pixels of the picture, int64."""
    size: int
    """Pixels of the square."""
    inner: _Tensor
    """Pixels of the square that the picture takes."""
    start: _Tensor
    """The first of them."""

    @property
    def fills(self) -> bool:
        return isinstance(self.inner, int)

    @property
    def blocks(self) -> list[tuple[int, int]]:
        ends = [self.size * number // _BLOCKS for number in range(_BLOCKS + 1)]
        return list(itertools.pairwise(ends))


def add_preprocess(nodes: Nodes, pictures: str, preprocess: Preprocess) -> str:
    """Add what turns pictures uint8 RGB `[B, H, W, 3]` into pixels uint8 `[B, size, size, 3]`; returns their name."""
    size = preprocess.size
    shape = nodes("Shape", pictures)
    height, width = (nodes("Gather", shape, axis) for axis in (1, 2))
    if preprocess.resize == "crop":
        sides = np.array([0, *(max(1, round(side * preprocess.crop_fraction)) for side in range(1, LONGEST + 1))])
        side = nodes("Gather", sides, nodes("Min", height, width))
        for axis, length in ((1, height), (2, width)):
            start = nodes("Div", nodes("Sub", length, side), 2)
            pictures = _slice(nodes, pictures, start, nodes("Add", start, side), axis)
        height = width = side
    if preprocess.resize == "letterbox":
        longer = nodes("Cast", nodes("Max", height, width), to=11)
        scale = nodes("Div", np.array(float(size)), longer)  # in float64, as Preprocess has it
        axes = [_letterboxed(nodes, length, size, scale) for length in (height, width)]
    else:
        axes = [_Axis(length, size, size, 0) for length in (height, width)]
    scaled = {"area-cubic": _area_cubic, "bilinear": _bilinear}.get(preprocess.interpolation)
    if scaled is None:
        planes = _filtered(nodes, pictures, axes, cubic=preprocess.interpolation == "bicubic-aa")
    else:
        planes = scaled(nodes, pictures, axes)
    return nodes("Transpose", nodes("Cast", planes, to=2), perm=[0, 2, 3, 1])


def _letterboxed(nodes: Nodes, length: str, size: int, scale: str) -> _Axis:
    scaled = nodes("Round", nodes("Mul", nodes("Cast", length, to=11), scale))
    inner = nodes("Max", 1, nodes("Cast", scaled, to=7))
    return _Axis(length, size, inner, nodes("Div", nodes("Sub", size, inner), 2))


def _slice(nodes: Nodes, tensor: str, start: str, end: str, axis: int) -> str:
    bounds = [nodes("Reshape", one, np.array([1])) for one in (start, end)]
    return nodes("Slice", tensor, *bounds, np.array([axis]))


def _places(nodes: Nodes, axis: _Axis, first: int, last: int) -> _Tensor:
    """The places of a block in what the picture becomes, int64 `[1, last - first]`; in a margin they are outside."""
    places = np.arange(first, last)[None]
    return places if axis.fills else nodes("Sub", places, axis.start)


def _inside(nodes: Nodes, axis: _Axis, weights: str, places: _Tensor) -> str:
    """The weights, and 0 in the margins."""
    if axis.fills:
        return weights
    within = nodes("Equal", places, nodes.between(0, places, nodes("Sub", axis.inner, 1)))
    return nodes("Mul", weights, nodes.floats(within))


def _beneath(nodes: Nodes, axis: _Axis, first: int, last: int, inner: _Tensor, support: int) -> tuple[str, str]:
    """The pixels of the picture that make a block's: the first, and the one after the last.

    Args:
        inner: pixels that the picture becomes.
        support: where the filter ends, in pixels of the result where a picture shrinks, else of the picture.
    """
    start: _Tensor = axis.start if inner is axis.inner else 0
    wide = nodes("Div", nodes("Max", axis.length, inner), inner)
    reach = nodes("Add", nodes("Mul", nodes("Add", wide, 1), support), 1)
    ends = []
    for place in (first, last):
        within = nodes.between(0, nodes("Sub", place, start), inner)
        ends.append(nodes("Div", nodes("Mul", within, axis.length), inner))
    low = nodes.between(0, nodes("Sub", ends[0], reach), nodes("Sub", axis.length, 1))
    high = nodes("Min", nodes("Max", nodes("Add", ends[1], reach), nodes("Add", low, 1)), axis.length)
    return low, high


def _pixels(nodes: Nodes, low: _Tensor, high: _Tensor) -> str:
    """int64 `[high - low, 1]`"""
    return nodes("Reshape", nodes("Range", low, high, 1), np.array([-1, 1]))


# bilinear-aa and bicubic-aa


def _filtered(nodes: Nodes, pictures: str, axes: list[_Axis], *, cubic: bool) -> str:
    """Pillow's filters: along the rows, rounded to bytes, and then along the columns; float32 `[B, 3, size, size]`."""
    down, right = axes
    blocks = []
    for first, last in right.blocks:
        low, high = _beneath(nodes, right, first, last, right.inner, 2 if cubic else 1)
        part = nodes("Transpose", nodes.floats(_slice(nodes, pictures, low, high, 2)), perm=[0, 3, 1, 2])
        halves = nodes("MatMul", part, _filter(nodes, right, first, last, _pixels(nodes, low, high), cubic=cubic))
        blocks.append(_byte(nodes, *nodes.several(2, "Split", halves, np.array([last - first] * 2), axis=3)))
    rows = nodes("Concat", *blocks, axis=3)
    blocks = []
    for first, last in down.blocks:
        low, high = _beneath(nodes, down, first, last, down.inner, 2 if cubic else 1)
        weights = _filter(nodes, down, first, last, _pixels(nodes, low, high), cubic=cubic)
        halves = nodes("MatMul", nodes("Transpose", weights, perm=[1, 0]), _slice(nodes, rows, low, high, 2))
        blocks.append(_byte(nodes, *nodes.several(2, "Split", halves, np.array([last - first] * 2), axis=2)))
    return nodes("Concat", *blocks, axis=2)


def _filter(nodes: Nodes, axis: _Axis, first: int, last: int, pixels: str, *, cubic: bool) -> str:
    """Both halves of the weights, float32 `[pixels, 2 * (last - first)]`."""
    places = _places(nodes, axis, first, last)
    middles = nodes("Mul", nodes("Add", nodes("Mul", places, 2), 1), axis.length)
    # In whole numbers, of which one is 1 / (2 * inner) of the picture's pixels.
    apart = nodes("Abs", nodes("Sub", nodes("Mul", nodes("Add", nodes("Mul", pixels, 2), 1), axis.inner), middles))
    wide = nodes("Mul", nodes("Max", axis.length, axis.inner), 2)
    if cubic:
        weights = _keys(nodes, nodes.quotient(nodes.floats(apart), nodes.floats(wide)))
    else:
        weights = nodes.floats(nodes("Max", 0, nodes("Sub", wide, apart)))
    weights = _inside(nodes, axis, weights, places)
    total = nodes("ReduceSum", weights, np.array([0]), keepdims=1)
    if not axis.fills:
        total = nodes("Add", total, nodes.floats(nodes("Equal", total, 0.0)))
    # A long division in two steps: of a triangle, whose weights are whole numbers, it loses no bit.
    weights = nodes("Mul", weights, _HALF)
    upper = nodes("Floor", nodes("Div", weights, total))
    rest = nodes("Mul", nodes("Sub", weights, nodes("Mul", upper, total)), _HALF)
    lower = nodes("Floor", nodes("Add", nodes("Div", rest, total), 0.5))
    return nodes("Concat", upper, lower, axis=1)


def _keys(nodes: Nodes, x: str) -> str:
    """Keys's cubic convolution with a = -0.5; see `multilabel.resampling`."""
    square = nodes("Mul", x, x)
    inner = nodes("Add", nodes("Mul", nodes("Sub", nodes("Mul", x, 1.5), 2.5), square), 1.0)
    outer = nodes("Mul", nodes("Sub", nodes("Mul", nodes("Add", nodes("Mul", x, -0.5), 2.5), x), 4.0), x)
    outer = nodes("Add", outer, 2.0)
    return nodes("Where", nodes("Less", x, 1.0), inner, nodes("Where", nodes("Less", x, 2.0), outer, 0.0))


def _byte(nodes: Nodes, upper: str, lower: str) -> str:
    """upper / 2^11 + lower / 2^22, rounded with halves up and cut to 0..255."""
    raised = nodes("Add", upper, _HALF / 2)
    whole = nodes("Floor", nodes("Div", raised, _HALF))
    rest = nodes("Mul", nodes("Sub", raised, nodes("Mul", whole, _HALF)), _HALF)
    carried = nodes("Floor", nodes("Div", nodes("Add", rest, lower), _HALF * _HALF))
    return nodes("Clip", nodes("Add", whole, carried), 0.0, 255.0)


# bilinear


def _bilinear(nodes: Nodes, pictures: str, axes: list[_Axis]) -> str:
    """OpenCV's INTER_LINEAR_EXACT: the four nearest pixels in 1/256; float32 `[B, 3, size, size]`."""
    near, weights = [pictures], []
    for number, axis in enumerate(axes):
        places = _places(nodes, axis, 0, axis.size)
        twice, last = nodes("Mul", axis.inner, 2), nodes("Sub", axis.length, 1)
        middles = nodes("Mul", nodes("Add", nodes("Mul", places, 2), 1), axis.length)
        at = nodes.between(0, nodes("Sub", middles, axis.inner), nodes("Mul", last, twice))
        left = nodes("Div", at, twice)
        rest = nodes.floats(nodes("Sub", at, nodes("Mul", left, twice)))
        more = nodes("Round", nodes.quotient(nodes("Mul", rest, 256.0), nodes.floats(twice)))
        shape = np.array([1, 1, -1, 1] if number == 0 else [1, 1, 1, -1])
        pair = [_inside(nodes, axis, one, places) for one in (nodes("Sub", 256.0, more), more)]
        weights.append([nodes("Reshape", one, shape) for one in pair])
        right = nodes("Min", nodes("Add", left, 1), last)
        indices = [nodes("Reshape", one, np.array([-1])) for one in (left, right)]
        near = [nodes("Gather", one, index, axis=number + 1) for one in near for index in indices]
    total: _Tensor = 2.0**15
    for number, one in enumerate(near):
        planes = nodes("Transpose", nodes.floats(one), perm=[0, 3, 1, 2])
        part = nodes("Mul", nodes("Mul", planes, weights[0][number // 2]), weights[1][number % 2])
        total = nodes("Add", total, part)
    return nodes("Floor", nodes("Div", total, 2.0**16))


# area-cubic


def _area_cubic(nodes: Nodes, pictures: str, axes: list[_Axis]) -> str:
    """OpenCV's INTER_AREA along a side that shrinks and then INTER_CUBIC along one that grows.

    A side that grows is first copied and followed by zeros, and one that shrinks is last copied, so that every picture
    takes the same nodes.
    """
    shrunk = [nodes("Min", axis.length, axis.inner) for axis in axes]
    planes = _area(nodes, pictures, axes, shrunk)
    down, right = (_cubic(nodes, axis, inner) for axis, inner in zip(axes, shrunk, strict=True))
    rows = nodes("MatMul", planes, right)  # whole numbers of 2^-11, below 2^20
    upper = nodes("Floor", nodes("Div", rows, _HALF))
    lower = nodes("Sub", rows, nodes("Mul", upper, _HALF))
    down = nodes("Transpose", down, perm=[1, 0])
    upper, lower = nodes("MatMul", down, upper), nodes("MatMul", down, lower)
    return _byte(nodes, upper, lower)


def _area(nodes: Nodes, pictures: str, axes: list[_Axis], shrunk: list[str]) -> str:
    """The mean of the pixels that become one; float32 `[B, 3, size, size]`, whole numbers."""
    down, right = axes
    shape = nodes("Shape", pictures)
    batch, width = (nodes("Reshape", nodes("Gather", shape, axis), np.array([1])) for axis in (0, 2))
    flat = nodes("Concat", batch, np.array([-1]), nodes("Mul", width, 3), axis=0)
    blocks = []
    for first, last in down.blocks:
        low, high = _beneath(nodes, down, first, last, shrunk[0], 0)
        part = nodes("Reshape", nodes.floats(_slice(nodes, pictures, low, high, 1)), flat)
        shares = _shares(nodes, down, first, last, low, high, shrunk[0])
        blocks.append(nodes("MatMul", nodes("Transpose", shares, perm=[1, 0]), part))
    rows = nodes("Reshape", nodes("Concat", *blocks, axis=1), np.array([0, down.size, -1, 3]))
    rows = nodes("Transpose", rows, perm=[0, 3, 1, 2])
    blocks = []
    for first, last in right.blocks:
        low, high = _beneath(nodes, right, first, last, shrunk[1], 0)
        shares = _shares(nodes, right, first, last, low, high, shrunk[1])
        blocks.append(nodes("MatMul", _slice(nodes, rows, low, high, 3), shares))
    scales = [
        nodes.quotient(nodes.floats(axis.length), nodes.floats(one)) for axis, one in zip(axes, shrunk, strict=True)
    ]
    mean = nodes.quotient(nodes("Concat", *blocks, axis=3), nodes("Mul", *scales))
    # Halves are rounded to even, but up where both sides are halved.
    halved = nodes("And", *(nodes("Equal", one, 2.0) for one in scales))
    return nodes("Round", nodes("Add", mean, nodes("Mul", nodes.floats(halved), 0.125)))


def _shares(nodes: Nodes, axis: _Axis, first: int, last: int, low: str, high: str, inner: str) -> str:
    """How much of each pixel each place covers, float32 `[high - low, last - first]`."""
    pixels, places = _pixels(nodes, low, high), np.arange(first, last)[None]
    after = nodes("Min", nodes("Mul", nodes("Add", pixels, 1), inner), nodes("Mul", places + 1, axis.length))
    before = nodes("Max", nodes("Mul", pixels, inner), nodes("Mul", places, axis.length))
    return nodes.quotient(nodes.floats(nodes("Max", 0, nodes("Sub", after, before))), nodes.floats(inner))


def _cubic(nodes: Nodes, axis: _Axis, length: str) -> str:
    """The weights of INTER_CUBIC in whole numbers of 2^-11, float32 `[size, size]`, of which `length` rows count."""
    places = _places(nodes, axis, 0, axis.size)
    middles = nodes("Sub", nodes("Mul", nodes("Add", nodes("Mul", places, 2), 1), length), axis.inner)
    at = nodes.quotient(nodes.floats(middles), nodes.floats(nodes("Mul", axis.inner, 2)))
    left = nodes("Floor", at)
    f = nodes("Sub", at, left)
    a = -0.75
    more = nodes("Add", f, 1.0)
    w0 = nodes("Mul", nodes("Add", nodes("Mul", nodes("Sub", nodes("Mul", more, a), 5 * a), more), 8 * a), more)
    taps = [nodes("Sub", w0, 4 * a)]
    for x in (f, nodes("Sub", 1.0, f)):
        square = nodes("Mul", x, x)
        taps.append(nodes("Add", nodes("Mul", nodes("Sub", nodes("Mul", x, a + 2), a + 3), square), 1.0))
    taps.append(nodes("Sub", nodes("Sub", nodes("Sub", 1.0, taps[0]), taps[1]), taps[2]))
    last = nodes.floats(nodes("Sub", length, 1))
    pixels = np.arange(axis.size, dtype=np.float32)[:, None]
    total: _Tensor = 0.0
    for number, tap in enumerate(taps):
        pixel = nodes.between(0.0, nodes("Add", left, number - 1.0), last)
        whole = nodes("Round", nodes("Mul", tap, _HALF))
        total = nodes("Add", total, nodes("Mul", nodes.floats(nodes("Equal", pixels, pixel)), whole))
    return _inside(nodes, axis, str(total), places)
