"""Sources: turn what a person names (files, folders, patterns, videos, stdin) into pictures, one at a time."""

from __future__ import annotations

import glob
import itertools
import logging
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import BufferedIOBase, BufferedReader, FileIO
from pathlib import Path

import cv2
import numpy as np

from edgepress.multilabel.datasets.files import PICTURE_SUFFIXES, folders_of, named_as
from edgepress.multilabel.datasets.passed_over import UNREAD_SUFFIXES
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.pictures import MAX_BYTES, MAX_PIXELS, decode_picture, looks_like_picture, read_picture

log = logging.getLogger("edgepress")
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg")
_READ_SUFFIXES = (*PICTURE_SUFFIXES, *VIDEO_SUFFIXES)
STDIN = "-"
LONGEST_LINE = 1 << 16
"""Most bytes of a path on stdin; longer lines are not paths."""
SLACK_SECONDS, SLACK_SHARE = 1.0, 0.01
"""How much of its length a video may lack before it counts as cut off: the larger of both. A container's count of
frames is often its length times a frame rate, although sound may outlast the pictures or the rate may vary. So times
are compared, not counts, and not to the frame. A container without a length (a bare MPEG stream) is not checked."""
_HEAD = 16
Prepare = Callable[[np.ndarray], np.ndarray]
"""Converts uint8 RGB `[H, W, 3]` of any size to what an engine takes, as `Preprocess` does."""


@dataclass(frozen=True)
class Source:
    """One picture to be tagged."""

    name: str
    """Its name in the answer: the path as it was given or found; for a video also the second, `clip.mp4@3.00s`."""
    load: Callable[[], np.ndarray]
    """Gives prepared pixels uint8 `[size, size, 3]`.

    Raises:
        InputError: it cannot be read; names it.
    """


def pictures(
    names: Iterable[str | Path], prepare: Prepare, *, every: float = 1.0, stdin: BufferedIOBase | None = None
) -> Iterator[Source]:
    """Every named picture, in the order of the names; for what cannot be read, `load` of its source raises.

    A folder gives the pictures and videos below it in the order of their names, without links to folders. A name that
    is not a file but a pattern (`*`, `?`, `[`) gives what it matches. `-` is stdin: a picture's bytes, or paths, one
    per line or with NULs between them. A video gives its first picture and one per `every` seconds; if it ends long
    before its length, the last source cannot be read and says so.

    Args:
        prepare: is applied to frames of a video as they are read, so that few are held at full size.
        every: seconds between two pictures of a video, above 0.
        stdin: by default the process's own.

    Raises:
        InputError: `every` is not above 0.
    """
    if not (math.isfinite(every) and every > 0):
        raise InputError(f"every is {every:g} seconds; expected a number above 0")
    for name in names:
        if not str(name):
            raise InputError("an empty name among the sources; expected pictures, folders, patterns, videos or -")
        if str(name) == STDIN:
            yield from _of_stdin(stdin or _stdin(), prepare, every)
        else:
            yield from _of_path(Path(name), prepare, every)


def _of_path(path: Path, prepare: Prepare, every: float) -> Iterator[Source]:
    if "\0" in str(path):  # no file system allows such a name
        yield _broken(str(path), "cannot be read; expected a path without NUL")
    elif _is(path, Path.is_dir):
        file = None
        for file in _below(path):
            yield from _of_file(file, prepare, every)
        if file is None:
            yield _broken(str(path), f"no picture in it; expected files that end in {', '.join(PICTURE_SUFFIXES)}")
    elif not _is(path, Path.exists) and glob.has_magic(str(path)):
        matches = sorted(match for match in glob.glob(str(path), recursive=True) if not _through_link(path, match))
        if not matches:
            yield _broken(str(path), "no file matches this pattern")
        for match in matches:
            yield from _of_path(Path(match), prepare, every)
    else:
        yield from _of_file(path, prepare, every)


def _below(folder: Path) -> Iterator[Path]:
    """Pictures and videos in a folder and those below it, in order, as they are found: there may be millions.

    Links to folders are not followed, and hidden folders are skipped. At the end a line says which pictures of other
    formats, and which links, were passed over.
    """
    waiting = [(folder, True)]
    left: Counter[str] = Counter()
    example: dict[str, str] = {}
    while waiting:
        path, is_folder = waiting.pop()
        if not is_folder:
            yield path
            continue
        named: list[tuple[str, bool]] = []
        for name in named_as(path, (*_READ_SUFFIXES, *UNREAD_SUFFIXES)):
            if name.lower().endswith(_READ_SUFFIXES):
                named.append((name, False))
            else:
                left[suffix := Path(name).suffix.lower()] += 1
                example.setdefault(suffix, name)
        for name in folders_of(path):
            if _is_real_folder(path / name):
                named.append((name, True))
            else:
                left["links to folders"] += 1
                example.setdefault("links to folders", name)
        waiting += [(path / name, kind) for name, kind in sorted(named, reverse=True)]
    if left:
        said = "; ".join(f"{why} {count:,} (such as {example[why]})" for why, count in left.items())
        log.info("%s: passed over: %s", folder, said)


def _is_real_folder(path: Path) -> bool:
    return _is(path, Path.is_dir) and not _is(path, Path.is_symlink)


