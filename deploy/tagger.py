"""Tagger: an engine with pictures on one side and label names on the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deploy.engines import Engine, open_engine
from multilabel.bundle import Bundle
from multilabel.pictures import read_picture


class Tagger:
    """Tags pictures with a bundle's engine; a context manager."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.decisions = engine.bundle.decisions
        self.thresholds = np.array(self.decisions.thresholds)
        """float64 `[C]`, a label's decision threshold on its probability."""

    def predict(self, image: str | Path | np.ndarray) -> dict[str, float]:
        """Every label's probability for one picture, calibrated where the bundle is, in the order of the labels.

        Args:
            image: a picture file, or uint8 RGB `[H, W, 3]` of any size.

        Raises:
            InputError: the file is missing, truncated or no picture.
            ValueError: an array of another type or shape.
        """
        pixels = image if isinstance(image, np.ndarray) else read_picture(Path(image))
        probabilities = self.decisions.probabilities(self.engine(self.engine.preprocess(pixels)[None]))[0]
        return dict(zip(self.engine.labels.names, probabilities.tolist(), strict=True))

    def tags(self, probabilities: dict[str, float]) -> list[str]:
        """The labels at or above their thresholds, most probable first."""
        chosen = [name for name, bar in zip(probabilities, self.thresholds, strict=True) if probabilities[name] >= bar]
        return sorted(chosen, key=lambda name: -probabilities[name])

    def close(self) -> None:
        """Free the engine."""
        self.engine.close()

    def __enter__(self) -> Tagger:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def open_tagger(bundle_dir: str | Path | Bundle, device: str = "cpu") -> Tagger:
    """Open a bundle for tagging pictures; arguments and errors as `open_engine`."""
    return Tagger(open_engine(bundle_dir, device))
