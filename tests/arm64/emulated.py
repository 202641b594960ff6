"""A system of Debian's arm64 packages and aarch64 wheels, and how a Python program runs in it, emulated."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.deploy.machine.boards import BOARDS, board_tree

ROOT = Path(__file__).resolve().parents[2]
TOOLS = {
    "qemu-aarch64-static": "qemu-user-static",
    "mmdebstrap": "mmdebstrap",
    "unshare": "util-linux",
}
"""The programs, and Debian's packages that have them."""
RELEASE, PYTHON = "bookworm", "3.11"
PACKAGES = ("python3", "ca-certificates", "libgomp1", "libstdc++6")
MANYLINUX = ("manylinux2014", "manylinux_2_17", "manylinux_2_27", "manylinux_2_28", "manylinux_2_31", "manylinux_2_34")
"""Platforms of wheels that Debian 12, with its glibc 2.36, takes; below also 2.35 and 2.36."""
EXTRAS = "onnxruntime,openvino,litert,ncnn"
QEMU = 10
"""The first release of qemu that is known to compute rightly. 7.2 computes LiteRT's INT8 products wrongly on processors
with i8mm, and ends the process as ai-edge-litert 2.2 and 2.3 open a model; no release between them was tried."""
SECONDS = 1800
"""Longest time of one program; one that hangs is ended."""

# Only what is named here is seen inside. /proc is made of the emulating process's own files and the board's device
# tree, because those of this PC would be seen otherwise; in place of the board's cpuinfo qemu shows the processor's.
_INSIDE = """
ulimit -c 0
mount --make-rprivate /
mount --rbind /dev "$ROOT/dev"
mount -t proc proc "$ROOT/realproc"
mount -t tmpfs tmpfs "$ROOT/proc"
for name in self thread-self meminfo loadavg stat uptime version mounts filesystems sys; do
    ln -s "/realproc/$name" "$ROOT/proc/$name"
done
cp -r "$BOARD/proc/." "$ROOT/proc/"
mount --bind "$BOARD/sys" "$ROOT/sys"
while read -r there here; do
    mkdir -p "$ROOT$here"
    mount --bind "$there" "$ROOT$here"
done <<< "$BINDS"
exec env -i PATH=/usr/bin:/bin HOME=/root LANG=C.UTF-8 COLUMNS=140 PYTHONDONTWRITEBYTECODE=1 \\
    PYTHONPATH=/edgepress:/packages /usr/sbin/chroot "$ROOT" /qemu -cpu "$CPU" /usr/bin/python3 "$@"
"""


class Refused(Exception):
    """What is missing here, and the command that mends it."""


def tell(text: str) -> None:
    """Say on standard error how far it is."""
    print(text, file=sys.stderr, flush=True)


def require_tools() -> None:
    """
    Raises:
        Refused: a program is missing, or this is not the root user, whom chroot and mount need.
    """
    missing = sorted({package for tool, package in TOOLS.items() if shutil.which(tool) is None})
    if missing:
        raise Refused(
            f"not installed: {', '.join(missing)}; apt-get install --no-install-recommends {' '.join(missing)}"
        )
    if int((found := emulator()).split(".")[0]) < QEMU:
        raise Refused(
            f"qemu {found} computes some INT8 products wrongly; expected {QEMU} or newer, which Debian 13 has, and "
            "bookworm-backports of Debian 12: apt-get install -t bookworm-backports qemu-user-static"
        )
    if os.geteuid() != 0:
        raise Refused("mount and chroot need the root user; run it with sudo, or in a container as root")


def emulator() -> str:
    """The emulator's version, `7.2.22`."""
    said = subprocess.run(["qemu-aarch64-static", "--version"], capture_output=True, text=True, check=True).stdout
    return said.split("version ")[1].split()[0]


