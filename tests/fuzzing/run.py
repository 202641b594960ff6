"""The fuzzer: changed inputs one after the other in a process of their own, which may fall over.

Every input follows from the seed, the reader and its number, so what is found can be made again. Three things are
found: an exception that is no InputError or does not name the file, a process that died or took over two seconds of
processor time for one input, and memory: over 1 GB more than before.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import random
import shutil
import tempfile
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from edgepress.deploy.bench.memory import PeakMemory
from edgepress.multilabel.errors import InputError
from tests.fuzzing.mutate import mutated
from tests.fuzzing.readers import READERS

LONGEST_SECONDS = 2.0
"""Of processor time, which does not depend on what else the machine does."""
_HANGS_SECONDS = 30.0
"""By the clock, after which the process is ended."""
MOST_MB = 1000
_EVERY = 200
"""Inputs between two looks at the memory."""


@dataclass(frozen=True)
class Finding:
    """An input that was not handled."""

    reader: str
    number: int
    what: str


@dataclass(frozen=True)
class Outcome:
    """What came of a reader's inputs."""

    reader: str
    inputs: int
    taken: int
    """Read without complaint: the change did not hurt."""
    refused: int
    findings: list[Finding]


def fuzz(reader: str, inputs: int, seed: int = 0, first: int = 0, most_findings: int = 20) -> Outcome:
    """Try so many inputs of one reader, from number `first`."""
    # Forked, not spawned: what is imported is paid for once.
    context = multiprocessing.get_context("fork")
    at, taken, findings = first, 0, []
    while at < first + inputs and len(findings) < most_findings:
        number = context.Value("q", at)
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=_try_all, args=(reader, at, first + inputs, seed, number, sender))
        child.start()
        sender.close()
        message = _last(receiver)
        child.join()
        at = number.value + 1
        if message is None:
            how = f"over {_HANGS_SECONDS:g} s, or a crash" if child.exitcode == 1 else f"died of {child.exitcode}"
            findings.append(Finding(reader, number.value, how))
            continue
        taken += message[0]
        if message[1]:
            findings.append(Finding(reader, number.value, message[1]))
    done = at - first
    return Outcome(reader, done, taken, done - taken - len(findings), findings)


def _last(receiver: Connection) -> tuple[int, str] | None:
    try:
        return receiver.recv()
    except EOFError:
        return None


def _try_all(reader: str, at: int, end: int, seed: int, number: Synchronized, sender: Connection) -> None:
    """In the child: every input until the first finding; sends how many were taken, and what was found."""
    # Its watchdog is a thread in C, which stops a loop in C as well.
    memory = PeakMemory()
    taken, found = 0, ""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)  # decoders print what they dislike
    faulthandler.disable()  # a crash is told by the parent
    with tempfile.TemporaryDirectory(prefix="edgepress-fuzz-") as name:
        folder = Path(name)
        os.chdir(folder)  # a folder that an input names by accident is this one
        files = READERS[reader].make(folder)
        whole = {file: file.read_bytes() for file in files}
        for index in range(at, end):
            number.value = index
            faulthandler.dump_traceback_later(_HANGS_SECONDS, exit=True, file=quiet)
            started = time.process_time()
            found = _try_one(reader, folder, whole, random.Random(f"{seed} {reader} {index}"))
            faulthandler.cancel_dump_traceback_later()
            took = time.process_time() - started
            if took > LONGEST_SECONDS:
                found = f"{took:.1f} s of processor time"
            if index % _EVERY == 0 or index == end - 1:
                grown = memory.read().growth_mb
                assert grown is not None  # Linux tells
                found = f"{grown:,.0f} MB of memory" if grown > MOST_MB else found
            taken += found == "taken"
            if found not in ("", "taken"):
                break
            found = ""
    sender.send((taken, found))
    sender.close()


def _try_one(reader: str, folder: Path, whole: dict[Path, bytes], rng: random.Random) -> str:
    """`taken`, nothing where it was refused as it should be, or what is wrong."""
    file = rng.choice(list(whole))
    data = mutated(whole[file], list(whole.values()), rng)
    file.write_bytes(data)
    try:
        READERS[reader].read(folder, file)
    except InputError as error:
        message = str(error)
        named = str(folder) in message or file.name in message
        return "" if named else f"refused without its name: {message!r}"
    except BaseException:
        return traceback.format_exc()
    finally:
        file.write_bytes(whole[file])
    return "taken"


def input_of(reader: str, number: int, seed: int, out: Path) -> Path:
    """Write an input that was found into an empty folder, to look at; the changed file."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    whole = {file: file.read_bytes() for file in READERS[reader].make(out)}
    rng = random.Random(f"{seed} {reader} {number}")
    file = rng.choice(list(whole))
    file.write_bytes(mutated(whole[file], list(whole.values()), rng))
    return file
