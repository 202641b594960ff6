"""The overlay: draw labels and frames per second into a video or a camera's picture, to a file or a window."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edgepress.deploy.tag.sources import is_utf8
from edgepress.deploy.tag.tagger import Tagger
from edgepress.multilabel.durable import give_name
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.pictures import MAX_PIXELS

log = logging.getLogger("edgepress")
MOST_TAGS = 8
"""Number of labels drawn into a frame, the most probable ones."""
_CODECS = {".mp4": "mp4v", ".avi": "MJPG"}
_CAMERA_RATE = 30.0
_SMOOTHING = 0.9
"""Weight of the earlier value in the smoothed frames per second."""
_WINDOW = "edgepress demo: q ends it"


@dataclass(frozen=True)
class Shown:
    """Result of an overlay."""

    frames: int
    seconds: float
    out: Path | None


class Frames:
    """The frames of a video file or of a camera; iterate over it once."""

    def __init__(self, source: Path | int) -> None:
        """
        Args:
            source: a video file, or a camera's number.

        Raises:
            InputError: the source cannot be read; names it.
        """
        self.source = source
        self.name = f"camera {source}" if isinstance(source, int) else str(source)
        if isinstance(source, Path) and not source.is_file():
            raise InputError(f"{source}: no such file; expected a video")
        if isinstance(source, Path) and not is_utf8(source):
            raise InputError(
                f"{source}: a name that is not UTF-8, which OpenCV's FFmpeg does not take; rename the file"
            )
        self.video = cv2.VideoCapture(source if isinstance(source, int) else str(source))
        self.rate = self.video.get(cv2.CAP_PROP_FPS) if self.video.isOpened() else 0.0
        width, height = (self.video.get(key) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if isinstance(source, int):
            if not self.video.isOpened():
                raise InputError(f"{self.name}: cannot be opened; expected the number of a camera that OpenCV sees")
            self.rate = self.rate if math.isfinite(self.rate) and self.rate > 0 else _CAMERA_RATE
        elif not (math.isfinite(self.rate) and self.rate > 0) or width * height < 1:
            raise InputError(f"{self.name}: cannot be read as a video; expected a file that OpenCV's FFmpeg decodes")
        if width * height > MAX_PIXELS:
            raise InputError(f"{self.name}: {width:g}x{height:g} pixels per frame; up to {MAX_PIXELS:,} are read")

    def __iter__(self) -> Iterator[np.ndarray]:
        """Frames uint8 BGR `[H, W, 3]`.

        Raises:
            InputError: the video stops before the end that it states, or gives no frame.
        """
        expected = self.video.get(cv2.CAP_PROP_FRAME_COUNT)
        read = 0
        while True:
            kept, frame = self.video.read()
            if not kept:
                break
            read += 1
            yield frame
        if not read:
            raise InputError(f"{self.name}: no frame in it can be decoded")
        if isinstance(self.source, int):
            log.warning("%s gives no more frames", self.name)
        elif read < expected - max(2.0, 0.01 * expected):  # some formats only estimate their length
            raise InputError(f"{self.name}: damaged; it stops after {read:,} of {expected:,.0f} frames")

    def close(self) -> None:
        """Release the file or the camera."""
        self.video.release()

    def __enter__(self) -> Frames:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def show(tagger: Tagger, frames: Frames, out: Path | None) -> Shown:
    """Draw an engine's answers into every frame.

    A camera is read until Ctrl-C, or q in the window; what was drawn until then is kept.

    Args:
        out: the video to write, `.mp4` or `.avi`, under another name until it is complete; None shows a window.

    Raises:
        InputError: the source is damaged, `out` cannot be written, or no window can be shown; no file is left behind.
    """
    started, count, rate = time.perf_counter(), 0, 0.0
    before = started
    with _file(out, frames.rate) if out is not None else _window() as put:
        try:
            for frame in frames:
                probabilities = tagger.predict(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
                now = time.perf_counter()
                current = 1 / max(now - before, 1e-9)
                rate = current if not count else _SMOOTHING * rate + (1 - _SMOOTHING) * current
                before, count = now, count + 1
                lines = [f"{tag} {probabilities[tag]:.2f}" for tag in tagger.tags(probabilities)[:MOST_TAGS]]
                if not put(draw(frame, [f"{rate:.1f} FPS", *(lines or ["no label over its threshold"])])):
                    break
        except KeyboardInterrupt:
            if not isinstance(frames.source, int) or not count:
                raise
    return Shown(count, time.perf_counter() - started, out)


def draw(frame: np.ndarray, lines: list[str]) -> np.ndarray:
    """A copy of a frame, uint8 BGR, with lines of text in white on black in its upper left corner."""
    frame = frame.copy()
    scale = max(0.35, min(frame.shape[:2]) / 720)
    step, thickness = round(34 * scale), max(1, round(2 * scale))
    for number, line in enumerate(lines):
        # OpenCV's font has only ASCII letters; other characters of a label are written as escapes.
        text = line if line.isascii() else line.encode("ascii", "backslashreplace").decode()
        (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
        cv2.rectangle(frame, (0, number * step), (width + step // 2, (number + 1) * step), (0, 0, 0), -1)
        place = (step // 4, round((number + 0.75) * step))
        cv2.putText(frame, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), thickness, cv2.LINE_AA)
    return frame


@contextmanager
def _file(out: Path, rate: float) -> Iterator:
    codec = _CODECS.get(out.suffix.lower())
    if codec is None:
        raise InputError(f"--out {out}: expected a file that ends in {' or '.join(_CODECS)}")
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: the folder {out.parent} does not exist")
    if not is_utf8(out):
        raise InputError(f"--out {out}: a name that is not UTF-8, which OpenCV's FFmpeg does not take; name another")
    partial = out.with_name(f".{out.stem}.partial{out.suffix}")
    writer, given = cv2.VideoWriter(), 0

    def put(frame: np.ndarray) -> bool:
        nonlocal given
        if not writer.isOpened():
            size = (frame.shape[1], frame.shape[0])
            if not writer.open(str(partial), cv2.VideoWriter.fourcc(*codec), rate, size):
                raise InputError(f"--out {out}: OpenCV cannot write it ({size[0]}x{size[1]}, {codec})")
        given += 1  # counted before it is written, because Ctrl-C takes effect after
        writer.write(frame)
        return True

    try:
        yield put
        writer.release()
        # OpenCV does not report a failed write, so the frames are read again and counted.
        written = _count(partial) if given else 0
        if not written or written != given:
            raise InputError(f"--out {out}: only {written:,} of {given:,} frames could be written; is the disk full?")
        give_name(partial, out)
    finally:
        writer.release()
        partial.unlink(missing_ok=True)


def _count(path: Path) -> int:
    """Number of frames of a video that can be decoded; 0 if it cannot be read."""
    video = cv2.VideoCapture(str(path))
    try:
        return sum(1 for _ in iter(video.grab, False))
    finally:
        video.release()


@contextmanager
def _window() -> Iterator:
    if not has_window():
        raise InputError(
            "this OpenCV shows no window (opencv-python-headless has none): write a file with --out, or install "
            "opencv-python in its place"
        )

    def put(frame: np.ndarray) -> bool:
        cv2.imshow(_WINDOW, frame)
        return cv2.waitKey(1) & 0xFF not in (ord("q"), 27)

    try:
        yield put
    finally:
        cv2.destroyAllWindows()


def has_window() -> bool:
    """Whether this OpenCV was built with support for windows."""
    built = re.search(r"^\s*GUI:\s*(\S*)", cv2.getBuildInformation(), re.MULTILINE)
    return built is not None and built[1] not in ("", "NONE")
