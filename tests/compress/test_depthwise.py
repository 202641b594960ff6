"""Depthwise convolutions on small maps have the right gradient, by our own sums."""

from __future__ import annotations

import contextlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from edgepress.compress import depthwise, learning
from edgepress.compress.depthwise import small_depthwise
from tests.compress.lessons import run_fit

CPU = torch.device("cpu")


def _called(convolution: nn.Conv2d, pictures: Tensor, device: torch.device = CPU, *, compiled: bool = False) -> Tensor:
    with small_depthwise(device, compiled=compiled):
        return convolution(pictures)


def _is_ours(output: Tensor) -> bool:
    return output.grad_fn is not None and output.grad_fn.name() == "_ConvolutionBackward"


@given(
    kernel=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    pictures=st.integers(1, 3),
    bias=st.booleans(),
    last=st.booleans(),
)
def test_output_and_gradients_are_those_of_float64(kernel, stride, padding, size, pictures, bias, last):
    if any(side + 2 * pad < one for side, pad, one in zip(size, padding, kernel, strict=True)):
        return
    torch.manual_seed(0)
    layout = torch.channels_last if last else torch.contiguous_format
    convolution = nn.Conv2d(5, 5, kernel, stride, padding, groups=5, bias=bias).to(memory_format=layout)
    given = torch.randn(pictures, 5, *size).to(memory_format=layout).requires_grad_()
    output = _called(convolution, given)
    assert torch.equal(output, convolution(given))
    upstream = torch.randn_like(output)
    exact = nn.Conv2d(5, 5, kernel, stride, padding, groups=5, bias=bias).double()
    exact.load_state_dict(convolution.state_dict())
    precise = given.detach().double().requires_grad_()
    expected = torch.autograd.grad(exact(precise), [precise, *exact.parameters()], upstream.double())
    for found, right in zip(
        torch.autograd.grad(output, [given, *convolution.parameters()], upstream), expected, strict=True
    ):
        torch.testing.assert_close(found.double(), right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kernel", "side", "more", "ours"),
    [
        (5, 4, {"padding": 2}, True),
        (5, 5, {"padding": 2}, False),
        (3, 2, {"padding": 1}, True),
        (3, 3, {"padding": 1}, False),
        (7, 12, {"padding": 3, "stride": 2}, True),
        (1, 1, {}, False),
        (5, 4, {"padding": "same"}, False),
        (3, 2, {"padding": 2, "dilation": 2}, False),
        (5, 4, {"padding": [2], "stride": [1]}, True),
    ],
)
def test_only_maps_smaller_than_the_kernel_are_ours(kernel, side, more, ours):
    convolution = nn.Conv2d(8, 8, kernel, groups=8, **more)
    assert _is_ours(_called(convolution, torch.randn(2, 8, side, side))) == ours


def test_other_convolutions_are_left_to_torch():
    pictures = torch.randn(2, 8, 2, 2)
    for other in (nn.Conv2d(8, 8, 5, padding=2), nn.Conv2d(8, 8, 5, padding=2, groups=4)):
        assert not _is_ours(_called(other, pictures))
    twice = nn.Conv2d(8, 16, 5, padding=2, groups=8)
    assert not _is_ours(_called(twice, pictures))
    own = nn.Conv2d(8, 8, 5, padding=2, groups=8)
    assert not _is_ours(_called(own, pictures[0]))
    assert not _is_ours(own(pictures))
    assert not _is_ours(_called(own, pictures, compiled=True))
    assert not _is_ours(_called(own, pictures, torch.device("cuda")))
    assert not _is_ours(_called(own.double(), pictures.double()))
    own.float().weight.requires_grad_(requires_grad=False)
    assert not _is_ours(_called(own, pictures.requires_grad_()))


def test_autocast_and_passes_without_gradient_are_left_to_torch():
    own, pictures = nn.Conv2d(8, 8, 5, padding=2, groups=8), torch.randn(2, 8, 2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert _called(own, pictures).dtype == torch.bfloat16
    with torch.no_grad():
        assert _called(own, pictures).grad_fn is None
    assert _is_ours(_called(own, pictures))


def test_weights_alone_and_pictures_alone_get_their_gradients():
    own, pictures = nn.Conv2d(8, 8, 5, padding=2, groups=8), torch.randn(2, 8, 2, 2)
    _called(own, pictures).sum().backward()
    expected = torch.zeros(5, 5, 8)
    for row, column in ((row, column) for row in range(2) for column in range(2)):
        for below, right in ((below, right) for below in range(2) for right in range(2)):
            expected[below - row + 2, right - column + 2] += pictures[:, :, below, right].sum(0)
    torch.testing.assert_close(own.weight.grad, expected.permute(2, 0, 1).unsqueeze(1))


@pytest.mark.usefixtures("one_thread")
def test_training_learns_by_these_sums(monkeypatch, splits, tmp_path):
    called, sums = [], depthwise._of_weight
    monkeypatch.setattr(depthwise, "_of_weight", lambda *given: called.append(1) or sums(*given))
    same = {"backbone": "mobilenetv4_conv_small_050", "weights": "none", "epochs": 1}
    _, ours, _ = run_fit(splits, tmp_path / "ours", **same)
    assert called
    monkeypatch.setattr(learning, "small_depthwise", lambda *_, **__: contextlib.nullcontext())
    called.clear()
    _, theirs, _ = run_fit(splits, tmp_path / "theirs", **same)
    assert not called
    assert ours.history[0].loss == pytest.approx(theirs.history[0].loss, rel=1e-3)
