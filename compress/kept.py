"""A teacher's answers on augmented pictures, computed once and kept for every student that asks again.

A picture's augmentation is determined by the seed, the variation and the picture's content, so an answer belongs to
these alone: a corrected label, a renamed file or a further picture leaves the kept answers as they are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from edgepress.compress.ahead import ahead
from edgepress.compress.answer_files import AnswerFiles
from edgepress.compress.augmentation import Augmentation
from edgepress.compress.examination import Examined
from edgepress.compress.features import Features
from edgepress.compress.held_memory import held_memory
from edgepress.compress.kept_inside import Inside
from edgepress.compress.label_maps import REGIONS
from edgepress.compress.loader import Batch, batches, make_loader
from edgepress.compress.teacher import AnyTeacher
from edgepress.multilabel.bundle import inputs_hash
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.durable import make_folder
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.lock import in_turn
from edgepress.multilabel.metrics import sigmoid

log = logging.getLogger("edgepress")
Need = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From pictures' places `[n]` in a data set and their kept logits `[n, C]` to the cells that need an embedding."""
_BLOCK = 16
"""Batches whose answers are put on the disk at once: what a killed process loses."""
_FORMAT = 3


@dataclass(frozen=True, kw_only=True)
class AnswerStore:
    """A teacher's answers in a folder, which data sets, students and processes may share."""

    model: AnyTeacher
    """In evaluation mode."""
    folder: Path
    identity: str
    """sha256 of the teacher, or another value that distinguishes its answers from others."""
    labels: int
    """Number of its logits."""
    batch_size: int
    workers: int
    device: torch.device
    mixed_precision: str = "no"
    """That of the students' training, in which a teacher that is not kept would run."""
    map_side: int = 0
    """Places on each side of the model's label maps, which are then kept with its answers on augmented pictures; 0 for
    a model that returns none."""
    inside: Inside | None = None
    """What lies inside the model and is kept with its answers on augmented pictures; None for nothing."""

    def plain(self, data: MultiLabelDataset) -> np.ndarray:
        """Logits float32 `[N, C]` for the pictures of a split as they are."""
        files = AnswerFiles(self._stem({}, "plain"), self.labels, None, np.float32)
        rows = self._complete(files, data, None, None, 0, None)
        return np.array(files.logits.mapped()[rows])

    def augmented(
        self, data: MultiLabelDataset, augmentation: Augmentation, size: int, epoch: int, need: Need | None
    ) -> tuple[AnswerFiles, np.ndarray]:
        """The answers for a variation of every picture of a data set: the files, and each picture's row, int64 `[N]`.

        Args:
            size: side at which pictures are augmented.
            need: which embeddings are kept as well; None for none.

        Raises:
            InputError: a logit is not finite; the message names the picture.
        """
        files = self.files(augmentation, size, epoch, embeddings=need is not None)
        return files, self._complete(files, data, augmentation, size, epoch, need)

    def files(self, augmentation: Augmentation, size: int, epoch: int, *, embeddings: bool) -> AnswerFiles:
        """The files of an epoch's variation, whatever they hold so far."""
        # The first variations are the same, whether there are a fixed number of them or one per epoch.
        made_by: dict[str, object] = {"augmentation": str(replace(augmentation, variations=None)), "size": size}
        made_by |= {"embeddings": embeddings, **({"maps": True} if self.map_side else {})}
        made_by |= {"inside": self.inside.identity} if self.inside else {}
        stem = self._stem(made_by, f"variation-{augmentation.variation(epoch):04d}")
        regions = REGIONS if self.map_side else None
        dim = self.model.embedding_dim if embeddings else None
        return AnswerFiles(stem, self.labels, dim, regions=regions, inside=self.inside.width if self.inside else None)

    def _stem(self, made_by: dict[str, object], name: str) -> Path:
        shared = {"teacher": self.identity, "precision": self.mixed_precision, "format": _FORMAT}
        return self.folder / inputs_hash({**shared, **made_by})[:16] / name

    @held_memory()
    def _complete(
        self,
        files: AnswerFiles,
        data: MultiLabelDataset,
        augmentation: Augmentation | None,
        size: int | None,
        epoch: int,
        need: Need | None,
    ) -> np.ndarray:
        """The pictures' rows, after those without an answer got one."""
        hashes = data.hashes()
        rows = files.find(hashes)
        if _lacking(files, rows, need).any():
            folder = files.pictures.path.parent
            make_folder(folder)
            with in_turn(folder.with_suffix(".lock"), "the teacher's answers"):
                files.repair()
                rows = files.find(hashes)  # another process may have computed them meanwhile
                places = np.flatnonzero(_lacking(files, rows, need))
                if len(places):
                    _, first = np.unique([hashes[place] for place in places], return_index=True)
                    places = places[np.sort(first)]  # of several copies of a picture one
                    log.info("%d answers of the teacher are computed once and kept in %s", len(places), folder)
                    # An embedding that another student needed is kept for it.
                    had = np.zeros((len(places), self.labels), bool)
                    if need is not None:
                        again = np.flatnonzero(rows[places] >= 0)
                        had[again] = files.cells.mapped()[rows[places][again]]
                    for block in self._blocks(data, places, had, augmentation, size, epoch, need):
                        names = [hashes[place] for place in block.places]
                        files.append(names, block.logits, block.cells, block.embeddings, block.maps, block.inside)
            rows = files.find(hashes)
        return rows

    @torch.inference_mode()
    def _blocks(
        self,
        data: MultiLabelDataset,
        places: np.ndarray,
        had: np.ndarray,
        augmentation: Augmentation | None,
        size: int | None,
        epoch: int,
        need: Need | None,
    ) -> Iterator[_Answers]:
        """The answers for some pictures, a block at a time, because they may be many.

        Args:
            places: int64 `[n]`, the pictures' places in the data set.
            had: bool `[n, C]`, cells that have an embedding whatever is needed now.
        """
        some = data.subset(places)
        loader = make_loader(
            some,
            [self.model.preprocess],
            batch_size=self.batch_size,
            workers=self.workers,
            augmentation=augmentation,
            augment_size=size,
            in_order=True,
            device=self.device,
        )
        coming = batches(loader, epoch, loader)
        half = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(self.mixed_precision)
        block: list[_Answers] = []
        for batch in coming if self.workers else ahead(coming):
            with torch.autocast(self.device.type, dtype=half, enabled=half is not None):
                answer, embeddings, *maps = self.model(batch.images.to(self.device))
            logits, index = answer.float().cpu().numpy(), batch.index.numpy()
            finite = np.isfinite(logits).all(axis=1)
            if not finite.all():
                picture = some.paths[index[int(np.argmin(finite))]]
                raise InputError(f"{picture}: the teacher's logits for it are not finite (mixed_precision no is safer)")
            found = _Answers(places[index], logits)
            if need is not None:
                kept = had[index] | need(places[index], logits.astype(np.float16).astype(np.float32))
                found = found._replace(cells=kept, embeddings=embeddings.float().cpu().numpy()[kept])
            if self.map_side and augmentation is not None:
                found = found._replace(maps=maps[0].float().cpu().numpy())
            if self.inside is not None and augmentation is not None:
                found = found._replace(inside=self.inside.taken())
            block.append(found)
            if len(block) == (_BLOCK if found.inside is None else 1):  # what lies inside is large
                yield _Answers.joined(block)
                block = []
        if block:
            yield _Answers.joined(block)


