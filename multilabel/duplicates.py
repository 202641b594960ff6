"""Pictures that occur more than once, with the same bytes or with the same look.

Two pictures look the same when their 64-bit difference hashes differ in at most `NEAR_BITS` bits and no cell of their
16 x 16 miniatures differs by more than `MAX_CELL`. The hash finds candidates quickly, but alone it takes any two small
objects on white for the same (55 pairs among 4,000 drawings, none of which look alike: their miniatures differ by 96 or
more, while those of a picture that was compressed or scaled again differ by 25 at most).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations

import cv2
import numpy as np

from edgepress.multilabel.resampling import without_ipp

NEAR_BITS = 2

MAX_CELL = 32

MIN_CONTRAST = 8
"""If the darkest and the lightest of the hash's 72 cells differ by fewer grey levels, a picture has no hash, because
on an even surface the hash would consist of noise."""

_SIDE = 16

Looks = Iterable[np.ndarray | None]
"""What `look` makes of pictures."""


def look(image: np.ndarray) -> np.ndarray:
    """Make the miniature of a uint8 RGB picture `[H, W, 3]`: uint8 `[16 * 16 * 3]`, means over areas, so that size and
    compression hardly change it."""
    with without_ipp():
        return cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).ravel()


def difference_hash(image: np.ndarray) -> int | None:
    """64-bit dHash of a uint8 RGB picture `[H, W, 3]`: is each of 8 x 9 grey cells darker than its right neighbour?

    It is None where the cells differ by less than `MIN_CONTRAST`. (N. Krawetz, "Kind of like that", 2013.)
    """
    with without_ipp():
        cells = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (9, 8), interpolation=cv2.INTER_AREA)
    if int(cells.max()) - int(cells.min()) < MIN_CONTRAST:
        return None
    return int.from_bytes(np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes(), "big")


def same_groups(contents: Sequence[str | None]) -> list[list[int]]:
    """Groups of two or more indices of pictures with the same content hash; a hash of None matches no other."""
    found: dict[str, list[int]] = defaultdict(list)
    for i, content in enumerate(contents):
        if content is not None:
            found[content].append(i)
    return [group for group in found.values() if len(group) > 1]


def near_groups(
    contents: Sequence[str | None], hashes: Sequence[int | None], looks_of: Callable[[list[int]], Looks]
) -> list[list[int]]:
    """Groups of indices of pictures that are linked by looking the same and that have at least two different contents.

    Args:
        contents: content hash of each picture; None where the picture cannot be read.
        hashes: `difference_hash` of each picture.
        looks_of: makes the miniatures of some pictures, of those alone whose hashes are near another's, because all of
            them would be a gigabyte for a million pictures; None for one that can no longer be read.
    """
    copies: dict[str, list[int]] = defaultdict(list)
    holders: dict[int, list[int]] = defaultdict(list)
    for i, (content, value) in enumerate(zip(contents, hashes, strict=True)):
        if content is None:
            continue
        if content not in copies and value is not None:
            holders[value].append(i)
        copies[content].append(i)
    values = list(holders)
    candidates = [(a, a) for a, value in enumerate(values) if len(holders[value]) > 1]
    candidates += near_pairs(np.array(values, dtype=np.uint64)).tolist()
    wanted = sorted({i for pair in candidates for value in pair for i in holders[values[value]]})
    looks = {i: made for i, made in zip(wanted, looks_of(wanted), strict=True) if made is not None}
    root = {i: i for i in looks}

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = i = root[root[i]]
        return i

    for a, b in candidates:
        others = np.array([j for j in holders[values[b]] if j in looks], int)
        miniatures = np.array([looks[j] for j in others])
        for place, i in enumerate(j for j in holders[values[a]] if j in looks):
            after = place + 1 if a == b else 0
            there, here = miniatures[after:], looks[i]
            if not len(there):
                continue
            far = (np.maximum(there, here) - np.minimum(there, here)).max(axis=1)
            for j in others[after:][far <= MAX_CELL]:
                root[find(int(j))] = find(i)
    linked: dict[int, list[int]] = defaultdict(list)
    for i in root:
        linked[find(i)].append(i)
    return sorted(
        sorted(j for i in group for j in copies[contents[i] or ""]) for group in linked.values() if len(group) > 1
    )


def near_pairs(hashes: np.ndarray, bits: int = NEAR_BITS) -> np.ndarray:
    """Every pair of 64-bit hashes that differ in at most `bits`: int64 `[P, 2]`, first < second, sorted.

    The bits are dealt into bits + 4 bands; whichever bits differ, at least four bands are equal. For each choice of
    four bands, only hashes that share them are compared: they are sorted, and each is compared with those after it as
    long as they share the bands. Bits are dealt one by one because neighbouring bits are nearly equal.
    """
    hashes = np.asarray(hashes, dtype=np.uint64)
    found = [np.empty((0, 2), dtype=np.int64)]
    bands = [sum(1 << bit for bit in range(band, 64, bits + 4)) for band in range(bits + 4)]
    for kept in combinations(bands, 4):
        keys = hashes & np.uint64(sum(kept))
        order = np.argsort(keys, kind="stable")
        keys, ordered = keys[order], hashes[order]
        left, step = np.arange(len(hashes)), 1
        while left.size:
            left = left[left + step < len(hashes)]
            left = left[keys[left] == keys[left + step]]
            close = left[_popcount(ordered[left] ^ ordered[left + step]) <= bits]
            found.append(np.sort(np.stack([order[close], order[close + step]], axis=1), axis=1))
            step += 1
    return np.unique(np.concatenate(found), axis=0)


_ONES = np.array([bin(number).count("1") for number in range(1 << 16)], dtype=np.uint8)


def _popcount(words: np.ndarray) -> np.ndarray:
    # numpy has bitwise_count from 2.0 on, but older versions are supported.
    return _ONES[np.ascontiguousarray(words).view(np.uint16).reshape(-1, 4)].sum(axis=1)
