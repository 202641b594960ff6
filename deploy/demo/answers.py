"""Answers: the engines of a run that this machine can open, and their answers to a picture with the time taken."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from edgepress.deploy.build.rebuild import fitted
from edgepress.deploy.engines.attention import has_attention
from edgepress.deploy.engines.table import RUNTIMES
from edgepress.deploy.tag.tagger import Tagger, open_tagger
from edgepress.multilabel.bundle import MANIFEST, Bundle
from edgepress.multilabel.errors import EngineUnavailableError, InputError
from edgepress.multilabel.pictures import decode_picture
from edgepress.multilabel.resampling import resample

CALLS = 5
"""Calls of the model per picture; the median is shown, because the first call after a decoder ran is slower."""
MOST_LISTED = 500
"""Labels of a picture that a page holds; a table of thousands would be slow to show and to hear."""
_WARM_UP = 3
PREVIEW_SIDE = 720
"""Length of the longer side of the shown picture, in pixels."""


@dataclass(frozen=True, kw_only=True)
class Opening:
    """How a page or an overlay opens its engines."""

    device: str = "cpu"
    threads: int | None = None
    """Threads as `open_engine` takes them, for the runtimes that have the setting; the others choose for themselves."""
    rebuild: bool = False
    """Build compiled engines that do not fit this machine again; see `deploy.build.rebuild.fitted`."""
    unproven: bool = False
    """See `open_engine`."""
    top: int | None = None
    """Most labels that the page shows of a picture; see `Engines.top`."""

    def tagger(self, path: Path) -> Tagger:
        """Open a bundle; errors as `open_tagger`."""
        bundle = fitted(Bundle.open(path), rebuild=self.rebuild)
        takes = "threads" in RUNTIMES[bundle.manifest.kind].settings
        return open_tagger(bundle, self.device, threads=self.threads if takes else None, unproven=self.unproven)


@dataclass
class Engines:
    """The open engines by name, and why the others could not be opened; a context manager."""

    folder: Path
    taggers: dict[str, Tagger] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    """Why a bundle could not be opened, by its name."""
    top: int | None = None
    """Most labels that the page shows of a picture; by default all, and `MOST_LISTED` where there are more."""

    @property
    def looking(self) -> Tagger | None:
        """The engine that can show where it looks (`deploy.engines.attention`), if there is one."""
        attentive = (tagger for tagger in self.taggers.values() if has_attention(tagger.engine.bundle))
        return next(attentive, None)

    def close(self) -> None:
        for tagger in self.taggers.values():
            tagger.close()

    def __enter__(self) -> Engines:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@dataclass(frozen=True)
class Answer:
    """One engine's answer to one picture."""

    engine: str
    probabilities: dict[str, float]
    """One per label, in the order of the labels."""
    thresholds: dict[str, float | None]
    """None for a label of a group of which the most probable one is answered yes."""
    tags: list[str]
    """The labels that are answered yes, most probable first."""
    prepare_ms: float
    model_ms: float
    """Median of `CALLS` calls at batch 1."""


@dataclass(frozen=True)
class Answers:
    """The answers of the asked engines to one picture."""

    width: int
    height: int
    decode_ms: float
    preview: np.ndarray
    """uint8 RGB, its longer side at most `PREVIEW_SIDE`."""
    of: tuple[Answer, ...]
    top: int
    """Most labels to show."""


