"""Preprocess: from a picture to the pixels a model takes, the same everywhere.

Training's evaluation, calibration, verification and prediction all call this one implementation. Normalisation
(mean, std) is recorded here and carried out inside the model's graph, so that a device feeds raw pixels.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from edgepress.multilabel.errors import InputError
from edgepress.multilabel.pictures import Picture, read_picture
from edgepress.multilabel.resampling import Interpolation, resample

_Triple = tuple[float, float, float]
Resize = Literal["squash", "crop", "letterbox"]
"""How a picture becomes square. `squash` stretches the whole picture to the square; `crop` takes the square in its
middle, `crop_fraction` of the shorter side; `letterbox` keeps its shape in the middle of a black square."""
SMALLEST, LARGEST = 8, 4096
"""Sides of a model's input in pixels."""


def require_of_pixels(name: str, values: _Triple) -> None:
    """Refuse what divides by zero, and values for pixels in 0..255, with which every picture would look the same.

    Args:
        name: `mean` or `std`.

    Raises:
        ValueError: a value is none for pixels in 0..1; says what was expected.
    """
    least, most = (-1.0, 1.0) if name == "mean" else (0.0, 2.0)
    if all(least <= one <= most and (one or name == "mean") for one in values):
        return
    if all(math.isfinite(one) and one > 0 for one in values):
        raise ValueError(
            "expected values of pixels in 0..1; those of pixels in 0..255 are divided by 255: "
            + ",".join(f"{one / 255:.4g}" for one in values)
        )
    raise ValueError(f"expected three numbers from {least:g} to {most:g}, those of std above 0")


class Preprocess(BaseModel):
    """How a picture becomes a model's input; frozen, and saved with every artifact."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(ge=SMALLEST, le=LARGEST)
    """Side of the square input, in pixels."""
    resize: Resize = "squash"
    crop_fraction: float = Field(default=0.875, gt=0, le=1)
    interpolation: Interpolation = "area-cubic"
    """How scaled pixels are computed; that of every bundle whose manifest does not name it."""
    mean: _Triple = (0.5, 0.5, 0.5)
    """Per channel, of pixel values scaled to [0, 1]; subtracted inside the graph."""
    std: _Triple = (0.5, 0.5, 0.5)
    """Per channel, of pixel values scaled to [0, 1]; what is left is divided by it inside the graph."""
    color_order: Literal["RGB"] = "RGB"

    @field_validator("mean", "std", mode="before")
    @classmethod
    def _are_three(cls, given: Any) -> Any:
        if not isinstance(given, list | tuple) or len(given) != 3:
            raise ValueError("expected three numbers, for red, green and blue, such as 0.485, 0.456, 0.406")
        return given

    @field_validator("mean", "std")
    @classmethod
    def _normalises(cls, values: _Triple, info: ValidationInfo) -> _Triple:
        require_of_pixels(str(info.field_name), values)
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
        """Turn uint8 RGB `[H, W, 3]` of any size into uint8 RGB `[size, size, 3]`.

        Raises:
            InputError: it is something else; says what was received.
        """
        if not isinstance(image, np.ndarray):
            raise InputError(
                f"received {type(image).__name__}; expected a uint8 RGB picture [H, W, 3], as a numpy array"
            )
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise InputError(f"received {image.dtype} {list(image.shape)}; expected a uint8 RGB picture [H, W, 3]")
        height, width = image.shape[:2]
        if self.resize == "letterbox":
            scale = self.size / max(height, width)
            height, width = max(1, round(height * scale)), max(1, round(width * scale))
            scaled = resample(image, height, width, self.interpolation)
            top, left = (self.size - height) // 2, (self.size - width) // 2
            below, right = self.size - height - top, self.size - width - left
            return cv2.copyMakeBorder(scaled, top, below, left, right, cv2.BORDER_CONSTANT, value=(0, 0, 0))
        if self.resize == "crop":
            # Cropping before scaling gives the same picture, and a strip of 1x20000 pixels takes no extra memory.
            side = max(1, round(min(height, width) * self.crop_fraction))
            top, left = (height - side) // 2, (width - side) // 2
            image = np.ascontiguousarray(image[top : top + side, left : left + side])
        return resample(image, self.size, self.size, self.interpolation)

    def load(self, path: Picture) -> np.ndarray:
        """Read, decode and prepare one picture file: uint8 RGB `[size, size, 3]`."""
        return self(read_picture(path))

    @property
    def seen(self) -> str:
        """Which part of a picture a model sees, as options: models that are compared must see the same."""
        return f"{self.resize} of {self.crop_fraction:.4g}" if self.resize == "crop" else self.resize

    def with_size(self, size: int) -> Preprocess:
        """Return the same preprocessing for another input size."""
        return Preprocess(**{**self.model_dump(), "size": size})