class _Answers(NamedTuple):
    """The answers for some pictures; see `AnswerFiles.append`."""

    places: np.ndarray
    """int64 `[N]`, the pictures' places in the data set."""
    logits: np.ndarray
    cells: np.ndarray | None = None
    embeddings: np.ndarray | None = None
    maps: np.ndarray | None = None
    inside: np.ndarray | None = None

    @classmethod
    def joined(cls, block: list[_Answers]) -> _Answers:
        return cls(*(None if parts[0] is None else np.concatenate(parts) for parts in zip(*block, strict=True)))


class KeptTeacher:
    """Answers of a store, as a teacher of augmented pictures; only one variation is open at a time.

    Args:
        train: the pictures of the batches.
        unlabelled: pictures that follow those of `train`.
        embeddings: whether label-wise embeddings are needed: for the labels that a picture has, because CD, ID and
            hints use no others. Elsewhere they are 0.
        sure: the teacher's probability from which an unlabelled picture has a label.
        examined: how its logits become probabilities.
    """

    def __init__(
        self,
        store: AnswerStore,
        train: MultiLabelDataset,
        augmentation: Augmentation,
        augment_size: int,
        *,
        unlabelled: MultiLabelDataset | None = None,
        embeddings: bool = False,
        sure: float = 0.9,
        examined: Examined | None = None,
    ) -> None:
        self.store, self.augmentation, self.augment_size = store, augmentation, augment_size
        self.pictures = train if unlabelled is None else train.followed_by(unlabelled)
        self.embedding_dim = store.model.embedding_dim if embeddings else 0
        self.map_side = store.map_side
        self.embeddings, self.sure, self.labelled = embeddings, sure, len(train)
        self.calibrator = examined.calibrator if examined is not None else None
        self._open: _Open | None = None
        self._batch: tuple[np.ndarray, torch.device] | None = None
        """Rows of the last batch's pictures, and its device."""
        self._last: Tensor | None = None
        """What is kept of the teacher's inside for the last batch, once a term asked for it."""

    def __call__(self, batch: Batch) -> tuple[Tensor, ...]:
        """Return logits float32 `[B, C]`, label-wise embeddings `[B, C, dim]`, and label maps `[B, C, REGIONS]` if the
        store keeps them."""
        variation = self.augmentation.variation(batch.epoch)
        if self._open is None or self._open.variation != variation:
            self._open = None  # what the last variation holds is freed before the next is read
            need = self._need if self.embeddings else None
            found = self.store.augmented(self.pictures, self.augmentation, self.augment_size, batch.epoch, need)
            self._open = _Open.of(variation, *found)
        device, rows = batch.targets.device, self._open.rows[batch.index.cpu().numpy()]
        self._batch, self._last = (rows, device), None
        logits = torch.from_numpy(self._open.logits[rows].astype(np.float32)).to(device)
        embeddings = torch.zeros(*logits.shape, self.embedding_dim, device=device)
        if self.embeddings:
            pictures, labels = np.nonzero(self._open.cells[rows])
            starts = self._open.starts[rows]
            places = np.concatenate([np.arange(start, end) for start, end in starts]) if len(rows) else rows
            kept = torch.from_numpy(np.array(self._open.kept[places])).to(device)
            embeddings[torch.from_numpy(pictures), torch.from_numpy(labels)] = kept
        if not self.map_side:
            return logits, embeddings
        maps = torch.from_numpy(self._open.maps[rows].astype(np.float32)).to(device)
        return logits, embeddings, maps.unflatten(1, (-1, REGIONS))

    def tap(self, most: int) -> list[int]:
        """The widths of the kept feature maps; as `LiveTeacher.tap`."""
        assert self.store.inside is not None
        return list(self.store.inside.channels)

    def remember(self) -> tuple[int, int]:
        """The width and number of places of what its head reads; as `LiveTeacher.remember`."""
        assert self.store.inside is not None
        assert self.store.inside.memory_dims is not None
        return self.store.inside.memory_dims

    def memory(self) -> Tensor:
        """What its head read of the last batch, float32 `[B, S, width]`."""
        assert self.store.inside is not None
        return self.store.inside.memory(self._inside())

    def features(self) -> Features:
        """Its features of the last batch; see `Inside.features`."""
        assert self.store.inside is not None
        return self.store.inside.features(self._inside())

    def _inside(self) -> Tensor:
        """float32 `[B, values]`."""
        if self._last is None:
            assert self._open is not None
            assert self._batch is not None
            rows, device = self._batch
            self._last = torch.from_numpy(self._open.inside[rows].astype(np.float32)).to(device)
        return self._last

    def _need(self, places: np.ndarray, logits: np.ndarray) -> np.ndarray:
        probabilities = sigmoid(logits) if self.calibrator is None else self.calibrator(logits)
        labelled = (places < self.labelled)[:, None]
        return np.where(labelled, self.pictures.targets[places] == 1, probabilities >= self.sure)


