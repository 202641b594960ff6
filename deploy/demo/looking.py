"""Looking: draw a label's attention over the picture, and describe it in words for those who cannot see it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from edgepress.deploy.demo.answers import preview_of
from edgepress.deploy.engines.attention import attention_of
from edgepress.deploy.tag.tagger import Tagger
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.pictures import decode_picture

_SIDE = 480
"""Length of the drawn picture's longer side, in pixels."""


@dataclass(frozen=True)
class Look:
    """Where a label's answer comes from."""

    image: np.ndarray
    """uint8 RGB: the picture, dark where the attention is low, with a ring around its maximum."""
    across: float
    """Position of the maximum as a share of the width, from the left."""
    down: float
    """Position of the maximum as a share of the height, from the top."""


def look(tagger: Tagger, label: str, data: bytes, name: str) -> Look:
    """Draw what a model looks at for a label.

    Args:
        data: the picture file's bytes.
        name: what an error calls it.

    Raises:
        InputError: there is no such label, the bundle has no attention, or the picture cannot be read.
    """
    labels = tagger.engine.labels.names
    if label not in labels:
        raise InputError(f"no label {label!r}; expected one of this model's {len(labels)}")
    image = decode_picture(data, name)
    preprocess = tagger.engine.preprocess
    pixels = preprocess(image)
    shown = preview_of(image) if preprocess.resize == "squash" else pixels
    return draw(shown, attention_of(tagger.engine, pixels[None])[0, labels.index(label)])


def draw(picture: np.ndarray, attention: np.ndarray) -> Look:
    """
    Args:
        picture: uint8 RGB `[H, W, 3]`, the area that the attention covers.
        attention: float32 `[h, w]`, at least 0.
    """
    row, column = np.unravel_index(int(attention.argmax()), attention.shape)
    across, down = (float(column) + 0.5) / attention.shape[1], (float(row) + 0.5) / attention.shape[0]
    scale = _SIDE / max(picture.shape[:2])
    height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
    picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC)
    light = cv2.resize(attention / max(float(attention.max()), 1e-12), (width, height), interpolation=cv2.INTER_LINEAR)
    # Brightness shows the attention, not a colour scale: everyone sees it alike, and the picture keeps its colours.
    image = (picture * (0.2 + 0.8 * np.clip(light, 0, 1))[..., None]).round().astype(np.uint8)
    centre = (round(across * width), round(down * height))
    for thickness, grey in ((6, 0), (2, 255)):
        cv2.circle(image, centre, max(8, _SIDE // 24), (grey,) * 3, thickness, cv2.LINE_AA)
    return Look(image, across, down)
