"""What a finished tagger reaches on a split, and what it would reach if its pictures were prepared differently.

Somebody else's model does not say how its pictures were prepared, and a wrong answer costs accuracy without an error.
So the preprocessing that its owner states is compared with its near relatives on labelled pictures: the other order of
colours, the other usual normalisations, and the other ways of making a picture square.
"""

from __future__ import annotations

import difflib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from edgepress.multilabel.confidence import Scored, drop_interval
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.errors import InputError, shown
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.metrics import labels_counted, mean_average_precision, prevalence
from edgepress.multilabel.preprocess import Preprocess, Resize

log = logging.getLogger("edgepress")
Answer = Callable[[np.ndarray], np.ndarray]
"""From pictures `[B, size, size, 3]`, RGB in 0..255, to logits `[B, C]`."""
BATCH = 32
PICTURES = 256
"""Pictures on which relatives are compared; the split's own number where it has fewer."""
MOST_SECONDS = 60.0
"""No further pictures are compared after this time."""
_SOME = 8
CLEAR = 1.0
"""A relative wins if it gains more mAP points than this, and the whole 95 % interval of its gain is above 0."""
_SOUGHT = 8
"""Lacking labels for which a name that is spelt alike is sought: among 20,000 outputs one takes 0.1 s or more."""
NORMALISATIONS = (
    ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
)
"""Mean and std in use: ImageNet's, -1..1, 0..1 and 0..255."""
_STATED, _WORDS = "", ("mean", "std")
_SAME = 0.03
"""Normalisations nearer to each other than this are one, such as ImageNet's and CLIP's."""


@dataclass(frozen=True, kw_only=True)
class Relative:
    """A preprocessing near the stated one, and what it reaches."""

    what: str
    """What is different, as an option of `adopt`, such as `--colors bgr`."""
    mAP: float
    """mAP in [0, 1] on the compared pictures."""
    given: float
    """mAP in [0, 1] of the stated preprocessing on the same pictures."""
    gain: tuple[float, float] | None
    """95 % interval of its gain in mAP points; None of too few pictures."""
    pictures: int
    """Number of pictures compared."""

    @property
    def wins(self) -> bool:
        """Whether it is clearly better than the stated preprocessing."""
        return self.gain is not None and self.gain[0] > 0 and 100 * (self.mAP - self.given) > CLEAR


def answer_split(answer: Answer, preprocess: Preprocess, data: MultiLabelDataset) -> np.ndarray:
    """The logits `[N, C]` of a split's pictures, in their order.

    Raises:
        InputError: a picture cannot be read.
        DataChangedError: see `MultiLabelDataset.stored`.
    """
    parts = []
    for start in range(0, len(data), BATCH):
        rows = range(start, min(start + BATCH, len(data)))
        parts.append(answer(np.stack([preprocess(data.picture(row)) for row in rows])))
    return np.concatenate(parts)


def require_among(wanted: LabelSpace, has: LabelSpace, model: str | Path, root: Path) -> None:
    """Raise an error unless a finished model has the labels that its bundle is to have.

    Args:
        model: what the message calls it.
        root: the data set's folder.

    Raises:
        InputError: it lacks some; the message says which, and how it becomes a teacher all the same.
    """
    lacking, more = [name for name in wanted if name not in has], [name for name in has if name not in wanted]
    if not lacking:
        return
    pairs = ((name, difflib.get_close_matches(name, more, n=1)) for name in lacking[:_SOUGHT])
    near = next(((name, found[0]) for name, found in pairs if found), None)
    same = f", such as {near[0]!r} for {near[1]!r}" if near is not None else ""
    others = f", and has {shown(more)}, which the data set lacks" if more else ""
    raise InputError(
        f"the model {model} lacks {shown(lacking)} of the labels of the data set {root}{others}. Where these are one "
        f"label under two names, name the outputs, in their order, as the data set does (adopt: --labels FILE, one a "
        f"line; Python: labels){same}. Where the model knows no such label, it can be a teacher alone, with its own "
        "labels (adopt: --keep-labels; Python: keep_labels=True)"
    )


def tell_finished(
    name: str,
    answer: Answer,
    preprocess: Preprocess,
    labels: LabelSpace,
    data: MultiLabelDataset,
    logits: np.ndarray,
    *,
    colors: str = "rgb",
    fractional: bool,
) -> None:
    """Say what a finished model reaches, as stated and with related preprocessing, on the labels of equal names.

    Args:
        answer, preprocess, colors, fractional: as for `compare_relatives`.
        labels: those of its columns.
        logits: its answers `[N, columns]` for the pictures of `data`.
    """
    shared = tuple(label for label in data.labels if label in labels)
    if not shared:
        log.info("%s: none of its labels has the name of one of the data set's, so its mAP is not known", name)
        return
    judged, columns = data.with_labels(LabelSpace(shared)), [labels.index(label) for label in shared]

    def answer_shared(pixels: np.ndarray) -> np.ndarray:
        return answer(pixels)[:, columns]

    tell_reached(name, judged, logits[:, columns])
    tell_relatives(name, compare_relatives(answer_shared, preprocess, judged, colors=colors, fractional=fractional))


