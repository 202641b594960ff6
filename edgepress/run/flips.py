"""Find the pictures on which an engine decides differently from the model it came from."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np

from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.decisions import Decisions
from edgepress.multilabel.pictures import Picture, ShardPicture
from edgepress.multilabel.resampling import resample
from edgepress.run.result import EngineResult, Flip, FlippedPicture, Flips, ShownFlips

MOST_PICTURES = 12
THUMBNAIL = 192
"""Longer side of an embedded picture, in pixels."""
_QUALITY = 72
"""Quality of its JPEG: about 8 kB per picture."""


def find_flips(decisions: Decisions, logits: np.ndarray, reference: np.ndarray, data: MultiLabelDataset) -> Flips:
    """The decisions that differ from the reference's, and at most `MOST_PICTURES` pictures with the surest of them.

    How sure a flip is depends on both models: it is the sum of the two distances between probability and threshold. A
    picture is as sure as its surest flip.

    Args:
        decisions: the engine's, in the order of the labels of `data`; the reference uses those that they were refitted
            from, or the same.
        logits: the engine's `[N, C]`, like `reference` in the order of the pictures and labels of `data`.
    """
    theirs = decisions.refitted_from or decisions
    before, after = theirs.probabilities(reference), decisions.probabilities(logits)
    was, now = theirs.decide(reference), decisions.decide(logits)
    flipped = (was != now) & ~data.ignore
    margins = np.abs(before - np.array(theirs.thresholds)) + np.abs(after - np.array(decisions.thresholds))
    surest = np.where(flipped, margins, -1.0).max(axis=1)
    order = [int(row) for row in np.argsort(-surest, kind="stable") if surest[row] >= 0]

    def shown(row: int) -> FlippedPicture:
        columns = [column for column in np.argsort(-margins[row], kind="stable") if flipped[row, column]]
        return FlippedPicture(
            index=row,
            picture=name_of(data.paths[row], data.root),
            truth=_names(data, data.targets[row] == 1),
            unknown=_names(data, data.ignore[row]),
            before=_answers(data, was[row], before[row]),
            after=_answers(data, now[row], after[row]),
            flips=tuple(
                Flip(
                    label=data.labels.names[column],
                    before=float(before[row, column]),
                    after=float(after[row, column]),
                    answer=bool(now[row, column]),
                    right=bool(now[row, column] == (data.targets[row, column] == 1)),
                )
                for column in columns
            ),
        )

    return Flips(
        decisions=int((~data.ignore).sum()),
        flipped=int(flipped.sum()),
        right=int((flipped & (now == (data.targets == 1))).sum()),
        pictures=len(order),
        shown=tuple(shown(row) for row in order[:MOST_PICTURES]),
    )


def shown_flips(result: EngineResult | None, data: MultiLabelDataset) -> ShownFlips | None:
    """What `find_flips` found for an engine, with a thumbnail of each shown picture; None without an engine.

    Raises:
        DataChangedError: see `MultiLabelDataset.stored`.
    """
    if result is None or result.flips is None:
        return None
    found = result.flips
    shown = tuple(one.model_copy(update={"jpeg": thumbnail(data.picture(one.index))}) for one in found.shown)
    given = {name: value for name, value in found if name != "shown"}
    return ShownFlips(engine=result.engine, finetuned=result.finetuned, shown=shown, **given)


def thumbnail(image: np.ndarray) -> str:
    """A picture uint8 RGB, scaled to at most `THUMBNAIL` pixels per side, as base64 of a JPEG without metadata."""
    scale = min(1.0, THUMBNAIL / max(image.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    small = cv2.cvtColor(resample(image, height, width), cv2.COLOR_RGB2BGR)
    written, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    assert written, "OpenCV writes any uint8 picture"
    return base64.b64encode(data.tobytes()).decode()


def name_of(path: Picture, root: Path) -> str:
    """A picture's name in a report: its path in the data set; bytes that are not text are shown escaped."""
    if isinstance(path, ShardPicture):
        name = f"{path.shard.path.name}:{path.name}"
    else:
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    return name.encode("utf-8", "backslashreplace").decode()


def _names(data: MultiLabelDataset, mask: np.ndarray) -> tuple[str, ...]:
    return tuple(data.labels.names[column] for column in np.flatnonzero(mask))


def _answers(data: MultiLabelDataset, decided: np.ndarray, p: np.ndarray) -> tuple[tuple[str, float], ...]:
    """The labels of one picture that are answered yes, with their probabilities, the most probable first."""
    order = np.argsort(-p, kind="stable")
    return tuple((data.labels.names[column], float(p[column])) for column in order if decided[column])
