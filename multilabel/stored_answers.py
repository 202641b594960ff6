"""StoredAnswers: what a teacher said about pictures, in a file, for a teacher that cannot run here.

An .npz file has the arrays `pictures` `[N]` and `labels` `[C]` (text), and one of `logits`, `probabilities` and
`scores` `[N, C]`. A .parquet file has the column `picture`, and a column `logits`, `probabilities` or `scores` of
structs with a field per label. A picture is named by its path from the data set's folder, or by the sha256 of its file.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from edgepress.multilabel.bundle import file_sha256, write_atomically
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.facts import Parent
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.metrics import logit
from edgepress.multilabel.pictures import ShardPicture
from edgepress.multilabel.plural import plural

Scale = Literal["logits", "probabilities", "scores"]
"""What the numbers are; `scores` rise with the label and have no scale, such as cosine similarities."""
SUFFIXES = (".npz", ".parquet")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAMED = 8
"""Most pictures that a message names."""
_ROUNDED = 1e-3
"""By how much the sum of probabilities may differ from 1, because half precision rounds them."""


@dataclass(frozen=True, eq=False, kw_only=True)
class StoredAnswers:
    """A teacher's answers for pictures, each picture once."""

    path: Path
    labels: LabelSpace
    pictures: tuple[str, ...]
    """`[N]`, paths from the data set's folder, or hashes."""
    logits: np.ndarray
    """float32 `[N, C]`; of probabilities, their logits."""
    scale: Scale
    digest: str
    """sha256 of the file."""
    kind: Literal["answers"] = "answers"

    @property
    def as_parent(self) -> Parent:
        return Parent(name=self.path.name, digest=self.digest)

    @property
    def by_hash(self) -> bool:
        """Whether pictures are named by the sha256 of their files."""
        return _SHA256.fullmatch(self.pictures[0]) is not None

    @classmethod
    def read(cls, path: Path) -> StoredAnswers:
        """Read a file of answers.

        Raises:
            InputError: it is no such file, a picture or a label occurs twice, a number is not finite, a
                probability is outside of 0..1, all logits are within 0..1, or they are those of a LogSoftmax.
        """
        pictures, names, scale, values = (_read_parquet if path.suffix == ".parquet" else _read_npz)(path)
        try:
            labels = LabelSpace(tuple(names))
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        if values.shape != (len(pictures), len(labels)) or values.dtype.kind != "f" or not len(pictures):
            raise InputError(
                f"{path}: {scale} are {values.dtype} {list(values.shape)} for {len(pictures)} pictures and "
                f"{len(labels)} labels; expected floating-point numbers [pictures, labels]"
            )
        _require_names(path, pictures)
        _require_numbers(path, scale, values, pictures, labels)
        values = values.astype(np.float32)
        return cls(
            path=path,
            labels=labels,
            pictures=tuple(pictures),
            logits=logit(values) if scale == "probabilities" else values,
            scale=scale,
            digest=file_sha256(path),
        )

    def has(self, data: MultiLabelDataset) -> int:
        """How many pictures of a split there are answers for."""
        known = set(self.pictures)
        return sum(name in known for name in self._names(data))

    def rows(self, data: MultiLabelDataset) -> np.ndarray:
        """int64 `[N]`, the row of the answer for each picture of a split.

        Raises:
            InputError: a picture has no answer; the message says which.
        """
        places = {name: row for row, name in enumerate(self.pictures)}
        names = self._names(data)
        missing = [place for place, name in enumerate(names) if name not in places]
        if missing:
            shown = ", ".join(str(data.paths[place]) for place in missing[:_NAMED])
            more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
            alike = f"; its pictures are named such as {self.pictures[0]!r}, the data set's {names[0]!r}"
            raise InputError(
                f"{self.path}: answers for {len(data) - len(missing)} of {len(data)} pictures of {data.split!r}; "
                f"missing {shown}{more}{alike if len(missing) == len(data) else ''}"
            )
        return np.array([places[name] for name in names], dtype=np.int64)

    def _names(self, data: MultiLabelDataset) -> list[str]:
        if self.by_hash:
            return data.hashes()
        if any(isinstance(path, ShardPicture) for path in data.paths):
            raise InputError(f"{self.path}: names files, but the pictures of {data.root} are in shards: name sha256")
        return [path.relative_to(data.root).as_posix() for path in data.paths if isinstance(path, Path)]


