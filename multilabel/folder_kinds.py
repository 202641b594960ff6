"""What a folder is that was given in the place of another: a data set's, a layout for another program, a bundle."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

from edgepress.multilabel.errors import InputError
from edgepress.multilabel.golden_answers import FOLDER
from edgepress.multilabel.manifest import MANIFEST

_MOST_LOOKED_AT = 2000
"""Entries of a folder that are looked at for a picture."""
_LAYOUTS = (
    ("triton", ("models", "request.json"), "models/*/config.pbtxt"),
    ("ovms", ("models", "request.json"), "config.json"),
    ("deepstream", ("labels.txt",), "config.txt"),
    ("free-size", ("labels.txt",), "golden/answers.json"),
    ("model-api", ("README.md",), "model.*"),
)
"""A layout, what it holds, and a pattern of what no layout before it and no bundle without README.md holds."""


def is_bundle(folder: Path) -> bool:
    """Whether a folder has a manifest, whatever it is worth."""
    return (folder / MANIFEST).is_file()


def holds_pictures(folder: Path) -> bool:
    """Whether there is a picture in a folder or below it, among the first entries; golden pictures are none."""
    from edgepress.multilabel.datasets.files import PICTURE_SUFFIXES

    names = (name for path, _, files in os.walk(folder) if Path(path).name != FOLDER for name in files)
    return any(name.lower().endswith(PICTURE_SUFFIXES) for name in itertools.islice(names, _MOST_LOOKED_AT))


def layout_of(folder: Path) -> str | None:
    """The layout that `export --layout` wrote into a folder, which lacks files that its bundle's manifest names."""
    if not (folder / "README.md").is_file():
        return None
    for layout, held, pattern in _LAYOUTS:
        if all((folder / name).exists() for name in held) and any(folder.glob(pattern)):
            return layout
    return None


def bundles_beside(folder: Path, digest: object) -> list[Path]:
    """Complete bundles with a digest in the folder's own folder."""
    found = []
    for manifest in sorted(folder.resolve().parent.glob(f"*/{MANIFEST}")):
        try:
            fields = json.loads(manifest.read_bytes())
            whole = all((manifest.parent / name).is_file() for name in fields["files"])
        except (OSError, ValueError, RecursionError, KeyError, TypeError):
            continue  # a damaged neighbour is not offered
        if whole and fields.get("digest") == digest and layout_of(manifest.parent) is None:
            found.append(manifest.parent)
    return found


def refuse_swapped(command: str, bundle: Path | None, data: Path | None) -> None:
    """Stop where a verb got a data set for its bundle, and a bundle for its data set.

    Args:
        command: the right order of the two, such as `verify {bundle} --data {data}`.
        bundle: what was given for the bundle.
        data: what was given for the data set.

    Raises:
        InputError: the two are swapped; says which way round they go.
    """
    if bundle is None or data is None or not is_bundle(data) or not bundle.is_dir() or is_bundle(bundle):
        return
    right = command.format(bundle=data, data=bundle)
    raise InputError(f"{bundle} is no bundle, and {data} is one: the two are swapped; expected edgepress {right}")
