"""A finished tagger from elsewhere, as torch runs it, and what its owner states about its pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from edgepress.multilabel.conventions import Activation, Colors
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.preprocess import Preprocess, Resize
from edgepress.multilabel.resampling import Interpolation

_Triple = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Stated:
    """What its owner states about a model's pictures and scores; None where nothing is stated."""

    size: int | None = None
    resize: Resize | None = None
    crop_fraction: float | None = None
    interpolation: Interpolation | None = None
    mean: _Triple | None = None
    std: _Triple | None = None
    colors: Colors | None = None
    activation: Activation | None = None

    def over(self, own: Preprocess, source: object) -> Preprocess:
        """The preprocessing that a model comes with, changed where its owner states something else.

        Args:
            source: what messages call the model.

        Raises:
            InputError: what is stated is out of its range.
        """
        fields = ("size", "resize", "crop_fraction", "interpolation", "mean", "std")
        named = {name: getattr(self, name) for name in fields}
        stated = {name: value for name, value in named.items() if value is not None}
        return Preprocess.stated(source, **{**own.model_dump(), **stated})


@dataclass(frozen=True, kw_only=True)
class FinishedModule:
    """A torch module that is exported as it is."""

    module: nn.Module
    """In evaluation mode; float32 pictures `[B, 3, size, size]`, normalised, to scores `[B, C]`."""
    preprocess: Preprocess
    labels: LabelSpace
    """The names of its outputs, in their order."""
    name: str
    """What messages and the bundle's facts call it."""
    colors: Colors = "rgb"
    activation: Activation | None = None
    """What its scores have been through; None where nobody states it."""


def require_labels(labels: LabelSpace | None, source: object) -> LabelSpace:
    """
    Raises:
        InputError: there are none.
    """
    if labels is None:
        raise InputError(f"{source}: does not name its outputs: say --labels FILE, one name per line in their order")
    return labels


def named_in(file: Path, key: str, names: tuple[str, ...]) -> LabelSpace:
    """The labels that a model's own configuration names.

    Raises:
        InputError: they are refused as in `LabelSpace`; says where they stand and what takes their place.
    """
    try:
        return LabelSpace(names)
    except InputError as error:
        raise InputError(f"{file}: {key}: {error}; say --labels FILE, names in the order of the outputs") from None