def tell_reached(name: str, data: MultiLabelDataset, logits: np.ndarray) -> None:
    """Say which mAP a finished model's logits `[N, C]` reach, with a caution if random scores would reach as much."""
    if not labels_counted(data.targets, data.ignore):
        log.info("%s: no mAP, because no label of %s has both a positive and a negative picture", name, data.split)
        return
    reached = 100 * mean_average_precision(data.targets, data.scores(logits), data.ignore)
    chance = 100 * prevalence(data.targets, data.ignore)
    log.info("%s: mAP %.2f on %s (random scores reach %.2f)", name, reached, data.split, chance)
    if reached < min(1.5 * chance, chance + 0.1 * (100 - chance)):
        log.warning(
            "caution: mAP %.2f is not clearly above random scores (%.2f): are the labels in the order of the outputs, "
            "and are size, mean, std and the order of colours those that the model learnt with?",
            *(reached, chance),
        )


def compare_relatives(
    answer: Answer, preprocess: Preprocess, data: MultiLabelDataset, *, colors: str = "rgb", fractional: bool
) -> list[Relative]:
    """Compare the stated preprocessing with its near relatives, on at most `PICTURES` pictures spread over a split.

    A slow model is asked about fewer pictures, in an order without meaning, so that it takes a minute or two.

    Args:
        answer: the model with the stated preprocessing.
        preprocess: the stated preprocessing.
        colors: the stated order of colours, which `answer` follows.
        fractional: whether `answer` also takes float32 pictures, whose values may lie outside of 0..255. Without it
            the normalisation, which is inside the model, cannot be compared.

    Returns:
        An empty list where no label of these pictures has both a positive and a negative.

    Raises:
        InputError, DataChangedError: see `answer_split`.
    """
    spread = np.unique(np.linspace(0, len(data) - 1, PICTURES).round().astype(int))
    few = data.subset(np.random.default_rng(0).permutation(spread))
    answers: dict[str, list[np.ndarray]] = {}
    started = time.perf_counter()
    for start in range(0, len(few), _SOME):
        if start and time.perf_counter() - started > MOST_SECONDS:
            few = few.subset(np.arange(start))
            break
        pictures = [few.picture(row) for row in range(start, min(start + _SOME, len(few)))]
        for name, pixels in _prepared(pictures, preprocess, colors, fractional):
            answers.setdefault(name, []).append(answer(pixels))
    if not labels_counted(few.targets, few.ignore):
        return []
    scored = {
        name: Scored(few.targets, few.scores(np.concatenate(parts)), few.ignore) for name, parts in answers.items()
    }
    before = scored.pop(_STATED)
    given = mean_average_precision(*before)
    found = []
    for name, after in scored.items():
        if not np.isfinite(after.scores).all():  # these pixels are far from those that the model learnt with
            continue
        drop = drop_interval(before, after)
        gain = None if drop is None else (-drop[1], -drop[0])
        reached = mean_average_precision(*after)
        found.append(Relative(what=name, mAP=reached, given=given, gain=gain, pictures=len(few)))
    return found


def tell_relatives(name: str, relatives: list[Relative]) -> None:
    """Say what a model reaches with each relative of its stated preprocessing, with a caution where one wins clearly.

    Args:
        name: what the model is called in the message.
        relatives: what `compare_relatives` found.
    """
    if not relatives:
        return
    rest = ", ".join(f"{one.what}: {100 * one.mAP:.2f}" for one in relatives)
    log.info(
        "%s: on %d pictures mAP %.2f as stated; if it is stated differently, %s",
        *(name, relatives[0].pictures, 100 * relatives[0].given, rest),
    )
    winners = [one for one in relatives if one.wins]
    if winners:
        best = max(winners, key=lambda one: one.mAP)
        assert best.gain is not None
        log.warning(
            "caution: %s: mAP would be %.2f instead of %.2f (%.1f to %.1f points more, 95 %%) with %s: was the model "
            "trained so?",
            *(name, 100 * best.mAP, 100 * best.given, *best.gain, best.what),
        )


def _prepared(
    pictures: list[np.ndarray], stated: Preprocess, colors: str, fractional: bool
) -> Iterator[tuple[str, np.ndarray]]:
    """The pictures prepared as stated, which comes first, and in each related way, with its options."""
    pixels = np.stack([stated(picture) for picture in pictures])
    yield _STATED, pixels
    yield f"--colors {'bgr' if colors == 'rgb' else 'rgb'}", np.ascontiguousarray(pixels[..., ::-1])
    for resize in get_args(Resize):
        if resize != stated.resize:
            other = stated.model_copy(update={"resize": resize})
            yield f"--resize {resize}", np.stack([other(picture) for picture in pictures])
    if not fractional:
        return
    turned = slice(None, None, -1 if colors == "bgr" else 1)  # mean and std are in the model's own order of channels
    mean, std = np.float32(stated.mean)[turned], np.float32(stated.std)[turned]
    for theirs in NORMALISATIONS:
        if np.abs(np.subtract(theirs, (stated.mean, stated.std))).max() < _SAME:
            continue
        # Pictures that the stated mean and std, which are inside the model, turn into what these would give.
        wanted = (pixels.astype(np.float32) / 255 - np.float32(theirs[0])[turned]) / np.float32(theirs[1])[turned]
        said = [f"--{word} {','.join(f'{v:.6g}' for v in values)}" for word, values in zip(_WORDS, theirs, strict=True)]
        yield " ".join(said), np.float32(255) * (wanted * std + mean)
