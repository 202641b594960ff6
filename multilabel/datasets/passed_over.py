"""Pictures in a data set's folder that are in none of the splits that were read, and why: counted, never silent."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edgepress.multilabel.datasets import MultiLabelDataset, files

UNREAD_SUFFIXES = (".heic", ".heif", ".jp2", ".jxl", ".svg", ".dcm", ".tga", ".psd", ".ppm", ".pgm", ".exr",
                   ".raw", ".dng", ".cr2", ".nef", ".ico", ".mpo", ".pcx", ".pnm")  # fmt: skip
"""Extensions of pictures that are not read from a folder."""


@dataclass(frozen=True)
class PassedOver:
    """A number of pictures that are in no split, all for one reason."""

    pictures: int
    reason: str
    example: str
    """The path of the first one, below the data set's folder."""

    def __str__(self) -> str:
        return f"{self.pictures:,} {self.reason} (such as {self.example})"


def in_one_line(found: Iterable[PassedOver]) -> str | None:
    """How many pictures were passed over, and why; None where there is none.

    Example:
        >>> in_one_line([PassedOver(3, "that train does not list", "old/a.jpg"), PassedOver(1, "hidden", "._b.jpg")])
        'pictures passed over: 3 that train does not list (such as old/a.jpg); 1 hidden (such as ._b.jpg)'
    """
    said = "; ".join(map(str, found))
    return f"pictures passed over: {said}" if said else None


def passed_over(root: Path, splits: Iterable[MultiLabelDataset]) -> list[PassedOver]:
    """Find the pictures below a folder that are in none of the splits, by reason. Links to folders are not followed.

    Args:
        splits: the splits that were read; pictures of others count as passed over.
    """
    splits = list(splits)
    used = {str(path) for split in splits for path in (*split.paths, *split.copies)}
    *names, last = (split.split for split in splits)
    reasons = {
        "named": f"that {', '.join(names)} and {last} do not list" if names else f"that {last} does not list",
        "suffix": "with a suffix that is not read",
        "hidden": "hidden",
    }
    found: dict[str, list[str]] = {reason: [] for reason in reasons}
    for folder, folders, names_here in os.walk(root):
        folders.sort()
        hidden = any(part.startswith(".") for part in Path(folder).relative_to(root).parts)
        for name in sorted(names_here):
            lowered, path = name.lower(), f"{folder}{os.sep}{name}"
            if lowered.endswith(files.PICTURE_SUFFIXES):
                if path not in used:
                    found["hidden" if hidden or name.startswith(".") else "named"].append(path)
            elif lowered.endswith(UNREAD_SUFFIXES) and path not in used:  # a label file may name any file
                found["suffix"].append(path)
    return [
        PassedOver(len(paths), reasons[reason], os.path.relpath(paths[0], root))
        for reason, paths in found.items()
        if paths
    ]
