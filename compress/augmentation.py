"""How training pictures are varied: what each sees follows from the seed, the variation and its content alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torchvision.transforms import v2

from edgepress.multilabel.preprocess import Preprocess
from edgepress.multilabel.resampling import Interpolation


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How training pictures are varied; see `TrainConfig` for the fields."""

    augment: Literal["none", "randaugment"]
    flip: float
    cutout: float
    seed: int
    interpolation: Interpolation = "area-cubic"
    """How pictures are scaled before they are varied: as the learning model does it."""
    resize_jitter: bool = False
    random_crop: float = 1.0
    variations: int | None = None

    def variation(self, epoch: int) -> int:
        """The number of the variation that an epoch shows of its pictures: its own, or a repeated one."""
        return epoch if self.variations is None else epoch % self.variations

    @property
    def ways(self) -> int | None:
        """In how many ways a picture is shown at most, or None where each epoch shows it in a new one."""
        varied = self.augment != "none" or self.cutout or self.resize_jitter or self.random_crop < 1
        if varied:
            return self.variations
        mirrored = 1 if self.flip in (0, 1) else 2
        return mirrored if self.variations is None else min(mirrored, self.variations)

    def scale(self, image: np.ndarray, preprocess: Preprocess, epoch: int, picture: int) -> np.ndarray:
        """Prepare uint8 `[H, W, 3]` as `preprocess` does, by the interpolation, or by one drawn for the picture."""
        if self.random_crop < 1:
            image = _cropped(
                image, self.random_crop, np.random.default_rng((self.seed, self.variation(epoch), picture, 3))
            )
        way = self.interpolation
        if self.resize_jitter:
            # From numbers of its own, so that the rest of the augmentation is the same as without it.
            rng = np.random.default_rng((self.seed, self.variation(epoch), picture, 1))
            ways = get_args(Interpolation)
            way = ways[rng.integers(len(ways))]
        return preprocess.model_copy(update={"interpolation": way})(image)

    def __call__(self, image: np.ndarray, epoch: int, picture: int) -> np.ndarray:
        """Turn uint8 `[S, S, 3]` into uint8 `[S, S, 3]`, the same for the same (seed, variation, picture).

        Args:
            picture: a number that is the picture's own.
        """
        rng = np.random.default_rng((self.seed, self.variation(epoch), picture))
        if self.augment == "randaugment":
            # torchvision draws from torch's global generator, which is restored afterwards.
            with torch.random.fork_rng(devices=[]):
                # Not torch.manual_seed, which seeds a GPU's generators, that of the step's dropout, as well.
                torch.default_generator.manual_seed(int(rng.integers(2**63)))
                pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
                image = _RAND_AUGMENT(pixels).permute(1, 2, 0).contiguous().numpy()
        if rng.random() < self.flip:
            image = image[:, ::-1]
        side = round(image.shape[0] * self.cutout * rng.random())
        if side:
            top, left = rng.integers(0, image.shape[0] - side + 1, size=2)
            image = image.copy()
            image[top : top + side, left : left + side] = 128
        return np.ascontiguousarray(image)


def _cropped(image: np.ndarray, least: float, rng: np.random.Generator) -> np.ndarray:
    """A part of a picture: of an area from `least` to 1 of its own, 3/4 to 4/3 times as wide for its height."""
    height, width = image.shape[:2]
    area, form = rng.uniform(least, 1), np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)) / 2)
    rows = min(max(round(height * np.sqrt(area) / form), 1), height)
    columns = min(max(round(width * np.sqrt(area) * form), 1), width)
    top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
    return image[top : top + rows, left : left + columns]


_RAND_AUGMENT = v2.RandAugment(num_ops=2, magnitude=9, interpolation=v2.InterpolationMode.BILINEAR, fill=128)
