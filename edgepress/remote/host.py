"""A machine that the system's ssh reaches, and the exchange with it: a command, a tar of files there, an answer back.

Ports, keys and jump hosts come from the user's ssh configuration. No local shell is involved; the other side's login
shell gets quoted words.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import shlex
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

from edgepress.multilabel.errors import InputError

log = logging.getLogger("edgepress")

CONNECT_SECONDS = 10
LEAVE_SECONDS = 10.0
"""Seconds that an interrupted command waits for the other side to remove its folder."""
_OPTIONS = ("BatchMode=yes", f"ConnectTimeout={CONNECT_SECONDS}", "ServerAliveInterval=15", "ServerAliveCountMax=4")
SSH_FAILED, _NOT_FOUND, _NOT_RUNNABLE = 255, 127, 126
_CLOCK = re.compile(r"^\d\d:\d\d:\d\d\s+")


@dataclass(frozen=True, kw_only=True)
class Host:
    """A machine that ssh reaches.

    Raises:
        InputError: the name is empty, or ssh would take it for an option.
    """

    name: str
    """The name as ssh takes it: `user@jetson`, or a name from ~/.ssh/config."""
    python: str = "python3"
    """The Python there that edgepress is installed for: a command, or a path from the user's home or from /."""
    options: tuple[str, ...] = ()
    """Values of ssh's -o; they come before ours, because ssh uses the first one that it reads."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[^-\s]\S*", self.name):
            raise InputError(f"--host is {self.name!r}; expected a host as ssh takes it: user@jetson")

    def command(self, *words: str) -> list[str]:
        """The local command that runs these words there."""
        options = [part for option in (*self.options, *_OPTIONS) for part in ("-o", option)]
        return ["ssh", *options, "--", self.name, " ".join(map(shlex.quote, (self.python, *words)))]


def host_of(name: str | None, python: str | None, options: Sequence[str] | None) -> Host | None:
    """The host that a verb's flags name; None if they name none.

    Raises:
        InputError: the flags say how to reach a host but name none; or see `Host`.
    """
    if name is None:
        if python or options:
            raise InputError("--host-python and --ssh-option say how to reach a host: give --host as well")
        return None
    return Host(name=name, python=python or "python3", options=tuple(options or ()))


def require_edgepress(host: Host) -> None:
    """Stop unless the other side has an edgepress with our major and minor version.

    Raises:
        InputError: it has not; says what to install there.
    """
    code, out, said = exchange(host, host.command("-m", "edgepress", "--version"), ())
    found = re.search(r"^edgepress (\d+)\.(\d+)\S*\s*\Z", out, re.MULTILINE)
    if code or found is None:
        raise InputError(explain(host, code, said or out.splitlines()))
    ours = version("edgepress")
    if [found[1], found[2]] != ours.split(".")[:2]:
        raise InputError(
            f"{host.name}: has {found[0].strip()}, and here is edgepress {ours}; expected the same major and minor "
            f"version: {how_to_install(host)}"
        )


def exchange(host: Host, command: list[str], files: Sequence[tuple[Path, str]]) -> tuple[int, str, list[str]]:
    """Run ssh, send the files as a tar, and wait; gives its exit code, standard output and standard error's lines."""
    with tempfile.TemporaryFile() as out:
        ssh = start(command, out)
        assert ssh.stdin is not None
        assert ssh.stderr is not None
        said: list[str] = []
        listener = threading.Thread(target=listen, args=(host, ssh.stderr, said), daemon=True)
        listener.start()
        try:
            if files:
                _send(ssh.stdin, files)
            ssh.wait()
        finally:
            hang_up(ssh)
            listener.join(LEAVE_SECONDS)
        out.seek(0)
        return ssh.returncode, out.read().decode(errors="replace"), said


def start(command: list[str], out: IO[bytes] | int) -> subprocess.Popen[bytes]:
    """Start ssh with pipes for standard input and error.

    Raises:
        InputError: ssh is not installed.
    """
    try:
        # In a session of its own, because Ctrl-C must reach us first: we then end the work on the other side.
        return subprocess.Popen(  # noqa: S603 # a list of arguments, and the host cannot be an option
            command, stdin=subprocess.PIPE, stdout=out, stderr=subprocess.PIPE, start_new_session=True
        )
    except FileNotFoundError:
        raise InputError("ssh is not installed here (apt install openssh-client)") from None


def _send(stream: IO[bytes], files: Sequence[tuple[Path, str]]) -> None:
    """Write a tar and leave the stream open, because its end would end the work there."""
    sink = _Pipe(stream)
    with tarfile.open(fileobj=sink, mode="w|") as archive:
        for path, name in files:
            with path.open("rb") as file:  # the file's bytes, even if the path is a link
                member = tarfile.TarInfo(name)
                member.size = os.fstat(file.fileno()).st_size
                archive.addfile(member, file)
    sink.flush()


class _Pipe(io.RawIOBase):
    """A stream whose other end may go away: later writes are discarded, and ssh's exit code says why."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.broken = stream, False

    def write(self, data: Any) -> int:
        if not self.broken:
            try:
                self.stream.write(data)
            except BrokenPipeError:
                self.broken = True
        return len(data)

    def flush(self) -> None:
        if not self.broken:
            try:
                self.stream.flush()
            except BrokenPipeError:
                self.broken = True


def hang_up(ssh: subprocess.Popen[bytes]) -> None:
    """End the connection, which ends the work on the other side; see `edgepress.remote.receive`."""
    assert ssh.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # the connection was already gone
        ssh.stdin.close()
    try:
        ssh.wait(LEAVE_SECONDS)
    except subprocess.TimeoutExpired:
        ssh.kill()
        ssh.wait()


def listen(host: Host, stream: IO[bytes], said: list[str]) -> None:
    """Collect standard error's lines, and show those that are no error of edgepress."""
    for raw in stream:
        line = raw.decode(errors="replace").strip()
        if line:
            said.append(line)
            if not line.startswith("edgepress: "):  # such a line is shown at the end, as an error
                log.info("%s: %s", host.name, _CLOCK.sub("", line))


def explain(host: Host, code: int, said: Sequence[str]) -> str:
    """One line that says why a command on another machine gave nothing."""
    last = said[-1] if said else ""
    if code == SSH_FAILED:
        return f"{host.name}: ssh failed: {last or 'the connection broke off'} (try: ssh {host.name} true)"
    if code in (_NOT_FOUND, _NOT_RUNNABLE):
        return f"{host.name}: {host.python} does not run there ({last}); name its Python with --host-python"
    ours = [line.removeprefix("edgepress: ") for line in said if line.startswith("edgepress: ")]
    if ours:
        return f"{host.name}: {ours[-1]}"
    if re.search(r"No module named", last):
        return f"{host.name}: edgepress is not installed for {host.python} there ({last}): {how_to_install(host)}"
    return f"{host.name}: {host.python} -m edgepress ended with exit code {code} ({last or 'it said nothing'})"


def how_to_install(host: Host) -> str:
    """The command that installs this version there."""
    return (
        f"install it there with {host.python} -m pip install 'edgepress[onnxruntime]=={version('edgepress')}' "
        f"(or .[onnxruntime] in a clone); on a Jetson 'edgepress[onnxruntime,jetson]'"
    )


def last_object(host: Host, out: str) -> dict[str, Any]:
    """Parse the JSON on the last line: a login shell may print other lines before it."""
    try:
        found = json.loads(out.strip().splitlines()[-1])
    except (IndexError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{host.name}: answered {out.strip()[:160]!r}; expected a record of edgepress")
    return found
