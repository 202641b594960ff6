"""A real sshd on loopback, with a port, a host key and an authorised key of its own."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

SSHD = Path("/usr/sbin/sshd")
_SEPARATION = Path("/run/sshd")
"""Where sshd, as root, puts its unprivileged half; Debian's service makes it."""


def require_sshd() -> None:
    """Skip, by name, where openssh-server is not installed; fail where EDGEPRESS_REQUIRE_SSHD says that it must be."""
    missing = [name for name, there in (("server", SSHD.is_file()), ("client", shutil.which("ssh"))) if not there]
    if missing and os.environ.get("EDGEPRESS_REQUIRE_SSHD"):
        pytest.fail(f"openssh-{missing[0]} is not installed, and EDGEPRESS_REQUIRE_SSHD is set")
    if missing:
        pytest.skip(f"openssh-{missing[0]} is not installed")


@dataclass(frozen=True)
class Server:
    """What reaches it."""

    folder: Path
    port: int
    home: Path
    """TMPDIR of what runs there."""

    @property
    def name(self) -> str:
        return f"{getpass.getuser()}@127.0.0.1"

    def options(self, key: str = "user", port: int | None = None) -> list[str]:
        return [
            f"Port={port or self.port}",
            f"IdentityFile={self.folder / key}",
            "IdentitiesOnly=yes",
            f"UserKnownHostsFile={self.folder / 'known_hosts'}",
        ]

    def flags(self, key: str = "user", port: int | None = None) -> list[str]:
        """Options of a verb."""
        return [word for option in self.options(key, port) for word in ("--ssh-option", option)]

    def left(self) -> list[str]:
        """Our folders in TMPDIR there; torch leaves one of its own when `doctor` imports it."""
        return sorted(path.name for path in self.home.glob("edgepress-*"))


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def start(folder: Path) -> tuple[subprocess.Popen[bytes], Server]:
    """Start it in the foreground and wait until it answers."""
    home = folder / "there"
    home.mkdir()
    for name in ("host", "user", "stranger"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    shutil.copyfile(folder / "user.pub", folder / "authorized_keys")
    if os.geteuid() == 0:
        _SEPARATION.mkdir(mode=0o755, exist_ok=True)
    while True:
        port = free_port()  # another process may take it before sshd does
        server = listening(folder, home, port)
        if server is not None:
            return server, Server(folder, port, home)


def listening(folder: Path, home: Path, port: int) -> subprocess.Popen[bytes] | None:
    """The daemon, once it answers; None where the port was taken."""
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    cache = shlex.quote(str(home / "cache"))
    environment = f"SetEnv TMPDIR={shlex.quote(str(home))} XDG_CACHE_HOME={cache} OMP_NUM_THREADS=1"
    (folder / "sshd_config").write_text(
        f"""ListenAddress 127.0.0.1
Port {port}
HostKey {folder / "host"}
AuthorizedKeysFile {folder / "authorized_keys"}
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
{environment}
"""
    )
    log = (folder / "sshd.log").open("wb")
    server = subprocess.Popen([str(SSHD), "-D", "-e", "-f", str(folder / "sshd_config")], stdout=log, stderr=log)
    while True:
        if server.poll() is not None:
            said = (folder / "sshd.log").read_text()
            assert "Address already in use" in said, said
            return None
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return server


def script(path: Path, lines: str) -> Path:
    """A command that stands where Python is looked for."""
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o755)
    return path
