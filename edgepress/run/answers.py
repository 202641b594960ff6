"""answers: an engine's logits for every picture of a data set, in a file that teaches where the engine cannot run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgepress.deploy.engines import Engine
from edgepress.deploy.tag.ahead import decode_ahead
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.plural import plural
from edgepress.multilabel.stored_answers import StoredAnswers, write_answers

log = logging.getLogger("edgepress")


def store_answers(engine: Engine, splits: Sequence[MultiLabelDataset], out: Path, batch: int = 32) -> StoredAnswers:
    """Write an engine's logits for the pictures of splits, each content once, named by the sha256 of its file.

    Pictures are decoded ahead by threads.

    Raises:
        InputError: a logit is not finite (the message names the picture); see also `write_answers`.
        DataChangedError: see `MultiLabelDataset.stored`.
    """
    hashes: list[str] = []
    parts: list[np.ndarray] = []
    for split in splits:
        names, done = split.hashes(), len(hashes)
        first = {name: row for row, name in reversed(list(enumerate(names)))}
        known = set(hashes)
        rows = sorted(place for name, place in first.items() if name not in known)

        def load(row: int, split: MultiLabelDataset = split) -> np.ndarray:
            return engine.preprocess(split.picture(row))

        for pixels in decode_ahead(load, rows, batch):
            logits = engine(pixels)
            asked = rows[len(hashes) - done :][: len(logits)]
            finite = np.isfinite(logits).all(axis=1)
            if not finite.all():
                raise InputError(f"{split.paths[asked[int(np.argmin(finite))]]}: the engine's logits are not finite")
            parts.append(logits)
            hashes += [names[row] for row in asked]
        answered = plural(len(hashes) - done, "picture")
        log.info("%s: answers for %s of %s", engine.bundle.name, answered, split.split)
    return write_answers(out, engine.labels, hashes, np.concatenate(parts))
