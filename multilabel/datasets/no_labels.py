"""Labels whose names may say that a picture has none, such as the `No Finding` of chest X-rays, and `--no-label`.

Such a name is never taken for anything but a label by itself: in one data set `normal` is a diagnosis, and in another
it marks the pictures without one. A line says how it was read, unless labels.txt lists it, and names the option.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from edgepress.multilabel.datasets.contents import Contents
from edgepress.multilabel.datasets.options import names_in_quotes
from edgepress.multilabel.errors import InputError, did_you_mean, shown
from edgepress.multilabel.labels import LabelSpace, one_form
from edgepress.multilabel.plural import plural

_THINGS = (
    "finding|label|tag|class|category|object|annotation|attribute|defect|anomaly|abnormality|disease|lesion|damage|"
    "event|content|concept|answer|choice|match"
)
_NOTHING = re.compile(
    rf"(no|non|without|zero)( (a|any))? ({_THINGS})(e?s)?( found)?|nofindings?|none( of (the above|these|them))?|"
    "nothing|nil|n a|na|background|bg|normal|negative|empty|healthy|absent",
)
_UNSEEN = re.compile(
    r"(un|not )(labell?ed|tagged|annotated|classified|categori[sz]ed|assigned|reviewed|known|sure)|uncertain|to ?do|"
    r"skip(ped)?|not sure|missing|undefined"
)

_NUMBER = re.compile(r"^\s*\d+\s*[\s:.,;=)]\s*|\s*[\s:,;=]\s*\d+\s*$")


def without_labels(contents: Contents, names: Sequence[str], where: str) -> Contents:
    """The same split without the labels whose names say that a picture has none.

    Args:
        names: those of `--no-label`; a name that the split lacks changes nothing, which a note says.

    Raises:
        InputError: a name is a label's but for case and separators, or no other label is left.
    """
    if not names:
        return contents
    labels = contents.labels
    given = [one_form(name) for name in names]
    for name in given:
        meant = next((one for one in labels if one not in given and _plain(one) == _plain(name)), None)
        if name not in labels and meant is not None:
            raise InputError(f"{where}: no label {name!r}, which --no-label names; did you mean {meant!r}?")
    left = [name for name in labels if name not in given]
    if not left:
        raise InputError(f"{where}: --no-label names every label, {shown(labels.names)}; expected others beside them")
    kept = [labels.index(name) for name in left]
    targets = contents.targets[:, kept]
    notes = [f"no label {name!r}, which --no-label names" for name in given if name not in labels]
    for name in (name for name in given if name in labels):
        marked = contents.targets[:, labels.index(name)] == 1
        others = int((marked & targets.any(axis=1)).sum())
        also = f", {others} of which have others all the same" if others else ""
        notes.append(f"{name!r} is no label: {plural(int(marked.sum()), 'picture')} with it{also}")
    return replace(
        contents,
        labels=LabelSpace(tuple(left)),
        targets=targets,
        ignore=contents.ignore[:, kept],
        notes=(*contents.notes, *notes),
    )


def tell_no_labels(contents: Contents) -> list[str]:
    """Say which labels may mean that a picture has none, or that nobody looked; empty where none may."""
    said = []
    for name in contents.labels if len(contents.labels) > 1 else ():
        if _says_nothing(name, contents.labels.names):
            end = f"if it means that a picture has no label, --no-label {names_in_quotes([name])} reads it so"
        elif _UNSEEN.fullmatch(_plain(name)):
            end = "if it means that nobody knows a picture's labels, take those pictures out of the files"
        else:
            continue
        pictures = int((contents.targets[:, contents.labels.index(name)] == 1).sum())
        said.append(f"{name!r} ({plural(pictures, 'picture')}) is read as a label like any other; {end}")
    return said


def unlisted(name: str, where: str, listed: Iterable[str]) -> InputError:
    """The error for a label that labels.txt lacks.

    Args:
        listed: the lines of labels.txt. One that holds the name beside a number, marks or other names may be what is
            wrong, and is quoted; otherwise a name that is spelt alike is proposed.
    """
    listed = list(listed)
    does = f"; if it means that a picture has no label, add it and give --no-label {names_in_quotes([name])}"
    line = next((line for line in listed if name in _parts(line)), None)
    mend = did_you_mean(name, listed)
    if line is not None:
        mend = f"; if {line[:60]!r} there is no name, write the names alone there, one a line"
    return InputError(
        f"{where}: label {name!r} is not in labels.txt; add it there or correct the line{mend}"
        f"{does if _says_nothing(name, ()) else ''}"
    )


def _parts(line: str) -> list[str]:
    """What a line that is no name may hold: names between separators, numbers or quotation marks."""
    return [part.strip(" \"'[]") for part in re.split(r"[,;|\t]", _NUMBER.sub("", line))]


def _says_nothing(name: str, labels: Sequence[str]) -> bool:
    plain = _plain(name)
    negated = re.fullmatch(r"(?:no|non|not|without) (.+)|(.+) (?:negative|absent)", plain)
    what = (negated[1] or negated[2]) if negated else None
    return _NOTHING.fullmatch(plain) is not None or (what is not None and what in map(_plain, labels))


def _plain(name: str) -> str:
    """A name in lower case with a space between its words: No_Finding, NoFinding and no-finding are one."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return " ".join(re.split(r"[\W_]+", apart.casefold())).strip()