class System:
    """The arm64 system in a folder; what is there already is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.root = self.folder / "root"
        self.packages = self.folder / "packages"
        self.edgepress = self.folder / "edgepress"

    def make(self) -> None:
        """Build what is missing: Debian's root, the wheels, edgepress of this checkout, and the boards' files."""
        require_tools()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._root()
        shutil.copy(shutil.which("qemu-aarch64-static") or "", self.root / "qemu")
        self._wheels()
        self._edgepress()
        for name in BOARDS:
            shutil.rmtree(self.folder / "boards" / name, ignore_errors=True)
            board_tree(self.folder / "boards" / name, name)

    def _root(self) -> None:
        if (self.root / ".complete").exists():
            return
        tell(f"Debian {RELEASE} for arm64")
        shutil.rmtree(self.root, ignore_errors=True)
        hooks = "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"
        command = ["mmdebstrap", "--quiet", "--variant=extract", "--architectures=arm64", hooks]
        # `extract` runs no program of these packages, so nothing is registered with the kernel of this machine.
        _checked([*command, f"--include={','.join(PACKAGES)}", RELEASE, str(self.root)])
        for name in ("proc", "realproc", "sys", "dev", "tmp", "root"):
            (self.root / name).mkdir(exist_ok=True)
        (self.root / ".complete").touch()

    def _wheels(self) -> None:
        constraints = ROOT / "constraints.txt"
        wanted = hashlib.sha256(constraints.read_bytes() + (ROOT / "pyproject.toml").read_bytes()).hexdigest()
        done = self.packages / ".complete"
        if done.exists() and done.read_text() == wanted:
            return
        tell("aarch64 wheels of edgepress's base install, ONNX Runtime, OpenVINO, LiteRT and ncnn")
        shutil.rmtree(self.packages, ignore_errors=True)
        platforms = [word for name in _platforms() for word in ("--platform", name)]
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
        there = ["--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON, *platforms]
        needed = _requirements(ROOT)
        _checked([*pip, *there, "--constraint", str(constraints), "--target", str(self.packages), *needed])
        done.write_text(wanted)

    def _edgepress(self) -> None:
        shutil.rmtree(self.edgepress, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
        _checked([*pip, "--no-deps", "--target", str(self.edgepress), str(ROOT)])

    def versions(self) -> dict[str, str]:
        """The packages that are installed in it."""
        names = (path.name.removesuffix(".dist-info").rpartition("-") for path in self.packages.glob("*.dist-info"))
        return {name: version for name, _, version in sorted(names)}

    def python(self, board: str, arguments: list[str], binds: dict[Path, str]) -> subprocess.CompletedProcess[str]:
        """Run its Python on the processor of a board.

        Args:
            board: its name among `BOARDS`.
            arguments: of the interpreter.
            binds: folders of this machine, and where they are inside.
        """
        shutil.rmtree(self.root / "root/.cache", ignore_errors=True)  # so that the golden check is made
        qemu = BOARDS[board].qemu
        assert qemu is not None, f"no processor for {board}"
        seen = {self.packages: "/packages", self.edgepress: "/edgepress", **binds}
        environment = {
            "PATH": os.environ["PATH"],
            "ROOT": str(self.root),
            "BOARD": str(self.folder / "boards" / board),
            "CPU": qemu,
            "BINDS": "\n".join(f"{there.resolve()} {here}" for there, here in seen.items()),
        }
        alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        command = ["timeout", "--kill-after=5", str(SECONDS), *alone, "bash", "-euc", _INSIDE, "arm64", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True)


def _platforms() -> list[str]:
    return [f"{name}_aarch64" for name in (*MANYLINUX, "manylinux_2_35", "manylinux_2_36")]


def _requirements(checkout: Path) -> list[str]:
    """What edgepress's base install and `EXTRAS` ask for."""
    import tomllib

    project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
    extras = [need for name in EXTRAS.split(",") for need in project["optional-dependencies"][name]]
    return [*project["dependencies"], *extras]


def _checked(command: list[str]) -> None:
    """
    Raises:
        Refused: it fails; with the last lines of what it says.
    """
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-8:])
        raise Refused(f"{command[0]} ended with {done.returncode}:\n{said}")
