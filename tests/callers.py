"""What the programs of examples/callers need, and a server for the one in a browser."""

from __future__ import annotations

import contextlib
import functools
import http.server
import mimetypes
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CALLERS = ROOT / "examples" / "callers"


def _missing(what: str) -> None:
    if os.environ.get("EDGEPRESS_REQUIRE_CALLERS"):
        pytest.fail(f"{what}, and EDGEPRESS_REQUIRE_CALLERS is set")
    pytest.skip(what)


def require_compiler() -> str:
    """The C++ compiler. Skips, by name, where it or libjpeg's headers are missing; fails where they must be there."""
    found = shutil.which("g++")
    if found is None or not Path("/usr/include/jpeglib.h").is_file():
        _missing("g++ or libjpeg is not installed (Debian: apt-get install g++ libjpeg-dev)")
    assert found is not None
    return found


def require_onnxruntime_web() -> Path:
    """The folder of onnxruntime-web's files, which EDGEPRESS_ONNXRUNTIME_WEB names or `.ci/run` installs."""
    named = os.environ.get("EDGEPRESS_ONNXRUNTIME_WEB")
    found = Path(named) if named else ROOT / ".venv" / "npm" / "node_modules" / "onnxruntime-web" / "dist"
    if not (found / "ort.wasm.min.mjs").is_file():
        _missing("onnxruntime-web is not installed (npm install --prefix .venv/npm onnxruntime-web@1.30.0)")
    return found


def compile_command(compiler: str, openvino: Path, out: Path) -> list[str]:
    """The command in the head of tag.cpp, with OpenVINO's wheel."""
    (library,) = (openvino / "libs").glob("libopenvino.so.*")
    return [
        *(compiler, "-std=c++17", "-O1", str(CALLERS / "tag.cpp"), "-o", str(out), f"-I{openvino / 'include'}"),
        *(f"-L{openvino / 'libs'}", f"-l:{library.name}", "-ljpeg", f"-Wl,-rpath,{openvino / 'libs'}"),
    ]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def served(folder: Path, bundle: Path, ort: Path) -> Iterator[str]:
    """The address of a server of tag.html in `folder`, with a bundle and onnxruntime-web beside it."""
    for name in ("tag.html", "tag.mjs"):
        shutil.copyfile(CALLERS / name, folder / name)
    (folder / "bundle").symlink_to(bundle.resolve())
    (folder / "ort").symlink_to(ort.resolve())
    mimetypes.add_type("text/javascript", ".mjs")
    mimetypes.add_type("application/wasm", ".wasm")
    (folder / "favicon.ico").write_bytes(b"")
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
