"""How many of something, in words."""

from __future__ import annotations


def plural(number: int, one: str, many: str | None = None) -> str:
    """A number with what it counts.

    Args:
        one: what is counted, in the singular; it may go on with a verb.
        many: the same in the plural; by default with an s.

    Example:
        >>> plural(1, "picture"), plural(0, "picture"), plural(2, "picture has", "pictures have")
        ('1 picture', '0 pictures', '2 pictures have')
    """
    if number == 1:
        return f"{number} {one}"
    return f"{number} {f'{one}s' if many is None else many}"
