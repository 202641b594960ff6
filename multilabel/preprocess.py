"""Preprocess: from a picture to the pixels a model takes, the same everywhere.

Training's evaluation, calibration, verification and prediction all call this one implementation. Normalisation
(mean, std) is recorded here and carried out inside the model's graph, so that a device feeds raw pixels.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any, Literal

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from edgepress.multilabel.errors import InputError
from edgepress.multilabel.pictures import Picture, read_picture

_Triple = tuple[float, float, float]
SMALLEST, LARGEST = 8, 4096
"""Sides of a model's input in pixels."""


class Preprocess(BaseModel):
    """How a picture becomes a model's input; frozen, and saved with every artifact."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(ge=SMALLEST, le=LARGEST)
    """Side of the square input, in pixels."""
    resize: Literal["squash", "crop"] = "squash"
    """`squash` stretches the whole picture to the square; `crop` takes the square in its middle, `crop_fraction` of the
    shorter side."""
    crop_fraction: float = Field(default=0.875, gt=0, le=1)
    mean: _Triple = (0.5, 0.5, 0.5)
    """Per channel, of pixel values scaled to [0, 1]; subtracted inside the graph."""
    std: _Triple = (0.5, 0.5, 0.5)
    color_order: Literal["RGB"] = "RGB"

    @field_validator("mean", "std")
    @classmethod
    def _normalises(cls, values: _Triple, info: ValidationInfo) -> _Triple:
        if not all(math.isfinite(value) and (info.field_name == "mean" or value > 0) for value in values):
            raise ValueError("expected three finite numbers, those of std above 0")
        return values

    @classmethod
    def stated(cls, source: object, **fields: Any) -> Preprocess:
        """The preprocessing that somebody states for a model.

        Args:
            source: what messages call the model.

        Raises:
            InputError: a value is out of its range.
        """
        try:
            return cls(**fields)
        except ValidationError as error:
            first = error.errors()[0]
            name, said = first["loc"][0], first["msg"].removeprefix("Value error, ")
            raise InputError(f"{source}: {name} is {first['input']!r}: {said[:1].lower()}{said[1:]}") from None

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Turn uint8 RGB `[H, W, 3]` of any size into uint8 RGB `[size, size, 3]`."""
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ValueError(f"received {image.dtype} {list(image.shape)}; expected a uint8 RGB picture [H, W, 3]")
        if self.resize == "squash":
            return resize(image, self.size, self.size)
        height, width = image.shape[:2]
        # Cropping before scaling gives the same picture, and a strip of 1x20000 pixels takes no extra memory.
        side = max(1, round(min(height, width) * self.crop_fraction))
        top, left = (height - side) // 2, (width - side) // 2
        return resize(np.ascontiguousarray(image[top : top + side, left : left + side]), self.size, self.size)

    def load(self, path: Picture) -> np.ndarray:
        """Read, decode and prepare one picture file: uint8 RGB `[size, size, 3]`."""
        return self(read_picture(path))

    @property
    def seen(self) -> str:
        """Which part of a picture a model sees, as options: models that are compared must see the same."""
        return self.resize if self.resize == "squash" else f"{self.resize} of {self.crop_fraction:.4g}"

    def with_size(self, size: int) -> Preprocess:
        """Return the same preprocessing for another input size."""
        return Preprocess(**{**self.model_dump(), "size": size})


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scale by area interpolation along a side that shrinks (without aliasing), and by cubic along a side that grows.

    The result is the same, byte for byte, on every processor and in OpenCV 4.8 to 5.0.
    """
    shrunk = (min(image.shape[0], height), min(image.shape[1], width))
    with without_ipp():
        if shrunk != image.shape[:2]:
            image = cv2.resize(image, (shrunk[1], shrunk[0]), interpolation=cv2.INTER_AREA)
        if shrunk != (height, width):
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
    return image


@contextlib.contextmanager
def without_ipp() -> Iterator[None]:
    """Stop OpenCV from using Intel IPP in this thread until the block ends.

    OpenCV's wheels for x86 resize with IPP, whose pixels differ between processors, and those for ARM do not have it.
    The setting belongs to the thread that changes it, so it is changed around each call. The environment variable
    OPENCV_IPP=disabled would do the same for the whole process, with a warning on stderr.
    """
    used = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(False)
    try:
        yield
    finally:
        cv2.ipp.setUseIPP(used)
