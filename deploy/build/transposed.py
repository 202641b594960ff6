"""The padding of an adopted graph's transposed convolutions, written out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepress.deploy.build.own_file import inner_graphs

if TYPE_CHECKING:
    import onnx

_SAME = (b"SAME_UPPER", b"SAME_LOWER")


def with_written_pads(graph: onnx.GraphProto) -> int:
    """Write the pads of every ConvTranspose that has auto_pad; returns how many there were.

    OpenVINO forgets auto_pad where the batch is free (openvino 2026.4.1: findings/openvino-transposed-auto-pad.sh). The
    output is to be the input times the stride, so (kernel - 1) * dilation + 1 - stride rows are cut off, the odd one at
    the end for SAME_UPPER (ONNX Operators.md, ConvTranspose), whatever the input's size is. One that says its output's
    size, or whose kernel is smaller than its stride, stays as it is.
    """
    from onnx import helper

    written = 0
    kernels = {tensor.name: list(tensor.dims)[2:] for tensor in graph.initializer}
    for node in graph.node:
        written += sum(with_written_pads(inner) for inner in inner_graphs(node))
        about = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        if node.op_type != "ConvTranspose" or about.get("auto_pad") not in _SAME:
            continue
        kernel: list[int] = about.get("kernel_shape") or kernels.get(node.input[1], [])
        if not kernel or about.get("output_shape") or any(about.get("output_padding", ())):
            continue
        ones = [1] * len(kernel)
        axes = zip(kernel, about.get("dilations", ones), about.get("strides", ones), strict=True)
        cut = [(size - 1) * dilation + 1 - stride for size, dilation, stride in axes]
        if min(cut) < 0:
            continue
        less, more = [one // 2 for one in cut], [one - one // 2 for one in cut]
        pads = [*less, *more] if about["auto_pad"] == _SAME[0] else [*more, *less]
        kept = [one for one in node.attribute if one.name not in ("auto_pad", "pads")]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute("pads", pads)])
        written += 1
    return written
