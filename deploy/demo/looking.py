"""Looking: a label's attention drawn over the picture, with the words for those who cannot see it."""

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
"""Pixels of the longer side of what is drawn."""


@dataclass(frozen=True)
class Look:
    """Where a label's answer comes from."""

    image: np.ndarray
    """uint8 RGB: the picture, dark where it is not looked at, with a ring around the maximum."""
    across: float
    """Where the maximum is, as a share of the width from the left."""
    down: float
    """As a share of the height from the top."""


def look(tagger: Tagger, label: str, data: bytes, name: str) -> Look:
    """Draw what a model looks at for a label.

    Args:
        data: the picture file's bytes.
        name: what an error calls it.

    Raises:
        InputError: no such label, a bundle without attention, or no picture that is read.
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
        picture: uint8 RGB `[H, W, 3]`, what the attention covers.
        attention: float32 `[h, w]`, at least 0.
    """
    row, column = np.unravel_index(int(attention.argmax()), attention.shape)
    across, down = (float(column) + 0.5) / attention.shape[1], (float(row) + 0.5) / attention.shape[0]
    scale = _SIDE / max(picture.shape[:2])
    height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
    picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC)
    light = cv2.resize(attention / max(float(attention.max()), 1e-12), (width, height), interpolation=cv2.INTER_LINEAR)
    # Brightness tells it, not a colour scale: it reads the same for everyone, and the picture keeps its colours.
    image = (picture * (0.2 + 0.8 * np.clip(light, 0, 1))[..., None]).round().astype(np.uint8)
    centre = (round(across * width), round(down * height))
    for thickness, grey in ((6, 0), (2, 255)):
        cv2.circle(image, centre, max(8, _SIDE // 24), (grey,) * 3, thickness, cv2.LINE_AA)
    return Look(image, across, down)
