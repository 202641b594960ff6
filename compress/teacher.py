"""The teacher's outputs on a batch: computed when needed, or once per epoch and kept on disk.

A picture's augmentation is determined by (seed, epoch, index), so the teacher's outputs on it can be stored and read
by every student that learns from the same pictures: the teacher's forward pass is computed only once.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from edgepress.compress.features import Features, FeatureTaps
from edgepress.compress.foreign import OnnxTeacher
from edgepress.compress.loader import Augmentation, Batch, batches, make_loader
from edgepress.compress.models import MultiLabelModel
from edgepress.multilabel.bundle import inputs_hash
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.durable import give_name, make_folder
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.lock import in_turn

log = logging.getLogger("edgepress")


class Teacher(Protocol):
    """Returns logits `[B, C]` and label-wise embeddings `[B, C, dim]` of a batch, without gradient."""

    embedding_dim: int

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]: ...


class Ensemble(nn.Module):
    """Several models, or several views of a picture, that answer as one.

    Logits are averaged. Label-wise embeddings are averaged over the views and concatenated over the models, so that
    the distance between two embeddings is the root of the models' summed squares.

    Args:
        models: models with one label space and one preprocessing size.
        mirrored: whether to average over the picture and its mirror image.

    Raises:
        InputError: the models differ in labels, size or resize.
    """

    def __init__(self, models: Sequence[MultiLabelModel | OnnxTeacher], mirrored: bool) -> None:
        super().__init__()
        first = models[0]
        for other in models[1:]:
            other.labels.require_equal(first.labels, "a further teacher", "the first teacher")
            ours, theirs = first.preprocess, other.preprocess
            if (ours.size, ours.resize) != (theirs.size, theirs.resize):
                raise InputError(
                    f"teachers see pictures of {ours.size} px ({ours.resize}) and {theirs.size} px ({theirs.resize}); "
                    f"expected the same for all of an ensemble"
                )
        self.models, self.mirrored = nn.ModuleList(models), mirrored
        self.preprocess = first.preprocess

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Turn uint8 RGB `[B, size, size, 3]` into logits `[B, C]` and label-wise embeddings `[B, C, sum of dims]`."""
        logits, embeddings = zip(*(self._views(model, images) for model in self.models), strict=True)
        return torch.stack(logits).mean(dim=0), torch.cat(embeddings, dim=2)

    def logits(self, images: Tensor) -> Tensor:
        """Turn uint8 RGB `[B, size, size, 3]` into logits `[B, C]`."""
        return self(images)[0]

    @property
    def embedding_dim(self) -> int:
        """Width of the label-wise embeddings of all models together."""
        return sum(model.embedding_dim for model in self.models)

    def _views(self, model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
        if not self.mirrored:
            return model(images)
        other_logits, other_embeddings = model(images.flip(2))
        logits, embeddings = model(images)  # it is last because taps keep the features of the last pass
        return (logits + other_logits) / 2, (embeddings + other_embeddings) / 2


AnyTeacher: TypeAlias = MultiLabelModel | OnnxTeacher | Ensemble
"""Any model that returns logits and label-wise embeddings of pictures."""


class LiveTeacher:
    """The model itself, applied to the batch's `teacher_images`."""

    def __init__(self, model: AnyTeacher) -> None:
        self.model = model.eval().requires_grad_(False)
        self.embedding_dim = model.embedding_dim
        self._taps: FeatureTaps | None = None

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        assert batch.teacher_images is not None
        with torch.no_grad():
            return self.model(batch.teacher_images)

    def tap(self) -> list[int]:
        """Tap the backbone (of an ensemble's first model); returns the widths of its maps, from shallow to deep."""
        model = self.model.models[0] if isinstance(self.model, Ensemble) else self.model
        assert isinstance(model, MultiLabelModel)
        self._taps = FeatureTaps(model.backbone, size=model.config.size)
        return self._taps.channels()

    def features(self) -> Features:
        """Return the features of the last batch; `tap` must be called before."""
        assert self._taps is not None
        return self._taps.take()


class CachedTeacher:
    """The model's outputs on every augmented picture of an epoch, in files that are made when first requested.

    All logits are kept, but embeddings only where the target is 1 (in an unlabelled picture: where the teacher is
    sure), because CD and ID use no other rows; elsewhere, embeddings are 0. Files are memory-mapped float32.

    Args:
        folder: the folder of the files; several data sets, teachers, augmentations and processes may share it.
        identity: sha256 of the teacher, or another value that distinguishes it.
        unlabelled: pictures that follow those of `train`.
        sure: the teacher's probability from which an unlabelled picture has a label.
        mixed_precision: that of the students' training, in which a teacher without a cache would run.
    """

    def __init__(
        self,
        model: AnyTeacher,
        train: MultiLabelDataset,
        augmentation: Augmentation,
        folder: Path,
        *,
        identity: str,
        augment_size: int,
        batch_size: int,
        workers: int,
        device: torch.device,
        unlabelled: MultiLabelDataset | None = None,
        sure: float = 0.9,
        mixed_precision: str = "no",
    ) -> None:
        key: dict[str, object] = {
            "teacher": identity,
            "train": train.fingerprint(),
            # The first variations are the same, whether there are a fixed number of them or one per epoch.
            "augmentation": str(replace(augmentation, variations=None)),
            "size": augment_size,
            "precision": mixed_precision,
            "format": 2,
        }
        if unlabelled is not None:
            key |= {"unlabelled": unlabelled.fingerprint(), "sure": sure}
        self.model, self.train, self.folder = model.eval().requires_grad_(False), train, folder / inputs_hash(key)[:16]
        self.embedding_dim = model.embedding_dim
        self.augmentation, self.augment_size = augmentation, augment_size
        self.batch_size, self.workers, self.device = batch_size, workers, device
        self.unlabelled, self.sure, self.mixed_precision = unlabelled, sure, mixed_precision
        self._open: tuple[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None = None

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        variation = self.augmentation.variation(batch.epoch)
        if self._open is None or self._open[0] != variation:
            logits, rows, kept = self._files(variation)
            self._open = (variation, logits, rows, kept, np.concatenate([[0], np.cumsum(kept.sum(axis=1))]))
        _, logits, rows, kept, start = self._open
        index = batch.index.cpu().numpy()
        pictures, labels = np.nonzero(kept[index])
        places = np.concatenate([np.arange(start[i], start[i + 1]) for i in index]) if len(index) else index
        embeddings = torch.zeros(len(index), logits.shape[1], rows.shape[1], device=batch.targets.device)
        embeddings[torch.from_numpy(pictures), torch.from_numpy(labels)] = torch.from_numpy(rows[places]).to(
            batch.targets.device
        )
        return torch.from_numpy(logits[index]).to(batch.targets.device), embeddings

    def _files(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Logits `[N, C]`, the kept embeddings `[P, dim]`, and a mask `[N, C]` of the cells that these belong to."""
        paths = [self.folder / f"epoch-{epoch:04d}-{name}.npy" for name in ("logits", "embeddings", "kept")]
        if not all(path.is_file() for path in paths):
            make_folder(self.folder)
            with in_turn(self.folder.with_suffix(".lock"), "the teacher's outputs"):
                if not all(path.is_file() for path in paths):  # another process may have made them meanwhile
                    self._write(epoch, paths)
        logits, rows, kept = (np.load(path, mmap_mode="r", allow_pickle=False) for path in paths)
        return logits, rows, kept

    def _write(self, epoch: int, paths: list[Path]) -> None:
        log.info("the teacher's outputs of epoch %d are computed once and kept in %s", epoch + 1, self.folder)
        labels = len(self.train.labels)
        with (
            _npy_of_rows(paths[0], np.float32, labels) as write_logits,
            _npy_of_rows(paths[1], np.float32, self.embedding_dim) as write_rows,
            _npy_of_rows(paths[2], np.bool_, labels) as write_kept,
        ):
            for logits, rows, kept in self._compute(epoch):
                write_logits(logits)
                write_rows(rows)
                write_kept(kept)

    @torch.inference_mode()
    def _compute(self, epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Compute what `_files` returns, one batch at a time, because the pictures may not fit in memory."""
        loader = make_loader(
            self.train,
            [self.model.preprocess],
            batch_size=self.batch_size,
            workers=self.workers,
            augmentation=self.augmentation,
            augment_size=self.augment_size,
            in_order=True,
            device=self.device,
            unlabelled=self.unlabelled,
        )
        half = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(self.mixed_precision)
        for batch in batches(loader, epoch, loader):
            with torch.autocast(self.device.type, dtype=half, enabled=half is not None):
                some, embeddings = self.model(batch.images.to(self.device))
            logits = some.float().cpu()
            kept = torch.where(batch.labelled[:, None], batch.targets == 1, logits.sigmoid() >= self.sure)
            yield logits.numpy(), embeddings.cpu()[kept].float().numpy(), kept.numpy()


@contextlib.contextmanager
def _npy_of_rows(path: Path, dtype: type, width: int) -> Iterator[Callable[[np.ndarray], None]]:
    """Write an .npy file `[rows, width]` by appending arrays of rows; it gets its name when all rows are there.

    Their number is written last: numpy pads a header so that the first axis can grow in place.
    """
    partial, count = path.with_name(f".partial-{path.name}"), 0

    def write_header() -> None:
        descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
        np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": (count, width)})

    def append(rows: np.ndarray) -> None:
        nonlocal count
        assert (rows.shape[1], rows.dtype) == (width, dtype)
        file.write(rows.tobytes())
        count += len(rows)

    try:
        with partial.open("wb") as file:
            write_header()
            begin = file.tell()
            yield append
            file.seek(0)
            write_header()
            assert file.tell() == begin
        give_name(partial, path)
    except BaseException:  # a full disk, or an interruption
        partial.unlink(missing_ok=True)
        raise
