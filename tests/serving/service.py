"""Forked workers with threads answer pictures from one bundle's folder, whose files are replaced while they do.

Each worker opens the bundle, several threads of it answer, and when the files have been replaced it closes the engine
under the calls that are running and opens it again. Every answer is compared with that of the bundle that was opened.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import shutil
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import cv2
import numpy as np

from edgepress.deploy.engines import Engine, open_engine
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.pictures import decode_picture

TOLERANCE = 1e-3
"""Largest difference of a logit between two answers of one engine to the same pixels."""
KINDS = (".png", ".bmp", ".tiff", ".webp")
"""Containers that keep every pixel, beside the JPEG itself."""
HANG = 120.0
"""Seconds without an answer after which a worker has hung."""


@dataclass(frozen=True, kw_only=True)
class Served:
    """What one worker did."""

    answered: int
    wrong: int
    """Answers that are not those of the bundle that was open."""
    largest: float
    """Largest difference of a logit."""
    opened: int
    refused: int
    """Openings in the middle of a replacement, which were refused and tried again."""
    closed_under_calls: int
    """Calls that came after a close and were told so."""
    longest: float
    """Seconds of the longest call."""
    resident_mb: dict[str, list[float]]
    """Resident memory before each close, by the precision of the bundle that was open."""

    @property
    def grown_mb(self) -> float:
        """The highest resident memory of the last three openings of each bundle above that of the second to fourth.

        The highest, because the allocator gives back what a closed engine had at some openings and not at others, so
        that a single reading is at one of two levels; what grows raises the upper one. What the runtime keeps from the
        very first opening on is left out.
        """
        early = max(max(taken[1:4] or taken) for taken in self.resident_mb.values())
        return max(max(taken[-3:]) for taken in self.resident_mb.values()) - early


def mixed(data: Sequence[bytes]) -> list[bytes]:
    """The pictures of JPEG files in containers of several kinds, in turn; the pixels stay the same."""
    found = []
    for number, jpeg in enumerate(data):
        kind = (".jpg", *KINDS)[number % (len(KINDS) + 1)]
        if kind == ".jpg":
            found.append(jpeg)
            continue
        pixels = cv2.cvtColor(decode_picture(jpeg, "picture"), cv2.COLOR_RGB2BGR)
        settings = [cv2.IMWRITE_WEBP_QUALITY, 101] if kind == ".webp" else []  # above 100 it is lossless
        done, encoded = cv2.imencode(kind, pixels, settings)
        assert done, kind
        found.append(encoded.tobytes())
    return found


def serve(
    bundles: Sequence[Bundle],
    path: Path,
    pictures: Sequence[bytes],
    expected: Mapping[str, np.ndarray],
    *,
    count: int,
    workers: int = 2,
    threads: int = 4,
    replacements: int = 20,
) -> list[Served]:
    """Answer `count` pictures, the bundle at `path` being replaced by the next of `bundles` so many times.

    Args:
        expected: logits `[N, C]` of the pictures, by a bundle's digest.
    """
    put(bundles[0], path)
    fork = multiprocessing.get_context("fork")
    generation, total = fork.Value("i", 0), fork.Value("i", 0)
    pipes, started = [], []
    for _ in range(workers):
        ours, theirs = fork.Pipe()
        arguments = (path, pictures, expected, count // workers, threads, generation, total, theirs)
        process = fork.Process(target=_worker, args=arguments)
        process.start()
        pipes.append(ours)
        started.append(process)
    for number in range(1, replacements + 1):
        _wait(total, number * count // (replacements + 1), started)
        put(bundles[number % len(bundles)], path)
        generation.value = number
        tell(f"replaced {number} of {replacements} times, {total.value} of {count} pictures answered")
    _wait(total, count // workers * workers, started)
    served = [pipe.recv() for pipe in pipes]
    for process in started:
        process.join(HANG)
        assert process.exitcode == 0, f"a worker ended with {process.exitcode}"
    return served


def tell(line: str) -> None:
    """Say on standard error how far it is, so that slow is not taken for hung."""
    print(time.strftime("%H:%M:%S"), line, file=sys.stderr, flush=True)


def put(bundle: Bundle, path: Path) -> None:
    """Copy a bundle over another, file by file and in place, as a careless deployment does."""
    path.mkdir(exist_ok=True)
    names = [*bundle.manifest.files, "manifest.json"]
    for name in names:
        (path / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(bundle.path / name, path / name)
    for file in path.rglob("*"):
        if file.is_file() and file.relative_to(path).as_posix() not in names:
            file.unlink()


def overhead(engine: Engine, pixels: np.ndarray, calls: int) -> float:
    """The median time of a call of an engine over that of its runtime alone, in turn; 1.02 is 2 % more."""
    times: tuple[list[float], list[float]] = ([], [])
    for at in range(calls):
        picture = pixels[at % len(pixels)][None]
        turns = (engine, engine._run) if at % 2 else (engine._run, engine)
        for call in turns:
            before = time.perf_counter()
            call(picture)
            times[call is engine].append(time.perf_counter() - before)
    return float(np.median(times[1]) / np.median(times[0]))


def _wait(total: Synchronized, wanted: int, workers: Sequence[multiprocessing.process.BaseProcess]) -> None:
    seen, since = -1, time.monotonic()
    while total.value < wanted:
        if total.value != seen:
            seen, since = total.value, time.monotonic()
        assert all(worker.exitcode in (None, 0) for worker in workers), "a worker died"
        if time.monotonic() - since > HANG:
            for worker in workers:
                worker.kill()
            raise AssertionError(f"no answer for {HANG:.0f} s after {seen} pictures")
        time.sleep(0.005)


def _worker(
    path: Path,
    pictures: Sequence[bytes],
    expected: Mapping[str, np.ndarray],
    share: int,
    threads: int,
    generation: Synchronized,
    total: Synchronized,
    result: Connection,
) -> None:
    worker = _Worker(pictures, expected, share, total)
    while worker.answered < share:
        seen = generation.value
        engine = worker.opened(path)
        calling = [threading.Thread(target=worker.answer, args=(engine,)) for _ in range(threads)]
        for thread in calling:
            thread.start()
        while generation.value == seen and worker.answered < share:
            time.sleep(0.002)
        worker.resident_mb[engine.bundle.manifest.precision].append(resident_mb())
        engine.close()
        for thread in calling:
            thread.join(HANG)
            assert not thread.is_alive(), "a caller waits for ever"
    result.send(worker.served())


class _Worker:
    """What the threads of one worker share."""

    def __init__(
        self, pictures: Sequence[bytes], expected: Mapping[str, np.ndarray], share: int, total: Synchronized
    ) -> None:
        self._pictures, self._expected, self._share, self._total = pictures, expected, share, total
        self._next, self._lock = itertools.count(), threading.Lock()
        self.answered = self._wrong = self._opened = self._refused = self._told = 0
        self._largest = self._longest = 0.0
        self.resident_mb: defaultdict[str, list[float]] = defaultdict(list)

    def opened(self, path: Path) -> Engine:
        while True:
            try:
                engine = open_engine(path, threads=1)
            except InputError:  # in the middle of a replacement
                self._refused += 1
                time.sleep(0.01)
                continue
            self._opened += 1
            return engine

    def answer(self, engine: Engine) -> None:
        logits = self._expected[engine.bundle.digest]
        while self.answered < self._share:
            at = next(self._next) % len(self._pictures)
            pixels = engine.preprocess(decode_picture(self._pictures[at], "picture"))
            before = time.perf_counter()
            try:
                found = engine(pixels[None])[0]
            except RuntimeError as error:
                if "this engine is closed" not in str(error):
                    raise
                with self._lock:
                    self._told += 1
                return
            self._count(float(np.abs(found - logits[at]).max()), time.perf_counter() - before)

    def _count(self, difference: float, seconds: float) -> None:
        with self._lock:
            if self.answered == self._share:
                return
            self.answered += 1
            self._wrong += not difference <= TOLERANCE  # NaN is wrong as well
            self._largest, self._longest = max(self._largest, difference), max(self._longest, seconds)
        with self._total.get_lock():
            self._total.value += 1

    def served(self) -> Served:
        return Served(
            answered=self.answered,
            wrong=self._wrong,
            largest=self._largest,
            opened=self._opened,
            refused=self._refused,
            closed_under_calls=self._told,
            longest=self._longest,
            resident_mb=dict(self.resident_mb),
        )


def resident_mb() -> float:
    """Resident memory of this process, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)
