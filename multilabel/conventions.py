"""What models from elsewhere differ in: how they take pictures, and what their scores have been through."""

from __future__ import annotations

from typing import Literal

Layout = Literal["nchw", "nhwc"]
"""Where the channels are."""
Colors = Literal["rgb", "bgr"]
"""The order of the channels."""
Activation = Literal["none", "sigmoid", "softmax"]
"""What a model's scores have been through; `none` are logits."""
