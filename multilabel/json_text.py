"""JSON in which no key is given twice: Python's json and pydantic keep the last one and lose the others, untold."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any


def unique_json(text: str | bytes, drop: Sequence[str] = ()) -> Any:
    """What a JSON text holds.

    Args:
        drop: keys that are left out of every object while it is read, so that they take no memory.

    Raises:
        ValueError: it is no JSON, or an object has a key twice; names the key.
        RecursionError: it is nested too deeply.

    Example:
        >>> unique_json('{"labels": ["cat"], "score": 1}', drop=["score"])
        {'labels': ['cat']}
    """
    if isinstance(text, str):
        return _decoder(tuple(drop)).decode(text)
    return json.loads(text, object_pairs_hook=_decoder(tuple(drop)).object_pairs_hook)


@functools.cache
def _decoder(drop: tuple[str, ...]) -> json.JSONDecoder:
    """One decoder for all lines of a file: `json.loads` makes one per call, which takes as long as a line does."""

    def made(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for place, name in enumerate(names) if name in names[:place])
            raise ValueError(f"the key {twice!r} is given twice in one object; expected it once")
        for key in drop:
            found.pop(key, None)
        return found

    return json.JSONDecoder(object_pairs_hook=made)
