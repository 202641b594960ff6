"""golden/answers.json: what a bundle answers to the pictures that are stored in it, for programs in any language.

It is written with every bundle that has such pictures, by that bundle's own decisions, so that it never tells those of
the bundle that it was made from.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from edgepress.multilabel.decisions import Decisions
from edgepress.multilabel.errors import InputError, first_mistake

GOLDEN = "golden.npz"
"""The stored pictures, prepared for the model, and the logits; `deploy.engines.golden` reads it."""
FOLDER = "golden"
"""The folder of the stored pictures as files, and of what else is known of them."""
DECODED = f"{FOLDER}/decoded.npz"
"""The decoded pixels uint8 RGB `[H, W, 3]` of each row of `GOLDEN`, under the row's number."""
ANSWERS = f"{FOLDER}/answers.json"


def is_proof(name: str) -> bool:
    """Whether a bundle's file serves proofs alone, so that a runtime and a device's storage need not have it."""
    return name.endswith(".npz") or name.startswith(f"{FOLDER}/")


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)


class GoldenAnswer(_Stored):
    """A stored picture, and the answers to it where the model was made."""

    file: str
    """Its name in the bundle."""
    width: int
    """Of the decoded picture, upright, in pixels."""
    height: int
    decoded_sha256: str
    """sha256 of its decoded pixels: bytes in the order row, column, channel (red, green, blue)."""
    prepared_sha256: str
    """sha256 of the pixels that the model takes, in the same order."""
    logits: tuple[float, ...]
    probabilities: tuple[float, ...]
    tags: tuple[str, ...]
    """The labels that are answered yes, in the order of `labels`."""


class GoldenAnswers(_Stored):
    """What `golden/answers.json` holds."""

    labels: tuple[str, ...]
    """The names of the logits, in their order."""
    pictures: tuple[GoldenAnswer, ...]

    @classmethod
    def parse(cls, data: bytes, name: str) -> GoldenAnswers:
        """Read what `store_answers` wrote; unknown fields are passed over.

        Raises:
            InputError: it is something else; the message calls it `name`.
        """
        try:
            found = cls.model_validate_json(data)
        except ValidationError as error:
            raise InputError(f"{name}: not a file that edgepress made ({first_mistake(error)})") from None
        if any({len(one.logits), len(one.probabilities)} != {len(found.labels)} for one in found.pictures):
            raise InputError(f"{name}: not a file that edgepress made (expected a logit and a probability per label)")
        return found


def store_answers(folder: Path, decisions: Decisions) -> None:
    """Write `golden/answers.json` into a bundle's folder by these decisions; nothing where it stores no pictures."""
    if not (folder / DECODED).is_file() or not (folder / GOLDEN).is_file():
        return
    with np.load(io.BytesIO((folder / GOLDEN).read_bytes()), allow_pickle=False) as file:
        prepared, logits = file["pictures"], file["answers"] if "answers" in file.files else file["logits"]
    with np.load(folder / DECODED, allow_pickle=False) as file:
        decoded = [file[name] for name in sorted(file.files, key=int)]
    probabilities = decisions.probabilities(logits)
    answers = decisions.answers(probabilities)
    told = [
        GoldenAnswer(
            file=file.relative_to(folder).as_posix(),
            width=decoded[row].shape[1],
            height=decoded[row].shape[0],
            decoded_sha256=pixels_sha256(decoded[row]),
            prepared_sha256=pixels_sha256(prepared[row]),
            logits=logits[row].tolist(),
            probabilities=probabilities[row].tolist(),
            tags=tuple(label for label, yes in zip(decisions.labels, answers[row], strict=True) if yes),
        )
        for file, row in picture_files(folder)
    ]
    (folder / ANSWERS).write_text(
        GoldenAnswers(labels=decisions.labels, pictures=tuple(told)).model_dump_json(indent=1) + "\n", encoding="utf-8"
    )


def picture_files(folder: Path) -> list[tuple[Path, int]]:
    """The files of the stored pictures in a bundle's folder, each with its row in `GOLDEN`, which its name is."""
    found = [file for file in (folder / FOLDER).iterdir() if file.suffix in (".jpg", ".png")]
    return [(file, int(file.stem)) for file in sorted(found)]


def pixels_sha256(pixels: np.ndarray) -> str:
    """sha256 of a picture's bytes, uint8 `[H, W, 3]`."""
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()
