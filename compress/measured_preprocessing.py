"""How a function prepares pictures, measured on pictures made for the purpose: as a `Preprocess`, or not at all.

Libraries prepare pictures by many settings under many names, and some ignore a setting that stands in their file. So
the settings are not interpreted: black, white and red pictures show the normalisation and the order of colours, and
smooth pictures of several shapes show what is cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, get_args

import numpy as np

from edgepress.multilabel.conventions import Colors
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.preprocess import Preprocess
from edgepress.multilabel.resampling import Interpolation

Prepare = Callable[[np.ndarray], np.ndarray]
"""From a picture uint8 RGB `[H, W, 3]` to float32 `[3, size, size]`."""
_SHAPES = ((300, 400), (400, 300), (640, 512))
_CLOSE = 0.01
"""Largest mean difference in 0..1 from smooth pictures: other filters differ by 0.002, another cut by 0.03 and more."""
_EXACT = 1e-3


class Measured(NamedTuple):
    """How pictures are prepared."""

    preprocess: Preprocess
    colors: Colors


def measure(prepare: Prepare, source: str, crop_fractions: Iterable[float] = ()) -> Measured:
    """Find the `Preprocess` that prepares pictures as a function does, with the nearest of our interpolations.

    Args:
        prepare: the function; it is called with ten pictures.
        source: what messages call it.
        crop_fractions: shares of the shorter side that its middle may have, beside the usual ones.

    Raises:
        InputError: there is none: pictures of other shapes give other sizes, or sides that are not equal; a pixel
            depends on its neighbours' colours; or something else is cut off than the middle's surroundings.
    """
    shapes = sorted({prepare(np.zeros((*shape, 3), np.uint8)).shape for shape in _SHAPES})
    if len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][0] != 3 or shapes[0][1] != shapes[0][2]:
        found = ", ".join(str(list(shape)) for shape in shapes)
        raise _refused(source, f"pictures become {found}; expected squares of one size, [3, size, size]")
    size = shapes[0][1]
    black, white = (_constant(prepare, (value,) * 3, source) for value in (0, 255))
    red = _constant(prepare, (255, 0, 0), source)
    if not (white > black).all():
        raise _refused(source, "a white picture is not brighter than a black one")
    share = (red - black) / (white - black)
    colors: Colors = "rgb" if share[0] > 0.5 else "bgr"
    if np.abs(share - ((1, 0, 0) if colors == "rgb" else (0, 0, 1))).max() > _EXACT:
        raise _refused(source, "it mixes the channels")
    std = 1 / (white - black)  # in the model's own order of channels, as `adopt` takes them
    given = {"size": size, "mean": _round(-black * std), "std": _round(std)}
    candidates = [Preprocess.stated(source, **given)]
    candidates += [
        Preprocess(**given, resize="crop", crop_fraction=fraction)
        for fraction in dict.fromkeys((*crop_fractions, 1.0, 0.875, 0.9, 0.95, 0.96))
        if 0 < fraction <= 1
    ]
    pictures = [_smooth(*shape) for shape in _SHAPES]
    shown = [_unit(prepare(picture), black, white) for picture in pictures]
    if colors == "bgr":
        shown = [one[..., ::-1] for one in shown]
    differences = [
        max(float(np.abs(one(picture) / 255 - found).mean()) for picture, found in zip(pictures, shown, strict=True))
        for one in candidates
    ]
    best = int(np.argmin(differences))
    if differences[best] > _CLOSE:
        raise _refused(
            source,
            "it neither stretches a picture to the square nor cuts out its middle "
            f"(the nearest differs by {differences[best]:.3f} in 0..1)",
        )
    texture = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    theirs = _unit(prepare(texture), black, white)[..., :: 1 if colors == "rgb" else -1]
    return Measured(_scaled_alike(candidates[best], texture, theirs), colors)


def _scaled_alike(cut: Preprocess, texture: np.ndarray, theirs: np.ndarray) -> Preprocess:
    """The same cut with the interpolation whose pixels are nearest to `theirs` `[size, size, 3]`, in 0..1."""
    ways = [cut.model_copy(update={"interpolation": way}) for way in get_args(Interpolation)]
    return min(ways, key=lambda way: float(np.abs(way(texture) / 255 - theirs).mean()))


def _refused(source: str, why: str) -> InputError:
    return InputError(
        f"{source}: its way of preparing pictures cannot be taken over: {why}: say --size, --mean, --std and --resize, "
        f"which take its place"
    )


def _constant(prepare: Prepare, color: tuple[int, ...], source: str) -> np.ndarray:
    """float64 `[3]`: what the channels of a picture of one colour become."""
    found = prepare(np.broadcast_to(np.uint8(color), (64, 64, 3)).copy()).astype(np.float64)
    if np.ptp(found, axis=(1, 2)).max() > _EXACT * max(1.0, np.abs(found).max()):
        raise _refused(source, "a picture of one colour gets several")
    return found.mean(axis=(1, 2))


def _round(values: np.ndarray) -> tuple[float, float, float]:
    first, second, third = (round(float(value), 6) + 0.0 for value in values)  # no -0.0
    return first, second, third


def _unit(prepared: np.ndarray, black: np.ndarray, white: np.ndarray) -> np.ndarray:
    """Channels last, in 0..1."""
    return (prepared.transpose(1, 2, 0) - black) / (white - black)


def _smooth(height: int, width: int) -> np.ndarray:
    """A picture whose every place differs, and that every filter scales alike."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    waves = np.stack([x, y, 0.5 + 0.25 * np.sin(5 * x) + 0.25 * np.cos(4 * y)], axis=-1)
    return np.uint8(np.round(waves * 255))
