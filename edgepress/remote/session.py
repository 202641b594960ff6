"""A search's connection to the machine that it is for: one ssh, over which candidates go and their answers come back.

`edgepress.remote.respond` is the other side. Values that leave this module are typed and were checked here.
"""

from __future__ import annotations

import base64
import binascii
import io
import logging
import os
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import IO

import numpy as np
from pydantic import ValidationError

from edgepress.multilabel.bundle import MANIFEST, Bundle
from edgepress.multilabel.errors import DisconnectedError, EngineUnavailableError, InputError, first_mistake
from edgepress.multilabel.plural import plural
from edgepress.multilabel.ratio import Ratio
from edgepress.remote.host import SSH_FAILED, Host, explain, hang_up, how_to_install, listen, require_edgepress, start
from edgepress.remote.respond import Answer, Hello, Request, SentFile

log = logging.getLogger("edgepress")
_MODULE = "edgepress.remote.respond"


class Session:
    """A connection that is open as long as the context manager.

    Raises:
        InputError: no connection, no edgepress there, or one of another version; one line that names the host.

    Example:
        >>> with Session(Host(name="user@pi")) as there:  # doctest: +SKIP
        ...     there.keep("val", pixels)
        ...     logits = there.answers(bundle, "val")
    """

    def __init__(self, host: Host) -> None:
        require_edgepress(host)
        self.host = host
        self._stored: dict[str, str] = {}
        self._said: list[str] = []
        self._ssh = start(host.command("-m", _MODULE), subprocess.PIPE)
        assert self._ssh.stderr is not None
        self._listener = threading.Thread(target=listen, args=(host, self._ssh.stderr, self._said), daemon=True)
        self._listener.start()
        try:
            self.machine = self._hello()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        hang_up(self._ssh)
        self._listener.join(timeout=1)
        assert self._ssh.stdout is not None
        self._ssh.stdout.close()

    def keep(self, name: str, pixels: np.ndarray) -> None:
        """Send pictures, uint8 `[N, size, size, 3]`, to be stored under a name."""
        count = plural(len(pixels), "prepared picture")
        log.info("%s: sending %s, %.1f MB", self.host.name, count, pixels.nbytes / 1e6)
        with tempfile.TemporaryFile() as file:
            np.save(file, pixels)
            size = file.tell()
            file.seek(0)
            self._ask(Request(do="keep", files=[SentFile(name=f"{name}.npy", size=size)]), [file])

    def answers(self, bundle: Bundle, pictures: str) -> np.ndarray:
        """A bundle's logits `[N, C]` on pictures that were sent before.

        Raises:
            EngineUnavailableError: that machine cannot run it.
            InputError: its runtime refuses the model, or its answers are no numbers.
            DisconnectedError: the connection broke off.
        """
        found = self._of(bundle, do="answers", pictures=pictures)
        try:
            logits = np.load(io.BytesIO(base64.b64decode(found.logits or "", validate=True)), allow_pickle=False)
        except (ValueError, EOFError, binascii.Error) as error:
            raise self._unread(str(error)) from None
        if logits.dtype != np.float32 or logits.ndim != 2 or logits.shape[1] != len(bundle.labels):
            raise self._unread(f"logits are {logits.dtype} {list(logits.shape)}")
        return logits

    def latency(self, bundle: Bundle, other: Bundle, pictures: str) -> Ratio:
        """A bundle's time as a multiple of another's, measured there in turns; see `compare_latency`.

        Raises:
            EngineUnavailableError, InputError, DisconnectedError: as `answers`.
        """
        self._send(other)
        found = self._of(bundle, do="latency", pictures=pictures, other=other.name)
        if found.ratio is None:
            raise self._unread("ratio: Field required")
        return found.ratio

    def _of(self, bundle: Bundle, **fields: str) -> Answer:
        self._send(bundle)
        fields["pictures"] += ".npy"
        return self._ask(Request.model_validate({"bundle": bundle.name, **fields}), [])

    def _send(self, bundle: Bundle) -> None:
        """Send a bundle unless the last one that was sent under its name is the same."""
        if self._stored.get(bundle.name) == bundle.digest:
            return
        names = [*bundle.manifest.files, MANIFEST]
        contents = [(bundle.path / name).open("rb") for name in names]
        files = [
            SentFile(name=f"{bundle.name}/{name}", size=os.fstat(content.fileno()).st_size)
            for name, content in zip(names, contents, strict=True)
        ]
        self._ask(Request(do="keep", bundle=bundle.name, files=files), contents)
        self._stored[bundle.name] = bundle.digest

    def _ask(self, request: Request, contents: Sequence[IO[bytes]]) -> Answer:
        assert self._ssh.stdin is not None
        try:
            self._ssh.stdin.write(request.model_dump_json().encode() + b"\n")
            for content in contents:
                with content:
                    while data := content.read(1 << 20):
                        self._ssh.stdin.write(data)
            self._ssh.stdin.flush()
        except BrokenPipeError:
            raise self._lost() from None
        found = self._line()
        try:
            answer = Answer.model_validate_json(found)
        except ValidationError as error:
            raise self._unread(first_mistake(error)) from None
        if answer.unavailable is not None:
            raise EngineUnavailableError(f"{self.host.name} ({self.machine.processor}): {answer.unavailable}")
        if answer.refused is not None:
            raise InputError(f"{self.host.name} ({self.machine.processor}): {answer.refused}")
        return answer

    def _hello(self) -> Hello:
        """The first line that is one; a login shell may print others before it."""
        while True:
            line = self._line()
            try:
                return Hello.model_validate_json(line)
            except ValidationError as error:
                if line.startswith('{"edgepress"'):  # no later line will be one
                    raise self._unread(first_mistake(error)) from None

    def _line(self) -> str:
        assert self._ssh.stdout is not None
        line = self._ssh.stdout.readline()
        if not line:
            raise self._lost()
        return line.decode(errors="replace")

    def _lost(self) -> InputError:
        """Why the other side says nothing more."""
        hang_up(self._ssh)
        self._listener.join(timeout=1)
        code = self._ssh.returncode
        if any("No module named" in line and _MODULE in line for line in self._said):
            return InputError(
                f"{self.host.name}: its edgepress is older than this one and cannot serve a search ({self._said[-1]}); "
                f"expected the same version there: {how_to_install(self.host)}"
            )
        if code == SSH_FAILED or code < 0:
            return DisconnectedError(
                f"{explain(self.host, SSH_FAILED, self._said)}; candidates that were finished are kept, and the same "
                "command continues after them"
            )
        return InputError(explain(self.host, code, self._said))

    def _unread(self, reason: str) -> InputError:
        return InputError(
            f"{self.host.name}: its edgepress answers what this one does not read ({reason}); expected the same "
            f"version there: {how_to_install(self.host)}"
        )
