"""Using OpenVINO without what it changes in the process around it: the root logger, and where signals are handled."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgepress.multilabel.errors import InputError
from edgepress.multilabel.root_logger import own_root_logger

log = logging.getLogger("edgepress")

IGNORED: dict[tuple[str, str], Any] = {
    ("Resize", "antialias"): 0,
    ("Resize", "exclude_outside"): 0,
    ("Resize", "keep_aspect_ratio_policy"): b"stretch",
    ("Attention", "left_window_size"): -1,
    ("Attention", "right_window_size"): -1,
    ("SpaceToDepth", "mode"): b"DCR",
}
"""Operators and attributes that OpenVINO reads and does not heed, with the values at which that changes nothing.

openvino 2026.4.1: findings/openvino-resize-attributes.sh, findings/openvino-attributes-of-new-opsets.sh.
"""


def openvino_model(path: Path) -> Any:
    """Convert an ONNX file to an `openvino.Model`.

    `openvino.convert_model` sets the root logger to ERROR and adds a filter to it, and takes both back only if it
    succeeds (openvino 2026.4.1, openvino/tools/ovc/convert.py): after a model that it cannot read, no warning of the
    program would be seen any more.

    Raises:
        InputError: OpenVINO cannot read it.
    """
    import openvino as ov

    try:
        with own_root_logger():
            model = ov.convert_model(str(path))
    except Exception as error:  # OpenVINO's frontends raise types of their own
        raise InputError(f"{path}: OpenVINO cannot read it: {' '.join(str(error).split())[:300]}") from error
    _tell_ignored(path)
    _keep_padding(model)
    _keep_last_windows(model)
    return model


def _tell_ignored(path: Path) -> None:
    """Warn of attributes that OpenVINO reads and ignores, each named with its node.

    Not every one changes an answer (antialias does nothing where a picture grows), so the graph is not refused: verify
    tells what it costs. A device without onnx builds an engine anew of a graph that was compiled on a desk before.
    """
    if importlib.util.find_spec("onnx") is None:
        return
    import onnx

    for node in onnx.load(str(path), load_external_data=False).graph.node:
        for one in node.attribute:
            usual = IGNORED.get((node.op_type, one.name))
            value = onnx.helper.get_attribute_value(one)
            if usual is not None and value != usual:
                told = value.decode(errors="replace") if isinstance(value, bytes) else value
                log.warning(
                    "%s: OpenVINO ignores %s=%s of the %s %r, so its answers may differ: edgepress verify tells how "
                    "much; an export without it avoids that",
                    path, one.name, told, node.op_type, node.name,
                )  # fmt: skip


def _keep_padding(model: Any) -> None:
    """Give every padded 1x1 convolution with a stride a 2x2 kernel, whose other weights are 0.

    OpenVINO's CPU plugin moves such a stride to the layer before and leaves the padding where it was, so that other
    pixels are taken and even the shape may differ (openvino 2026.4.1, findings/openvino-padded-stride.sh). With the
    larger kernel it computes the same numbers and leaves the stride alone.
    """
    import openvino as ov
    from openvino import opset13 as ops

    makers = {"Convolution": ops.convolution, "GroupConvolution": ops.group_convolution}
    for op in model.get_ordered_ops():
        if op.get_type_name() not in makers or op.input_value(1).get_node().get_type_name() != "Constant":
            continue
        about, weights = op.get_attributes(), op.input_value(1).get_node().data
        padded = any(about["pads_begin"]) or op.input_value(0).get_node().get_type_name() == "Pad"
        if weights.shape[-2:] != (1, 1) or max(about["strides"]) == 1 or not padded:
            continue
        wider = np.zeros((*weights.shape[:-2], 2, 2), weights.dtype)
        wider[..., :1, :1] = weights
        ends = [one + 1 for one in about["pads_end"]]
        made = makers[op.get_type_name()](
            op.input_value(0), ops.constant(wider), about["strides"], about["pads_begin"], ends, about["dilations"]
        )
        made.set_friendly_name(op.get_friendly_name())
        ov.utils.replace_node(op, made)


def _keep_last_windows(model: Any) -> None:
    """Let pooling with ceil_mode take the windows of the ONNX operators, and divide by what they hold.

    For a MaxPool the frontend keeps a last window that starts in the padding, which ONNX drops: the output has a row
    too many. For an AveragePool that counts its padding the CPU plugin also counts what a last window has beyond the
    padding (openvino 2026.4.1, findings/openvino-ceil-pooling.sh). The first gets the rounding that drops the window,
    the second an explicit Pad of the zeros to count.
    """
    import openvino as ov
    from openvino import opset14 as ops

    for op in model.get_ordered_ops():
        about = op.get_attributes()
        if not str(about.get("rounding_type", "")).startswith("ceil") or about["auto_pad"] != "explicit":
            continue
        source, strides, kernel = op.input_value(0), about["strides"], about["kernel"]
        begins, ends = about["pads_begin"], about["pads_end"]
        if op.get_type_name() == "MaxPool":
            indices = about["index_element_type"], about["axis"]
            made = ops.max_pool(
                source, strides, about["dilations"], begins, ends, kernel, "ceil_torch", "explicit", *indices
            )
        elif (counted := _counted_ends(op)) is not None:
            padded = ops.pad(source, [0, 0, *begins], [0, 0, *counted], "constant", np.float32(0))
            nothing = [0] * len(kernel)
            made = ops.avg_pool(padded, strides, nothing, nothing, kernel, True, "ceil_torch", "explicit")
        else:
            continue
        made.set_friendly_name(op.get_friendly_name())
        ov.utils.replace_node(op, made)


def _counted_ends(op: Any) -> list[int] | None:
    """How much of the padding at the end of each axis an AvgPool's windows hold; None where none reaches beyond it."""
    about = op.get_attributes()
    if op.get_type_name() != "AvgPool" or about["exclude-pad"] or max(about.get("dilations", [1])) > 1:
        return None
    axes = zip(
        op.input_value(0).get_partial_shape()[2:], op.get_output_partial_shape(0)[2:],
        about["strides"], about["kernel"], about["pads_begin"], about["pads_end"], strict=True,
    )  # fmt: skip
    ends, beyond = [], False
    for size, windows, stride, kernel, begin, end in axes:
        reach = (windows.get_length() - 1) * stride + kernel - size.get_length() - begin
        ends.append(max(0, min(reach, end)))
        beyond = beyond or reach > end
    return ends if beyond else None


class SignalStack(ctypes.Structure):
    """The alternate signal stack of a thread on Linux, `stack_t` of sigaltstack(2)."""

    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))

    @classmethod
    def of_this_thread(cls) -> SignalStack:
        found = cls()
        ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found))
        return found


@contextlib.contextmanager
def own_signal_stack() -> Iterator[None]:
    """Give this thread its alternate signal stack back after a block in which OpenVINO may load its CPU plugin.

    The plugin replaces the stack of the thread that loads it, and frees the new one with the last `Core` of the
    process (openvino 2026.4.1). If another thread drops that `Core`, the first keeps a stack that is no longer mapped,
    and ends with a segmentation fault at its next signal that has a Python handler: a service that closes its engine
    in a thread would not survive SIGTERM.
    """
    if sys.platform != "linux":
        yield
        return
    before = SignalStack.of_this_thread()
    try:
        yield
    finally:
        ctypes.CDLL(None).sigaltstack(ctypes.byref(before), None)