def write_answers(path: Path, labels: LabelSpace, pictures: Sequence[str], logits: np.ndarray) -> StoredAnswers:
    """Write logits float32 `[N, C]` as a file of answers, .npz or .parquet, completely or not at all.

    Raises:
        InputError: the path has another suffix; see also `StoredAnswers.read`.
    """
    buffer = io.BytesIO()
    if path.suffix == ".npz":
        np.savez_compressed(buffer, pictures=np.array(pictures), labels=np.array(labels.names), logits=logits)
    elif path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        struct = pa.StructArray.from_arrays([pa.array(column) for column in logits.T], names=list(labels.names))
        pq.write_table(pa.table({"picture": list(pictures), "logits": struct}), buffer)
    else:
        raise InputError(f"{path}: expected a file that ends in {' or '.join(SUFFIXES)}")
    write_atomically(path, buffer.getvalue())
    return StoredAnswers.read(path)


def _read_npz(path: Path) -> tuple[list[str], list[str], Scale, np.ndarray]:
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no .npz file" if path.is_file() else "there is no such file")
        with np.load(path, allow_pickle=False) as file:
            scale = _scale(path, file.files, "the arrays pictures, labels")
            pictures, labels, values = file["pictures"], file["labels"], file[scale]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not a file of stored answers ({' '.join(str(error).split())[:160]})") from None
    for name, texts in (("pictures", pictures), ("labels", labels)):
        if texts.dtype.kind != "U" or texts.ndim != 1:
            raise InputError(f"{path}: {name} is {texts.dtype} {list(texts.shape)}; expected a list of text")
    return pictures.tolist(), labels.tolist(), scale, values


def _read_parquet(path: Path) -> tuple[list[str], list[str], Scale, np.ndarray]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: not a Parquet file ({' '.join(str(error).split())[:160]})") from None
    scale = _scale(path, table.column_names, "the columns picture")
    structs = table.column(scale).combine_chunks()
    pictures = table.column("picture").to_pylist()
    if not pa.types.is_struct(structs.type) or not all(isinstance(name, str) for name in pictures):
        raise InputError(f"{path}: expected text in picture, and in {scale} structs with a number per label")
    names = [field.name for field in structs.type]
    columns = [column.to_numpy(zero_copy_only=False) for column in structs.flatten()]
    return pictures, names, scale, np.stack(columns, axis=1) if columns else np.zeros((len(pictures), 0))


def _scale(path: Path, names: Sequence[str], others: str) -> Scale:
    found = [name for name in get_args(Scale) if name in names]
    wanted = "picture" if path.suffix == ".parquet" else "pictures"
    if len(found) != 1 or wanted not in names:
        raise InputError(
            f"{path}: holds {', '.join(names) or 'nothing'}; expected {others} and one of {', '.join(get_args(Scale))}"
        )
    return found[0]


def _require_names(path: Path, pictures: list[str]) -> None:
    twice = [name for name, count in Counter(pictures).items() if count > 1]
    if twice:
        shown = ", ".join(twice[:_NAMED])
        raise InputError(
            f"{path}: {plural(len(twice), 'picture occurs', 'pictures occur')} twice ({shown}); expected each once"
        )
    hashes = sum(_SHA256.fullmatch(name) is not None for name in pictures)
    if hashes not in (0, len(pictures)):
        raise InputError(
            f"{path}: {hashes} of {len(pictures)} pictures are named by a sha256; expected all, or none: paths from "
            f"the data set's folder"
        )


def _require_numbers(path: Path, scale: Scale, values: np.ndarray, pictures: list[str], labels: LabelSpace) -> None:
    wrong = ~np.isfinite(values)
    if scale == "probabilities":
        wrong |= (values < 0) | (values > 1)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        expected = "numbers within 0..1; are they logits?" if scale == "probabilities" else "finite numbers"
        raise InputError(
            f"{path}: {scale} has {values[row, column]:g} for {pictures[row]!r}, {labels.names[column]!r} "
            f"({plural(int(wrong.any(axis=1).sum()), 'picture has', 'pictures have')} such); expected {expected}"
        )
    if scale == "logits" and values.min() >= 0 and values.max() <= 1:
        raise InputError(
            f"{path}: all logits are within 0..1, as probabilities are: call them probabilities if they are; call them "
            f"scores if they have another scale, such as cosine similarities"
        )
    if scale == "logits" and len(labels) > 1 and values.max() <= 0:
        apart = np.abs(np.exp(values.astype(np.float64)).sum(axis=1) - 1).max()
        if apart <= _ROUNDED:
            raise InputError(
                f"{path}: its logits are logarithms of probabilities that add up to 1, as a LogSoftmax gives them: "
                f"store the probabilities themselves, or call them scores"
            )
