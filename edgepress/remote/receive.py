"""What a device does for `--host`: `python3 -m edgepress.remote.receive VERB BUNDLE ARGUMENTS`.

Takes a tar stream from stdin into a private folder, runs the verb there, prints one line of JSON and removes the
folder. `edgepress.remote.verbs` calls this, not a person. Standard input stays open during the work; its end means that
the connection is gone, so the work is stopped and the folder removed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
from pathlib import Path, PurePosixPath
from typing import IO, NoReturn

from edgepress.multilabel.bundle import MANIFEST, file_sha256
from edgepress.multilabel.errors import InputError

BAD_INPUT = 2


def main() -> None:
    """Exit codes: 0 if the verb gave a record (its own exit code is in it), otherwise the verb's, or 2."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    verb, bundle, *arguments = sys.argv[1:]
    try:
        # The folder has mode 0700 and is in TMPDIR if that is set.
        with tempfile.TemporaryDirectory(prefix="edgepress-") as folder:
            unpack(sys.stdin.buffer, Path(folder))
            answer = _work(Path(folder), verb, bundle, arguments)
    except InputError as error:
        _stop(str(error))
    except OSError as error:
        _stop(f"{error.filename or tempfile.gettempdir()}: {error.strerror}; is the disk full? TMPDIR names another")
    print(json.dumps(answer))


def unpack(stream: IO[bytes], folder: Path) -> None:
    """Write the plain files of a tar stream into a folder.

    Raises:
        InputError: the stream breaks off, or a member is not a plain file or would leave the folder.
        OSError: a file cannot be written.
    """
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                path = PurePosixPath(member.name)
                if not member.isreg() or path.is_absolute() or ".." in path.parts:
                    raise InputError(f"the member {member.name!r} is no plain file inside the folder: refused")
                source, target = archive.extractfile(member), folder / path
                assert source is not None, "a plain file has content"
                target.parent.mkdir(parents=True, exist_ok=True)
                with source, target.open("xb") as file:
                    shutil.copyfileobj(source, file)
    except tarfile.TarError as error:
        raise InputError(f"what was sent broke off ({error})") from None


def _work(folder: Path, verb: str, bundle: str, arguments: list[str]) -> dict[str, object]:
    """The verb's record, its exit code, and whether it had to build the engine again."""
    manifest, scratch = folder / bundle / MANIFEST, folder / ".tmp"
    before = file_sha256(manifest)
    scratch.mkdir()  # so that files that runtimes leave are removed as well
    child = subprocess.Popen(  # noqa: S603 # this is the same edgepress, with a list of arguments
        [sys.executable, "-m", "edgepress", verb, f"./{bundle}", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", "TMPDIR": str(scratch)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    threading.Thread(target=_end_with_connection, args=(child,), daemon=True).start()
    try:
        out, _ = child.communicate()
    finally:
        _kill(child)
    if child.returncode not in (0, 1):
        if child.returncode < 0:
            _stop(f"{verb} was ended there by {signal.Signals(-child.returncode).name}; is memory short?")
        raise SystemExit(child.returncode)  # the verb has printed why
    return {"code": child.returncode, "rebuilt": file_sha256(manifest) != before, "record": json.loads(out)}


def _end_with_connection(child: subprocess.Popen[bytes]) -> None:
    # Not sys.stdin, because a thread that waits in it would not let the process end.
    while os.read(sys.stdin.fileno(), tarfile.RECORDSIZE):
        pass  # skips the padding of the tar
    _kill(child)


def _kill(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)


def _leave(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)  # the folder is removed on the way out


def _stop(message: str) -> NoReturn:
    print(f"edgepress: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(BAD_INPUT)


if __name__ == "__main__":
    main()
