"""The golden pictures of a bundle: eight JPEGs and a PNG, and what decoding, resizing and the model make of them.

Every device and every program that calls the model can be checked with them, step by step; docs/bundle.md describes
the files. The pictures are of the split that engines are verified on, or generated where those must not be passed on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edgepress.deploy.engines.golden import Golden
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.golden_answers import DECODED, FOLDER, GOLDEN
from edgepress.multilabel.pictures import decode_picture
from edgepress.multilabel.preprocess import Preprocess

PICTURES = 8
SMALLEST_SIDE, LARGEST_SIDE = 320, 640
"""Bounds of the longer side of a stored picture in pixels; between them it is twice the model's, so that it shrinks."""
_QUALITY = 90
_EXIF_6 = (
    b"\xff\xe1\x00\x22Exif\x00\x00"  # a segment of 34 bytes
    b"II*\x00\x08\x00\x00\x00\x01\x00"  # a TIFF with one entry:
    b"\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00"  # the orientation, 6
    b"\x00\x00\x00\x00"
)
_KINDS: tuple[str, ...] = ("4:2:0", "4:4:4", "progressive", "turned")
"""How the first pictures are stored; all others are as the first. Programs err most with those that are turned."""


def version_of(generated: bool) -> str:
    """What a bundle's `inputs` hold of its golden pictures, so that a bundle with other ones is made again."""
    return "generated pictures" if generated else f"{PICTURES} of the split's pictures"


@dataclass(frozen=True, eq=False)
class GoldenPictures:
    """The stored pictures of a bundle and what became of them."""

    files: dict[str, bytes]
    """The files by their names in the folder `golden`; a name is the row in what follows."""
    decoded: list[np.ndarray]
    """uint8 RGB `[H, W, 3]` of each row."""
    golden: Golden

    def save(self, folder: Path) -> None:
        """Write them into a bundle's folder; `multilabel.bundle` adds the answers by the bundle's decisions."""
        (folder / FOLDER).mkdir()
        for name, data in self.files.items():
            (folder / FOLDER / name).write_bytes(data)
        np.savez_compressed(folder / DECODED, **{str(row): pixels for row, pixels in enumerate(self.decoded)})
        self.golden.save(folder / GOLDEN)


def golden_pictures(
    data: MultiLabelDataset,
    preprocess: Preprocess,
    answer: Callable[[np.ndarray], np.ndarray],
    *,
    generated: bool = False,
) -> GoldenPictures:
    """Store eight pictures and the model's logits for them.

    A picture is scaled down, and encoded anew, so that no metadata of the user's file (such as the place where it was
    taken) is passed on.

    Args:
        data: the split whose pictures are taken, spread over it.
        answer: the model, from uint8 `[N, size, size, 3]` to logits `[N, C]`.
        generated: take generated pictures in their place.

    Raises:
        InputError: a picture cannot be read.
        DataChangedError: see `MultiLabelDataset.stored`.
    """
    rows = np.unique(np.linspace(0, len(data) - 1, PICTURES).round().astype(int)).tolist()
    chosen = generate() if generated else [data.picture(row) for row in rows]
    most = min(LARGEST_SIDE, max(SMALLEST_SIDE, 2 * preprocess.size))
    files: dict[str, bytes] = {}
    decoded = []
    for row, picture in enumerate(chosen):
        kind = _KINDS[row] if row < len(_KINDS) else _KINDS[0]
        files[f"{row}.jpg"] = _jpeg(_at_most(picture, most), kind)
        decoded.append(decode_picture(files[f"{row}.jpg"], f"golden picture {row}"))
    files["0.png"] = cv2.imencode(".png", decoded[0][:, :, ::-1])[1].tobytes()
    prepared = np.stack([preprocess(pixels) for pixels in decoded])
    return GoldenPictures(files, decoded, Golden(prepared, answer(prepared).astype(np.float32)))


def generate() -> list[np.ndarray]:
    """Eight pictures of coloured discs on gradients with a little noise, uint8 RGB of different shapes."""
    rng = np.random.default_rng(0)
    made = []
    for height, width in ((240, 320), (320, 240), (199, 301), (320, 213), (320, 320), (97, 320), (64, 64), (317, 155)):
        down, right = np.linspace(0, 1, height)[:, None, None], np.linspace(0, 1, width)[None, :, None]
        corners = rng.integers(0, 256, (2, 2, 3))
        left = corners[0, 0] * (1 - down) + corners[1, 0] * down
        picture = left * (1 - right) + (corners[0, 1] * (1 - down) + corners[1, 1] * down) * right
        for _ in range(6):
            at = (int(rng.integers(0, width)), int(rng.integers(0, height)))
            colour = tuple(int(value) for value in rng.integers(0, 256, 3))
            cv2.circle(picture, at, int(rng.integers(5, min(height, width) // 3)), colour, -1)
        made.append(np.clip(picture + rng.integers(-6, 7, picture.shape), 0, 255).astype(np.uint8))
    return made


def _at_most(picture: np.ndarray, side: int) -> np.ndarray:
    """The picture, made smaller where its longer side has more than so many pixels."""
    height, width = picture.shape[:2]
    share = side / max(height, width)
    if share >= 1:
        return picture
    return cv2.resize(
        picture, (max(1, round(width * share)), max(1, round(height * share))), interpolation=cv2.INTER_AREA
    )


def _jpeg(picture: np.ndarray, kind: str) -> bytes:
    sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444 if kind == "4:4:4" else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
    options = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    if kind == "progressive":
        options += [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]
    stored = np.rot90(picture) if kind == "turned" else picture
    data = cv2.imencode(".jpg", np.ascontiguousarray(stored[:, :, ::-1]), options)[1].tobytes()
    if kind != "turned":
        return data
    after = 4 + int.from_bytes(data[4:6], "big")  # JFIF's own segment must be the first
    return data[:after] + _EXIF_6 + data[after:]