def _through_link(pattern: Path, match: str) -> bool:
    """Whether `**` reached a match through a link to a folder: a link to its own parent would never end."""
    if "**" not in pattern.parts:
        return False
    steps = Path(match).parts
    below = range(pattern.parts.index("**") + 1, len(steps))
    return any(_is(Path(*steps[:end]), Path.is_symlink) for end in below)


def _is(path: Path, what: Callable[[Path], bool]) -> bool:
    try:
        return what(path)
    except OSError:  # the name is too long; reading it will say so
        return False


def is_utf8(path: Path) -> bool:
    """Whether a path's bytes are UTF-8: OpenCV's FFmpeg takes no others, and ends the process at them."""
    return os.fsencode(path).decode(errors="ignore") == str(path)


def _of_file(path: Path, prepare: Prepare, every: float) -> Iterator[Source]:
    if path.suffix.lower() in VIDEO_SUFFIXES:
        yield from _frames(path, prepare, every)
    else:
        yield Source(str(path), lambda: prepare(read_picture(path)))


def _frames(path: Path, prepare: Prepare, every: float) -> Iterator[Source]:
    """A video's first frame and then one per `every` seconds, by its frame rate."""
    # OpenCV treats a name that is not a file as an address or a pattern, and one that is not UTF-8 ends the process.
    if not _is(path, Path.is_file):
        yield _broken(str(path), "no such file; expected a video")
        return
    if not is_utf8(path):
        yield _broken(str(path), "a name that is not UTF-8, which OpenCV's FFmpeg does not take; rename the file")
        return
    video = cv2.VideoCapture(str(path))
    try:
        rate = video.get(cv2.CAP_PROP_FPS) if video.isOpened() else 0.0
        width, height = (video.get(key) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if not (math.isfinite(rate) and rate > 0) or width * height < 1:
            yield _broken(str(path), "cannot be read as a video; expected a file that OpenCV's FFmpeg decodes")
            return
        if width * height > MAX_PIXELS:
            yield _broken(str(path), f"{width:g}x{height:g} pixels per frame; frames are read up to {MAX_PIXELS:,}")
            return
        due, read, ended = 0.0, 0, 0.0
        for number in itertools.count():
            if not video.grab():
                break
            at = number / rate
            ended = max(at, video.get(cv2.CAP_PROP_POS_MSEC) / 1e3) + 1 / rate
            if at + 0.5 / rate < due:
                continue
            kept, frame = video.retrieve()
            if not kept:
                break
            due, read = due + every, read + 1
            ready = prepare(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
            yield Source(f"{path}@{at:.2f}s", lambda ready=ready: ready)  # type: ignore[misc]
        if not read:
            yield _broken(str(path), "no frame in it can be decoded")
            return
        length = video.get(cv2.CAP_PROP_FRAME_COUNT) / rate
        if length - ended > max(SLACK_SECONDS, SLACK_SHARE * length):
            yield _broken(
                str(path), f"ends at second {ended:.2f} of {length:.2f}: damaged or cut off; what came before is tagged"
            )
    finally:
        video.release()


def _stdin() -> BufferedIOBase:
    """Not `sys.stdin`: at exit Python could not close it while a thread waits for its next line, and would abort."""
    return BufferedReader(FileIO(0, closefd=False))


def _of_stdin(stdin: BufferedIOBase, prepare: Prepare, every: float) -> Iterator[Source]:
    head = _head(stdin)
    if looks_like_picture(head):
        data = head + stdin.read(MAX_BYTES + 1 - len(head))
        if len(data) > MAX_BYTES:
            yield _broken("stdin", f"over {MAX_BYTES:,} bytes; pictures are read up to that")
        else:
            yield Source("stdin", lambda: prepare(decode_picture(data, "stdin")))
        return
    for line in _lines(head, stdin):
        if len(line) > LONGEST_LINE:
            yield _broken("stdin", f"a line of over {LONGEST_LINE:,} bytes; expected paths, or one picture's bytes")
            return
        if line.strip():
            yield from _of_path(Path(os.fsdecode(line)), prepare, every)


def _head(stdin: BufferedIOBase) -> bytes:
    """Read enough to tell a picture from a path. A path may be shorter, and the next one may come late; the first bytes
    of a picture all come at once."""
    head = b""
    while len(head) < _HEAD and (more := stdin.read1(_HEAD - len(head))):
        head += more
        if (b"\n" in head or b"\0" in head) and not looks_like_picture(head.ljust(_HEAD, b"\0")):
            break
    return head


def _lines(head: bytes, stdin: BufferedIOBase) -> Iterator[bytes]:
    """Paths as they come: split at NULs if the first bytes hold one, otherwise at ends of lines."""
    kept, separator, more = head, b"", head
    while True:
        if not separator and (b"\0" in kept or b"\n" in kept):
            separator = b"\0" if b"\0" in kept else b"\n"
        *whole, kept = kept.split(separator) if separator else [kept]
        yield from (line.rstrip(b"\r") if separator == b"\n" else line for line in whole)
        if not more or len(kept) > LONGEST_LINE:
            yield kept
            return
        more = stdin.read1(LONGEST_LINE)  # reads what is there; `readline` would wait for an end of line among NULs
        kept += more


def _broken(name: str, reason: str) -> Source:
    def load() -> np.ndarray:
        raise InputError(f"{name}: {reason}")

    return Source(name, load)
