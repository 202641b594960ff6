"""What is meant by a name of a backbone that timm does not know: other separators, other libraries' words, a slip."""

from __future__ import annotations

import difflib
import re

import timm

MOST = 3
"""Names that a message offers."""
_WORDS = {"t": "tiny", "s": "small", "m": "medium", "b": "base", "l": "large", "h": "huge"}
"""What a letter by itself stands for in torchvision and in papers."""
_SMALL = ("atto", "femto", "pico", "nano", "tiny", "small", "mini")
"""Sizes that are offered first, because a student is wanted most often."""


def near_backbones(name: str) -> list[str]:
    """Names that timm knows and that are near to one that it does not know, the smallest models first.

    A name is near if it holds the parts of the given one in their order, whatever separates them; a letter may stand
    for a size, as in `vit_b_16`. Where no name does, those that are spelt alike are near.

    Example:
        >>> near_backbones("mobilenet_v4")[0]
        'mobilenetv4_conv_small'
    """
    parts = [part for part in re.split(r"[^a-z0-9]+", name.lower()) if part]
    known = timm.list_models()
    if not parts:
        return []
    spelt = [_WORDS.get(part, part) for part in parts]
    whole = "".join(parts)
    for pattern in (re.escape(whole), ".*".join(map(re.escape, parts)), ".*".join(map(re.escape, spelt))):
        if near := [one for one in known if re.match(f"(tf)?{pattern}", _plain(one))]:  # tf_ has weights others lack
            return sorted(near, key=_order)[:MOST]
    return difflib.get_close_matches(name, known, n=MOST)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _order(name: str) -> tuple[bool, int, str]:
    return not any(word in name for word in _SMALL), len(name), name
