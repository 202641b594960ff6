"""Tagger: an engine with pictures on one side and label names on the other."""

from __future__ import annotations

import heapq
import re
from collections.abc import Generator, Iterable
from pathlib import Path

import numpy as np

from edgepress.deploy.engines import Engine, open_engine
from edgepress.deploy.engines.base import no_number, require
from edgepress.deploy.tag.ahead import load_ahead
from edgepress.deploy.tag.sources import Source
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import InputError, NoNumberError, as_path, require_whole
from edgepress.multilabel.pictures import read_picture


class Tagger:
    """Tags pictures with a bundle's engine; a context manager."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.decisions = engine.bundle.decisions
        self.thresholds = np.array(self.decisions.thresholds)
        """float64 `[C]`, each label's decision threshold on its probability."""

    @classmethod
    def from_pretrained(
        cls, name: str | Path, *, revision: str | None = None, device: str = "cpu", unproven: bool = False
    ) -> Tagger:
        """Open what `edgepress export --layout huggingface` wrote: a folder, or a repository of the Hugging Face hub.

        Args:
            name: a folder, or a repository such as `user/beaches`, which is downloaded once.
            revision: its branch, tag or commit.

        Raises:
            InputError: there is neither such a folder nor such a repository, or it holds no bundle; also `open_engine`.
            EngineUnavailableError: huggingface_hub is not installed, or see `open_engine`.
        """
        folder = as_path(name, "the folder or repository")
        return open_tagger(folder if folder.is_dir() else _downloaded(str(name), revision), device, unproven=unproven)

    def predict(self, image: str | Path | np.ndarray) -> dict[str, float]:
        """Every label's probability for one picture, calibrated if the bundle is, in the order of the labels.

        Args:
            image: a picture file, or uint8 RGB `[H, W, 3]` of any size.

        Raises:
            InputError: the file is missing, truncated or not a picture, or the array has another type or shape.
            NoNumberError: the engine's answer is not finite.
        """
        pixels = image if isinstance(image, np.ndarray) else read_picture(_file(image, "the picture"))
        name = "the picture" if isinstance(image, np.ndarray) else str(image)
        (answer,) = self._answers(self.engine.preprocess(pixels)[None], [name])
        if isinstance(answer, InputError):
            raise answer
        return answer

    def stream(
        self, sources: Iterable[str | Path | np.ndarray | Source], batch: int = 8
    ) -> Generator[tuple[str, dict[str, float] | InputError], None, None]:
        """Every source's name and its probabilities, as `predict` gives them, or why there are none; in order.

        Threads decode pictures while the engine runs, and at most three batches are held.

        Args:
            sources: picture files, uint8 RGB arrays `[H, W, 3]`, which are named by their number, or what
                `deploy.tag.sources` makes of folders and videos.
            batch: pictures a call of the engine.

        Raises:
            InputError: the sources are a single text, or the batch is no whole number of at least 1.
        """
        batch = require_whole("batch", batch)
        if isinstance(sources, str | Path | np.ndarray) or not isinstance(sources, Iterable):
            raise InputError(f"sources is {type(sources).__name__}; expected a list of pictures: predict takes one")
        named = (self._source(number, one) for number, one in enumerate(sources, start=1))
        for loaded in load_ahead(_load, named, batch):
            read = [(name, pixels) for name, pixels in loaded if not isinstance(pixels, InputError)]
            rows = iter(
                self._answers(np.stack([pixels for _, pixels in read]), [name for name, _ in read]) if read else ()
            )
            for name, result in loaded:
                yield name, result if isinstance(result, InputError) else next(rows)

    def _source(self, number: int, given: object) -> Source:
        if isinstance(given, Source):
            return given
        name = str(given) if isinstance(given, str | Path) else f"picture {number}"

        def load() -> np.ndarray:
            pixels = given if isinstance(given, np.ndarray) else read_picture(_file(given, name))
            try:
                return self.engine.preprocess(pixels)
            except InputError as error:
                raise InputError(f"{name}: {error}") from None

        return Source(name, load)

    def _answers(self, pixels: np.ndarray, names: list[str]) -> list[dict[str, float] | NoNumberError]:
        logits = self.engine(pixels)
        finite = np.isfinite(logits).all(axis=1)
        probabilities = self.decisions.probabilities(np.where(finite[:, None], logits, 0)).tolist()
        return [
            dict(zip(self.engine.labels.names, row, strict=True)) if sound else no_number(self.engine.bundle, own, name)
            for name, own, row, sound in zip(names, logits, probabilities, finite, strict=True)
        ]

    def tags(self, probabilities: dict[str, float]) -> list[str]:
        """The labels that are answered yes, most probable first: those at or above their thresholds, and what label
        groups make of them (`Decisions.answers`).

        Raises:
            InputError: a label has no probability, or one is no number from 0 to 1.
        """
        names = self.decisions.labels
        if not isinstance(probabilities, dict) or not probabilities.keys() >= set(names):
            raise InputError("tags: expected a probability of every label, as predict gives them")
        _require_probabilities("tags", {name: probabilities[name] for name in names})
        if not self.decisions.groups:  # each label by itself, without arrays of one picture
            found = [
                name for name, bar in zip(names, self.decisions.thresholds, strict=True) if probabilities[name] >= bar
            ]
        else:
            (yes,) = self.decisions.answers(np.array([[probabilities[name] for name in names]]))
            found = [names[place] for place in np.flatnonzero(yes)]
        return sorted(found, key=lambda name: -probabilities[name])

    def best(self, probabilities: dict[str, float], count: int) -> dict[str, float]:
        """The most probable labels, at most `count`, the most probable first and of equal ones the first; whether they
        are answered yes or not.

        Raises:
            InputError: the count is no whole number of at least 1, or these are no probabilities.
        """
        count = require_whole("count", count)
        if not isinstance(probabilities, dict):
            raise InputError(f"best: received {type(probabilities).__name__}; expected what predict gives")
        _require_probabilities("best", probabilities)
        return dict(heapq.nlargest(count, probabilities.items(), key=lambda item: item[1]))

    def close(self) -> None:
        """Free the engine."""
        self.engine.close()

    def __enter__(self) -> Tagger:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _require_probabilities(method: str, given: dict[str, float]) -> None:
    """Stop at NaN, which is below every threshold, and at percents, which are above all."""
    for name, probability in given.items():
        try:
            sound = 0 <= probability <= 1
        except (TypeError, ValueError):  # a text, or an array
            sound = False
        if not sound:
            raise InputError(f"{method}: {name!r} is {probability!r}; expected probabilities, numbers from 0 to 1")


