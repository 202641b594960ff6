"""The demo as a program asks it: a picture is sent, and its token answered."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Client:
    """Whoever asks a demo on this machine."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, Any]:
        """A request as a program sends it: the status, and the answer's JSON or text."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            text = answer.read().decode()
            return answer.status, json.loads(text) if text.startswith(("{", "[")) else text
        finally:
            connection.close()

    def send(self, data: bytes, name: str = "picture.jpg") -> tuple[int, Any]:
        """Send a picture's bytes."""
        return self.ask("POST", f"/picture?name={name}", data, Content_Type="application/octet-stream")

    def answer(self, token: str, engine: str = "onnx-fp32") -> tuple[int, Any]:
        """What the page's event of a picture gives: picture and answer as HTML stand in its data."""
        event = {"token": token, "engine": engine, "beside": ""}
        body = {"data": [], "event_data": event, "fn_index": 0, "session_hash": token}
        return self.ask("POST", "/gradio_api/run/predict", json.dumps(body).encode(), Content_Type="application/json")
