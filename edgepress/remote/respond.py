"""The other machine's part in a search: `python3 -m edgepress.remote.respond`.

`edgepress.remote.session` calls this, not a person. One process serves a whole search: it says what machine it is, then
answers requests in turn. A request is a line of JSON on stdin and the bytes of the files that it names; an answer is a
line of JSON on stdout. The files lie in a private folder. The end of stdin means that the connection is gone, so
whatever is being done is ended and the folder removed.
"""

from __future__ import annotations

import base64
import io
import json
import os
import queue
import shutil
import signal
import sys
import tempfile
import threading
import warnings
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import IO, Literal

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from edgepress.deploy.bench.against import PICTURES, compare_latency
from edgepress.deploy.engines import open_engine
from edgepress.deploy.machine.device import describe_machine
from edgepress.deploy.verify.verification import predict_pixels
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import EngineUnavailableError, InputError
from edgepress.multilabel.ratio import Ratio
from edgepress.multilabel.saturation import weight_bits_here

_CHUNK = 1 << 20


class Hello(BaseModel):
    """What machine answers; the first line."""

    edgepress: str
    processor: str
    cores: int
    weight_bits: Literal[7, 8]


class SentFile(BaseModel):
    """A file that follows a request."""

    name: str
    size: int = Field(ge=0)


class Request(BaseModel):
    """One thing to do."""

    do: Literal["keep", "answers", "latency"]
    """keep: store the files; answers: a bundle's logits on stored pictures; latency: its time against another's."""
    bundle: str = ""
    """Name of a bundle; files that follow replace what is stored under this name."""
    other: str = ""
    pictures: str = ""
    """Name of a .npy file with uint8 pictures `[N, size, size, 3]`."""
    files: list[SentFile] = []


class Answer(BaseModel):
    """What a request gives, or why it gives nothing."""

    logits: str | None = None
    """A .npy file with float32 `[N, C]`, in base64."""
    ratio: Ratio | None = None
    refused: str | None = None
    """What is wrong with what was sent."""
    unavailable: str | None = None
    """Why this machine cannot run it."""


def main() -> None:
    """Exit codes: 0 after the end of stdin, 2 if a request cannot be read or a file cannot be written."""
    warnings.simplefilter("ignore")
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="edgepress-") as name:  # mode 0700, in TMPDIR if that is set
        folder = Path(name)
        (folder / ".tmp").mkdir()
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder / ".tmp")  # for files that runtimes leave
        machine = describe_machine()
        _say(
            answers,
            Hello(
                edgepress=version("edgepress"),
                processor=machine.processor,
                cores=machine.cores,
                weight_bits=7 if weight_bits_here() == 7 else 8,
            ),
        )
        requests: queue.Queue[Request] = queue.Queue()
        threading.Thread(target=_receive, args=(sys.stdin.buffer, folder, requests), daemon=True).start()
        while True:
            _say(answers, answer(requests.get(), folder))


def answer(request: Request, folder: Path) -> Answer:
    """Do what a request asks for."""
    try:
        if request.do == "keep":
            return Answer()
        bundle = Bundle.open(inside(folder, request.bundle))
        stored = inside(folder, request.pictures)
        if not stored.is_file():
            raise InputError(f"no such pictures: {request.pictures}")
        pixels = np.load(stored, mmap_mode="r", allow_pickle=False)
        if request.do == "latency":
            other = Bundle.open(inside(folder, request.other))
            return Answer(ratio=compare_latency(bundle, other, np.array(pixels[:PICTURES]), unproven=True))
        with open_engine(bundle, unproven=True) as engine:  # the search is the proof
            logits = predict_pixels(engine, pixels)
        file = io.BytesIO()
        np.save(file, logits)
        return Answer(logits=base64.b64encode(file.getvalue()).decode("ascii"))
    except EngineUnavailableError as error:
        return Answer(unavailable=str(error))
    except InputError as error:
        return Answer(refused=str(error))


def _say(stream: IO[str], said: BaseModel) -> None:
    stream.write(said.model_dump_json(exclude_none=True) + "\n")
    stream.flush()


def _receive(stream: IO[bytes], folder: Path, requests: queue.Queue[Request]) -> None:
    """Read requests until stdin ends, which ends the process whatever it is doing."""
    code, said = 0, ""
    try:
        while line := stream.readline():
            request = Request.model_validate(json.loads(line))
            if request.files and request.bundle:
                shutil.rmtree(inside(folder, request.bundle), ignore_errors=True)
            for file in request.files:
                _store(stream, inside(folder, file.name), file.size)
            requests.put(request)
    except (ValueError, ValidationError) as error:
        code, said = 2, f"what was sent cannot be read ({error})"
    except OSError as error:
        where = error.filename or tempfile.gettempdir()
        code, said = 2, f"{where}: {error.strerror}; is the disk full? TMPDIR names another"
    if said:
        print(f"edgepress: {' '.join(said.split())}", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(code)  # the main thread may be in the middle of a runtime's call


def inside(folder: Path, name: str) -> Path:
    """A path below a folder.

    Raises:
        InputError: the name leads out of it.
    """
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise InputError(f"the name {name!r} is not inside the folder: refused")
    return folder / path


def _store(stream: IO[bytes], path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        while size:
            data = stream.read(min(size, _CHUNK))
            if not data:
                raise InputError("it broke off")
            file.write(data)
            size -= len(data)


if __name__ == "__main__":
    main()
