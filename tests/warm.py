"""A command that runs modules as `python -m` does, in a process that has imported edgepress and its runtimes already.

A test that asks another machine several things would pay one to two seconds of imports for each. The command hands its
words, its folder, its environment and its three streams to a server, which forks a child for them, and it ends as the
child ends. What ends the command itself does not end the child: a test of that takes a Python of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

_LONGEST = 1 << 17
"""Bytes of words and environment together."""
_COMMAND = """#!{python} -IS
import json, os, socket, sys

with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
    server.connect({address!r})
    asked = {{"words": sys.argv, "folder": os.getcwd(), "environment": dict(os.environ)}}
    socket.send_fds(server, [json.dumps(asked).encode()], [0, 1, 2])
    code = int(server.recv(16))
if code < 0:
    os.kill(os.getpid(), -code)
os._exit(code)
"""


@contextlib.contextmanager
def warm_python(folder: Path) -> Iterator[Path]:
    """The command's path; the server ends with this context, or with the process that began it."""
    command, address = folder / "python", str(folder / "socket")
    command.write_text(_COMMAND.format(python=sys.executable, address=address))
    command.chmod(0o755)
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.warm", address],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    assert server.stdout.readline() == b"listening\n"
    try:
        yield command
    finally:
        server.stdin.close()
        assert server.wait(timeout=60) == 0
        server.stdout.close()


def _serve(address: str) -> None:
    before = set(os.environ)
    import edgepress.cli.bench
    import edgepress.cli.main
    import edgepress.cli.verify
    import edgepress.remote.receive
    import edgepress.remote.respond  # noqa: F401

    for runtime in ("onnxruntime", "openvino"):  # after edgepress, which keeps them from starting threads
        import_module(runtime)

    assert len(os.listdir("/proc/self/task")) == 1, "a child would wait for ever for what another thread holds"
    for module in ("edgepress.remote.receive", "edgepress.remote.respond"):
        del sys.modules[module]  # as `python -m` finds it
    imported = {name: value for name, value in os.environ.items() if name not in before}
    gc.freeze()  # else a child's first search for garbage would copy every page
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(address)
        listening.listen()
        print("listening", flush=True)
        while True:
            ready, _, _ = select.select([listening, sys.stdin], [], [])
            if sys.stdin in ready:
                return
            connection, _ = listening.accept()
            if os.fork() == 0:
                break
            connection.close()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
    asked, streams, _, _ = socket.recv_fds(connection, _LONGEST, 3)
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        with contextlib.suppress(BrokenPipeError):  # the command was ended
            connection.send(str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)
    connection.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    _run(**json.loads(asked), imported=imported)


def _run(words: list[str], folder: str, environment: dict[str, str], imported: dict[str, str]) -> None:
    """`python WORDS`, where the words are -m, a module and its arguments."""
    sys.executable, option, module, *arguments = words
    assert option == "-m"
    os.environ.clear()
    os.environ.update({**imported, **environment})
    os.chdir(folder)
    sys.path[0] = folder
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        code = stop.code
    else:
        code = 0
    assert code is None or isinstance(code, int)
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)  # taking all modules apart takes longer than some verbs


if __name__ == "__main__":
    _serve(sys.argv[1])