def _file(given: object, name: str) -> Path:
    try:
        return as_path(given, name)
    except InputError as error:
        raise InputError(
            f"{error}, or its pixels, uint8 RGB [H, W, 3] (of an image of Pillow: numpy.asarray(image.convert('RGB')))"
        ) from None


def open_tagger(
    bundle_dir: str | Path | Bundle, device: str = "cpu", *, threads: int | None = None, unproven: bool = False
) -> Tagger:
    """Open a bundle for tagging pictures; arguments and errors as `open_engine`.

    Example:
        >>> from edgepress import open_tagger
        >>> with open_tagger("runs/mine/onnx-fp32") as tagger:
        ...     probabilities = tagger.predict("beach.jpg")
        ...     tags = tagger.tags(probabilities)
        >>> set(tags) <= set(probabilities)
        True
    """
    return Tagger(open_engine(bundle_dir, device, threads=threads, unproven=unproven))


def _downloaded(name: str, revision: str | None) -> Path:
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise InputError(f"{name}: no such folder, and no name of a repository, such as user/beaches")
    require("huggingface_hub", "hub")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{name}: no such folder here, and the hub does not give it ({reason})") from None


def _load(source: Source) -> tuple[str, np.ndarray | InputError]:
    try:
        return source.name, source.load()
    except InputError as error:  # one broken picture must not cost the others their tags
        # The traceback is dropped, because its frames hold the picture's bytes and many pictures may be broken.
        return source.name, error.with_traceback(None)
