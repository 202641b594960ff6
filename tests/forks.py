"""Python with edgepress and torch imported once: a process that forks a child for every program that a test starts.

A test that needs processes of its own (to kill one, or to train in two) would pay five seconds of imports for each.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_ALONE = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
_SERVER = """
import atexit, gc, json, os, runpy, signal, sys, traceback

import edgepress.cli.main
import edgepress.compress.distill

gc.collect()
gc.freeze()  # else a child's first search for garbage would copy every page


def run(order, environment):
    for number, name in ((1, order["out"]), (2, order["err"])):
        os.dup2(os.open(name, os.O_WRONLY | os.O_APPEND), number)
    os.environ.update(environment)
    sys.argv, code = order["program"], 0
    try:
        if sys.argv[0] == "edgepress":
            edgepress.cli.main.main()
        else:
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as stop:
        code = stop.code or 0
        assert isinstance(code, int), code
    except BaseException:
        code = 1
        traceback.print_exc()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # taking all modules apart takes longer than an epoch


for line in sys.stdin:
    order, children = json.loads(line), {}
    if order is None:  # the end of the pipe may never come: processes that the tests forked hold it open as well
        break
    for environment in order["environments"]:
        child = os.fork()
        if child == 0:
            run(order, environment)
        children[child] = None
    print(json.dumps(list(children)), flush=True)
    left = set(children)
    while left:
        child, status = os.wait()
        children[child] = os.waitstatus_to_exitcode(status)
        left.remove(child)
        if children[child]:  # a launcher ends the processes that would wait for it
            for other in left:
                os.kill(other, signal.SIGTERM)
    print(json.dumps(list(children.values())), flush=True)
"""


@dataclass(frozen=True)
class Done:
    """What a program left behind."""

    codes: list[int]
    """Of its processes, in their order; minus the signal that ended one."""
    out: str
    err: str


class Forks:
    """Starts programs, one at a time: `edgepress` and its arguments, or a script and its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = (folder / "out", folder / "err")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        command = [sys.executable, "-c", _SERVER]
        self._process = subprocess.Popen(command, env={**os.environ, **_ALONE}, text=True, **pipes)

    def _say(self, order: dict | None) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def _heard(self) -> list[int]:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def start(self, program: list[object], told: Path | None = None, processes: int = 1) -> list[int]:
        """The numbers of the processes.

        Args:
            told: a FIFO for standard error, which the caller reads.
            processes: above 1 each gets its rank and where they meet, as torchrun gives it.
        """
        for file in self._files:
            file.write_text("")
        here = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(processes)}
        environments = [
            {**here, "RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(processes)}
            for rank in range(processes)
        ]
        out, err = self._files
        words = [str(word) for word in program]
        order = {"program": words, "out": str(out), "err": str(told or err)}
        self._say({**order, "environments": environments if processes > 1 else [{}]})
        return self._heard()

    def finish(self) -> Done:
        """Wait for what was started."""
        codes = self._heard()
        out, err = self._files
        return Done(codes, out.read_text(), err.read_text())

    def run(self, program: list[object], processes: int = 1) -> Done:
        self.start(program, processes=processes)
        return self.finish()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._say(None)
        self._process.stdin.close()
        assert self._process.wait(timeout=60) == 0
        self._process.stdout.close()


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]
