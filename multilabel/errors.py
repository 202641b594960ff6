"""The errors that a person can act on, and the exit code of each."""

from __future__ import annotations

import difflib
import errno
import numbers
import operator
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class InputError(ValueError):
    """Something a person gave is wrong: a path, a label, a flag, a file. Exit code 2.

    Functions raise it for a wrong value of a program as well. There are two exceptions: records of pydantic raise
    pydantic's ValidationError, and losses raise ValueError, as torch's modules do. InputError and ValidationError are
    ValueErrors too, so `except ValueError` catches all three.

    The message is one line and says what was received, what was expected and what to do. What it quotes of a name or
    a file may hold anything; what is not printable (a terminal might obey it) is shown escaped.
    """

    def __init__(self, message: str) -> None:
        super().__init__(_printable(message))


class DisconnectedError(InputError):
    """The connection to another machine broke off. Exit code 2.

    Unlike after other errors, what was finished is kept, because the same command continues after it.
    """


class NoNumberError(InputError):
    """An engine's answer for a picture is not a finite number. Exit code 2.

    NaN is below every threshold, and would pass for a sure "no".
    """


class DivergedError(InputError):
    """The loss of a training is not finite. Exit code 2.

    A search of settings goes on with others.
    """


class DataChangedError(RuntimeError):
    """A picture is no longer what it was when its data set was loaded. Exit code 2.

    No InputError: what goes on without an engine that was refused must not go on with half of another data set. The
    message is as an InputError's.
    """

    def __init__(self, message: str) -> None:
        super().__init__(_printable(message))


class EngineUnavailableError(RuntimeError):
    """This machine cannot run the engine, through no fault of the engine: no GPU, a missing runtime.

    A report shows the reason and does not count it as a failure, unless the engine was required.
    """


def _printable(message: str) -> str:
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in message)


def first_mistake(error: ValidationError) -> str:
    """The first mistake that pydantic found, for the end of a message: `cells.0.batch: Field required`."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}{': ' if where else ''}{first['msg'][:160]}"


def shown(names: Iterable[str], most: int = 8) -> str:
    """Some names, for a message.

    Example:
        >>> shown(["a", "b", "c"], most=2)
        'a, b, … (3 in all)'
    """
    names = list(names)
    return (", ".join(names[:most]) + (f", … ({len(names)} in all)" if len(names) > most else "")) or "none"


def as_path(given: object, what: str) -> Path:
    """A path that a program gives.

    Args:
        what: what the message calls it, such as `the bundle`.

    Raises:
        InputError: it is neither text nor a path, an empty text, or one that no path can be.
    """
    if not isinstance(given, str | Path) and not (
        isinstance(given, os.PathLike) and isinstance(given.__fspath__(), str)
    ):
        raise InputError(f"{what} is {type(given).__name__}; expected its path, as text or as a pathlib.Path")
    if not os.fspath(given):  # pathlib takes it for the current folder
        raise InputError(f"{what} is an empty text; expected its path")
    try:
        os.lstat(given)
    except ValueError as error:
        raise InputError(f"{what} is {os.fspath(given)[:80]!r} ({error}); expected its path") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise InputError(f"{what} is a text of {len(os.fspath(given)):,} characters; expected its path") from None
    return Path(given)


def require_whole(name: str, given: object, least: int = 1) -> int:
    """The whole number that a program gives, as an int of Python's own, which is the only one that every runtime takes.

    Raises:
        InputError: this is no whole number, of Python or of numpy, or less than `least`; or it is True or False, which
            Python counts among the whole numbers.
    """
    if isinstance(given, bool) or not isinstance(given, numbers.Integral) or given < least:
        raise InputError(f"{name} {given!r}: expected a whole number, at least {least}")
    return operator.index(given)


def require_choice(option: str, given: str, known: Iterable[str]) -> None:
    """Stop, before anything else is done, if an option has none of the values that it takes.

    Raises:
        InputError: it has not; the message lists the values and names the nearest.
    """
    known = list(known)
    if given not in known:
        raise InputError(f"{option} is {given!r}; expected one of {', '.join(known)}{did_you_mean(given, known)}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: `; did you mean 'voc'?`, or nothing if no known name is close.

    The one name that begins with it is nearer than any that is spelt alike.
    """
    names = {one.lower(): one for one in known}
    longer = [one for one in names if len(name) > 2 and one.startswith(name.lower())]
    close = longer if len(longer) == 1 else difflib.get_close_matches(name.lower(), names, n=1)
    return f"; did you mean {names[close[0]]!r}?" if close else ""
