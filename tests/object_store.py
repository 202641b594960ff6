"""An S3 store of a process of its own, which may be killed: moto, serving the files of a folder.

    python -m tests.object_store PORT FOLDER BUCKET/PREFIX LOG [KILLED_BY]

It prints a line when it is ready, and writes the path of every GET to LOG. When the object KILLED_BY is asked for, half
of it is sent, and the process is killed.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
KEYS = {
    "AWS_ACCESS_KEY_ID": "testing-key",
    "AWS_SECRET_ACCESS_KEY": "testing-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def environment(port: int) -> dict[str, str]:
    """What a program needs to find the store and to be let in."""
    return {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_EC2_METADATA_DISABLED": "true"}


@contextmanager
def serving(port: int, folder: Path, place: str, log: Path, *killed_by: str):
    """The store's process, ready; whoever has not killed it by then, it is killed at the end."""
    command = [sys.executable, "-m", "tests.object_store", str(port), str(folder), place, str(log), *killed_by]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()


class Watched:
    """A WSGI application whose requests are written down, and which is killed by one of them."""

    def __init__(self, application: Any, log: Path, killed_by: str | None) -> None:
        self.application, self.log, self.killed_by = application, log, killed_by

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        answer = self.application(environ, start_response)
        path = environ["PATH_INFO"]
        if environ["REQUEST_METHOD"] != "GET":
            return answer
        with self.log.open("a") as file:
            file.write(f"{path}?{environ['QUERY_STRING']}\n")
        return self._half(answer) if self.killed_by is not None and path.endswith(self.killed_by) else answer

    @staticmethod
    def _half(answer: Iterable[bytes]) -> Iterable[bytes]:
        whole = b"".join(answer)
        yield whole[: len(whole) // 2]
        os.kill(os.getpid(), signal.SIGKILL)


def main(port: int, folder: Path, place: str, log: Path, killed_by: str | None = None) -> None:
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server
    from werkzeug.test import Client

    application = DomainDispatcherApplication(create_backend_app)
    signed = "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
    # Before it listens: a store that was started again has what it had.
    for path, data in [
        (place.split("/")[0], b""),
        *((f"{place}/{file.name}", file.read_bytes()) for file in sorted(folder.iterdir())),
    ]:
        answer = Client(application).put(
            f"/{path}",
            data=data,
            headers={"Authorization": signed, "Content-Type": "application/octet-stream"},
            base_url=f"http://127.0.0.1:{port}",
        )
        assert answer.status_code == 200, answer.text
    server = make_server("127.0.0.1", port, Watched(application, log, killed_by), threaded=True)
    print("ready", flush=True)  # the port listens
    server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]), *sys.argv[5:])