def open_engines(folder: Path, opening: Opening | None = None) -> Engines:
    """Open a bundle, or every bundle of a run's folder that opens here.

    Raises:
        InputError: the folder is neither a bundle nor holds any, or none of them opens here; gives every reason.
        EngineUnavailableError: the bundle that was named cannot be run here.
    """
    opening = opening or Opening()
    if (folder / MANIFEST).is_file() or not folder.is_dir():
        return Engines(folder, {folder.resolve().name: _opened(folder, opening)}, top=opening.top)
    found = sorted(file.parent for file in folder.glob(f"*/{MANIFEST}") if not file.parent.name.startswith("."))
    if not found:
        raise InputError(f"{folder}: neither a bundle nor a run's folder (no {MANIFEST} in it or one folder below)")
    engines = Engines(folder, top=opening.top)
    try:
        for path in found:
            try:
                engines.taggers[path.name] = _opened(path, opening)
            except (InputError, EngineUnavailableError) as error:
                engines.refused[path.name] = str(error).removeprefix(f"{path}: ")
            except ModuleNotFoundError as error:
                engines.refused[path.name] = f"needs {error.name}, which is not installed here"
    except BaseException:
        engines.close()
        raise
    if not engines.taggers:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in engines.refused.items())
        raise InputError(f"{folder}: none of its engines opens here ({reasons})")
    # Engines come before the models that torch runs, and a float engine first: the others are compared with it.
    engines.taggers = dict(sorted(engines.taggers.items(), key=lambda item: _rank(item[1].engine.bundle)))
    return engines


def _rank(bundle: Bundle) -> tuple[bool, bool, str]:
    return bundle.manifest.kind == "torch", bundle.manifest.precision != "fp32", bundle.name


def _opened(path: Path, opening: Opening) -> Tagger:
    """Open an engine and run it once, because a first call takes many times as long as the next."""
    tagger = opening.tagger(path)
    size = tagger.engine.preprocess.size
    try:
        for _ in range(_WARM_UP):
            tagger.engine(np.zeros((1, size, size, 3), np.uint8))
    except BaseException:
        tagger.close()
        raise
    return tagger


def ask(engines: Engines, names: Sequence[str], data: bytes, name: str) -> Answers:
    """Ask these engines about a picture.

    Args:
        names: names of open engines.
        data: the picture file's bytes.
        name: what an error calls it.

    Raises:
        InputError: the picture is unreadable, truncated or too large, an engine is unknown, or its answer is not
            finite.
    """
    missing = [name for name in names if name not in engines.taggers]
    if missing:
        raise InputError(f"no engine {missing[0]!r} is open; expected one of {', '.join(engines.taggers)}")
    started = time.perf_counter()
    image = decode_picture(data, name)
    decode_ms = 1000 * (time.perf_counter() - started)
    answers = tuple(_answer(name, engines.taggers[name], image) for name in names)
    return Answers(image.shape[1], image.shape[0], decode_ms, preview_of(image), answers, engines.top or MOST_LISTED)


def _answer(name: str, tagger: Tagger, image: np.ndarray) -> Answer:
    started = time.perf_counter()
    pixels = tagger.engine.preprocess(image)[None]
    prepare_ms = 1000 * (time.perf_counter() - started)
    model_ms = []
    for _ in range(CALLS):
        started = time.perf_counter()
        logits = tagger.engine(pixels)
        model_ms.append(1000 * (time.perf_counter() - started))
    labels = tagger.engine.labels.names
    broken = int((~np.isfinite(logits)).sum())
    if broken:  # NaN is below every threshold, so it would look like a sure "no"
        raise InputError(
            f"{name}: {broken} of its {len(labels)} logits are NaN or infinite; choose another engine "
            "and make this one again, in a higher precision where it is int8 or fp16"
        )
    values = tagger.decisions.probabilities(logits)[0].tolist()
    probabilities = dict(zip(labels, values, strict=True))
    always_one = tagger.decisions.grouped.always_one
    bars = [None if one else float(bar) for bar, one in zip(tagger.thresholds, always_one, strict=True)]
    return Answer(
        engine=name,
        probabilities=probabilities,
        thresholds=dict(zip(labels, bars, strict=True)),
        tags=tagger.tags(probabilities),
        prepare_ms=prepare_ms,
        model_ms=statistics.median(model_ms),
    )


def preview_of(image: np.ndarray) -> np.ndarray:
    """The picture as it is shown: uint8 RGB, its longer side at most `PREVIEW_SIDE`."""
    scale = min(1.0, PREVIEW_SIDE / max(image.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return resample(image, height, width)


def as_jpeg(image: np.ndarray) -> bytes:
    """uint8 RGB `[H, W, 3]` as a JPEG file's bytes."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])
    assert done, f"OpenCV cannot write {list(image.shape)} as JPEG"
    return data.tobytes()
