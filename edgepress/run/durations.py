"""Durations as people write them: hours, minutes and seconds of a search, milliseconds of a picture."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator

_UNITS = {"h": 3600.0, "min": 60.0, "m": 60.0, "s": 1.0}


def seconds(text: str) -> float:
    """Seconds of a text such as 2h, 90min or 1h30min, of which there may be none (0s).

    Raises:
        ValueError: it is no duration, has no unit, or names one twice; says what was expected.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*(h|min|m|s)", text)
    if not parts or "".join(number + unit for number, unit in parts) != re.sub(r"\s", "", text):
        raise ValueError("expected hours, minutes or seconds, such as 2h, 90min or 1h30min")
    if len({_UNITS[unit] for _, unit in parts}) < len(parts):
        raise ValueError("a unit is named twice; expected each once, such as 1h30min")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def milliseconds(text: str) -> float:
    """Milliseconds of a text such as 8ms, 8.5 ms: more than none, because every engine takes some.

    Raises:
        ValueError: it is none, is 0 or less, or has no unit; says what was expected.
    """
    number = text.strip().removesuffix("ms")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError("expected milliseconds, such as 8ms")
    if value <= 0:
        raise ValueError("expected more than no time, such as 8ms")
    if number == text.strip():
        raise ValueError(f"has no unit; expected milliseconds, such as {value:g}ms")
    return value


def _limit(given: Any) -> Any:
    if not isinstance(given, str):
        return given
    try:
        return float(given)
    except ValueError:
        pass
    try:
        return seconds(given)
    except ValueError as error:
        raise ValueError(f"{error}, or a number of seconds") from None


TimeLimit = Annotated[float, BeforeValidator(_limit)]
"""Seconds, of which there may be none (0 or 0s); or text such as 90s, 10min or 1h30min."""
