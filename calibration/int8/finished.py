"""Candidates that a search has finished, kept on disk so that an interrupted search continues after them."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from edgepress.multilabel.bundle import write_atomically

_INPUTS, _RESULT = "inputs", "result.json"


class Finished:
    """A hidden folder with one folder per candidate; the result is written last, so its presence means completeness.

    Args:
        folder: it is made if it is missing; what another search left in it is removed.
        inputs: a hash of everything that a result depends on.
    """

    def __init__(self, folder: Path, inputs: str) -> None:
        self.folder = folder
        named = folder / _INPUTS
        if not named.is_file() or named.read_text(encoding="utf-8") != inputs:
            shutil.rmtree(folder, ignore_errors=True)
            write_atomically(named, inputs.encode())

    def folder_of(self, candidate: tuple) -> Path:
        return self.folder / hashlib.sha256(json.dumps(candidate).encode()).hexdigest()[:16]

    def load(self, candidate: tuple) -> dict[str, Any] | None:
        """Return the result of a finished candidate; remove everything of an unfinished one."""
        folder = self.folder_of(candidate)
        if (folder / _RESULT).is_file():
            return json.loads((folder / _RESULT).read_text(encoding="utf-8"))
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return None

    def save(self, candidate: tuple, result: dict[str, Any]) -> None:
        write_atomically(self.folder_of(candidate) / _RESULT, json.dumps(result).encode())

    def remove(self) -> None:
        """Remove the folder when the search is over."""
        shutil.rmtree(self.folder, ignore_errors=True)
