"""frozen: what a backbone that does not learn makes of a picture, computed once and not in every epoch."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

log = logging.getLogger("edgepress")

_DIGEST = 16
"""Bytes of a picture's digest."""


class SeenPictures:
    """The tokens of the pictures that a frozen backbone has seen, on the disk.

    Pictures are told apart by their pixels, so a mirror image is another picture, and nothing here knows how pictures
    are augmented. Tokens are kept in full: a picture gives the same whether it was seen before or not.

    Args:
        file: where tokens are kept. It belongs to one training, because it says nothing of the backbone.
        shape: number and width of a picture's tokens.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     seen = SeenPictures(Path(folder, "tokens"), (1, 2))
        ...     pictures = torch.zeros(1, 4, 4, 3, dtype=torch.uint8)
        ...     _ = seen(pictures, lambda new: torch.ones(len(new), 1, 2))
        ...     seen(pictures, lambda new: torch.zeros(len(new), 1, 2))
        tensor([[[1., 1.]]])
    """

    def __init__(self, file: Path, shape: tuple[int, int]) -> None:
        self._shape, self._bytes = shape, row_bytes(shape)
        self._rows: dict[bytes, int] = {}
        self._keeps = True
        file.touch()
        self._file = file.open("r+b", buffering=0)

    def __call__(self, images: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """Tokens float32 `[B, S, features]` of uint8 pictures `[B, size, size, 3]`, without gradient.

        Args:
            compute: turns those of the pictures that are new into their tokens.

        Raises:
            OSError: somebody else changed the file.
        """
        digests = [hashlib.blake2b(one.contiguous().numpy(), digest_size=_DIGEST).digest() for one in images]
        new = [place for place, digest in enumerate(digests) if digest not in self._rows]
        tokens = torch.empty(len(digests), *self._shape)
        for place, digest in enumerate(digests):
            if digest in self._rows:
                self._file.seek(self._rows[digest] * self._bytes)
                if self._file.readinto(tokens[place].numpy()) != self._bytes:
                    raise OSError(f"{self._file.name}: was cut off while it was in use; begin again")
        if new:
            with torch.no_grad():
                tokens[new] = compute(images[new]).float()
            for place in new:
                self._keep(digests[place], tokens[place])
        return tokens

    @property
    def index(self) -> Tensor:
        """uint8 `[pictures, 16]`: whose tokens the file holds, in its order; they are on the disk then."""
        os.fsync(self._file.fileno())
        return torch.from_numpy(np.frombuffer(bytearray(b"".join(self._rows)), np.uint8).reshape(-1, _DIGEST))

    @index.setter
    def index(self, index: Tensor) -> None:
        held = os.fstat(self._file.fileno()).st_size // self._bytes
        if len(index) <= held:  # otherwise the file was removed, and all is computed again
            self._rows = {row.tobytes(): number for number, row in enumerate(index.numpy())}

    def close(self) -> None:
        """Close the file; the pictures cannot be asked about any more."""
        self._file.close()

    def _keep(self, digest: bytes, tokens: Tensor) -> None:
        if not self._keeps or digest in self._rows:  # it may be in this batch twice
            return
        why: object = "the disk is full"
        try:
            self._file.seek(len(self._rows) * self._bytes)
            written = self._file.write(tokens.contiguous().numpy())
        except OSError as error:
            written, why = 0, error
        if written == self._bytes:
            self._rows[digest] = len(self._rows)
            return
        self._keeps = False
        log.warning(
            "what the backbone makes of further pictures is computed in each epoch: %s (%s)", self._file.name, why
        )


def row_bytes(shape: tuple[int, int]) -> int:
    """Bytes of a picture's tokens, of which there are so many of such a width."""
    return 4 * math.prod(shape)


def file_for(folder: Path, inputs: str, pictures: int, shape: tuple[int, int]) -> Path | None:
    """The file in which a training keeps tokens; None, which is told, where they would take over half of the free disk.

    Files of other trainings in the folder are removed, because their tokens may be of another backbone.

    Args:
        inputs: what tells the training apart from others.
        pictures: how many there may be at most, with each variation as a picture of its own.
        shape: number and width of a picture's tokens.
    """
    file = folder / f"tokens-{hashlib.sha256(inputs.encode()).hexdigest()[:16]}"
    for other in folder.glob("tokens-*"):
        if other != file:
            other.unlink()
    needed = pictures * row_bytes(shape)
    free = shutil.disk_usage(folder).free + (file.stat().st_size if file.exists() else 0)
    told = max(1, round(needed / 1e6)), max(1, round(free / 1e6)), folder
    if needed > free / 2:
        log.warning(
            "the backbone sees every picture in every epoch, because what it makes of them would take %d MB, and %d MB "
            "are free in %s",
            *told,
        )
        return None
    log.info("the backbone does not learn, so it sees each picture once: what it makes of them is kept, %d MB", told[0])
    return file
