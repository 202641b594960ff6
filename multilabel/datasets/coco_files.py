"""Which files hold the annotations of which split, in MS-COCO's layout and those like it; `coco` lists them."""

from __future__ import annotations

import re
from pathlib import Path

from edgepress.multilabel.datasets import files
from edgepress.multilabel.errors import InputError

_PREFIX, _SUFFIX = "instances_", ".json"
"""What the name of MS-COCO's own file of a split begins and ends with."""
_KEYS = ("images", "annotations", "categories")
_IMAGE_LEVEL = "labels_"
_PANOPTIC = "panoptic_"
_OTHER_PREFIXES = (_PANOPTIC, "person_keypoints_", "stuff_")
"""What MS-COCO's other files of labels begin with before the split; they are read where there is no instances_."""
_ROBOFLOW = "_annotations.coco.json"
_NO_SPLIT = frozenset(("result", "result_coco", "coco", "annotations", "labels", "_annotations.coco", "_annotations"))
"""File names that do not name a split."""
_ONE = "train"


def files_of_splits(root: Path) -> dict[str, list[Path]]:
    """The files of every split, by the first naming scheme that is found.

    Raises:
        InputError: two files are for one split.
    """
    folder = root / "annotations"
    names = files.named_as(folder, (_SUFFIX,))
    found: dict[str, list[Path]] = {}
    for prefix in (_PREFIX, _IMAGE_LEVEL):
        for name in names:
            if name.startswith(prefix) and (split := name[len(prefix) : -len(_SUFFIX)]):
                found.setdefault(split, []).append(folder / name)
    if found:
        return found
    found = {name: [root / name / _ROBOFLOW] for name in files.folders_of(root) if (root / name / _ROBOFLOW).is_file()}
    if found:
        return found
    for where in (folder, root):
        stems = [name[: -len(_SUFFIX)] for name in files.named_as(where, (_SUFFIX,))]
        stems = [stem for stem in stems if files.mentions(where / f"{stem}{_SUFFIX}", *(f'"{key}"' for key in _KEYS))]
        if stems:
            return {split: [where / f"{stem}{_SUFFIX}"] for split, stem in _named_splits(stems, where).items()}
    return {}


def full_name(root: Path, split: str, known: dict[str, list[Path]]) -> str:
    """The split that a name means: itself, or the only one that it begins and a year ends, such as val2017 for val.

    Raises:
        InputError: there is none, or there are several.
    """
    files.plain(split, f"split {split!r}")
    if split in known:
        return split
    fitting = [name for name in sorted(known) if re.fullmatch(re.escape(split) + r"\d+", name)]
    if len(fitting) > 1:
        raise InputError(f"{root}: split {split!r} may be {' or '.join(fitting)}; name one of them")
    if not fitting:
        raise files.unknown_split(root, split, f"annotations/{_PREFIX}{split}{_SUFFIX}", sorted(known))
    return fitting[0]


def not_read(root: Path) -> list[str]:
    """The files with labels that no split is read from, such as stuff_ beside instances_, in annotations/ or, where the
    splits' files lie there, in the root."""
    used = {path for paths in files_of_splits(root).values() for path in paths}
    folders = [root / "annotations", *([root] if root in {path.parent for path in used} else ())]
    others = [folder / name for folder in folders for name in files.named_as(folder, (_SUFFIX,))]
    return [path.name for path in others if path not in used and files.mentions(path, '"category_id"')]


def _named_splits(stems: list[str], where: Path) -> dict[str, str]:
    """The splits that names of files say, such as val2017 for panoptic_val2017, each with the stem of its file.

    Raises:
        InputError: two files are for one split.
    """
    alike: dict[str, list[str]] = {}
    for stem in stems:
        alike.setdefault(_ONE if stem in _NO_SPLIT else _without_prefix(stem), []).append(stem)
    found: dict[str, str] = {}
    for split, names in alike.items():
        whole = f"{_PANOPTIC}{split}"  # it has the labels of things and of stuff
        if len(names) > 1 and not (whole in names and all(name.startswith(_OTHER_PREFIXES) for name in names)):
            raise InputError(
                f"{where}: both {names[0]}{_SUFFIX} and {names[1]}{_SUFFIX} would be the split {split!r}; expected "
                "one, or files that are named as their splits are, such as train.json and val.json"
            )
        found[split] = whole if whole in names else names[0]
    return found


def _without_prefix(stem: str) -> str:
    prefix = next((prefix for prefix in (_PREFIX, *_OTHER_PREFIXES) if stem.startswith(prefix)), "")
    return stem.removeprefix(prefix) or stem