@dataclass(frozen=True)
class _Open:
    """The files of one variation, mapped."""

    variation: int
    rows: np.ndarray
    """int64 `[N]`, the row of each picture."""
    logits: np.ndarray
    cells: np.ndarray
    kept: np.ndarray
    starts: np.ndarray
    """int64 `[rows, 2]`, where each row's embeddings begin and end."""
    maps: np.ndarray
    inside: np.ndarray

    @classmethod
    def of(cls, variation: int, files: AnswerFiles, rows: np.ndarray) -> _Open:
        cells = files.cells.mapped()
        ends = np.cumsum(cells.sum(axis=1), dtype=np.int64)
        starts = np.stack([ends - cells.sum(axis=1), ends], axis=1)
        logits, embeddings, maps, inside = (
            one.mapped() for one in (files.logits, files.embeddings, files.maps, files.inside)
        )
        return cls(variation, rows, logits, cells, embeddings, starts, maps, inside)


def _lacking(files: AnswerFiles, rows: np.ndarray, need: Need | None) -> np.ndarray:
    """bool `[N]`, the pictures without an answer, or without an embedding that is needed."""
    lacking = rows < 0
    if need is not None and not lacking.all():
        places = np.flatnonzero(~lacking)
        logits = np.asarray(files.logits.mapped()[rows[places]], np.float32)
        lacking[places] = (need(places, logits) & ~files.cells.mapped()[rows[places]]).any(axis=1)
    return lacking
