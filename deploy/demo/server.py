"""The server: Gradio's page, the one address that takes pictures, and the limits around both."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
from typing import Any

from edgepress.deploy.demo.answers import Engines
from edgepress.deploy.demo.gate import BusyError, Gate, Shelf
from edgepress.deploy.demo.page import FRAME, STYLE, make_page, theme
from edgepress.multilabel.errors import InputError

MAX_UPLOAD = 20_000_000
"""Most bytes of a picture."""
RECEIVED_BYTES = 8 * MAX_UPLOAD
"""Most bytes of all pictures being received, by their stated lengths; beyond that the server says it is busy."""
RECEIVE_SECONDS = 20.0
HELD_BYTES = 64_000_000
"""Most bytes of the held pictures; they are held so that another engine can be asked about them."""
HELD_SECONDS = 600.0
AWAITED_SECONDS = 15.0
"""Time to ask about a new picture before others may displace it."""
WAITING = 32
"""Most pictures that may wait for their answer."""
WAIT_SECONDS = 10.0
EVENT_BYTES = 65_536
"""Most bytes of a request without a picture; it holds a token and the names of engines."""
EVENTS_AT_ONCE = 256
CONNECTIONS = 512
_NAME_LENGTH = 100
# With this header a browser contacts no other host, whatever Gradio's page asks for.
_HEADERS = {
    b"content-security-policy": b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    b"style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; media-src 'self' blob:; "
    b"object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"same-origin",
}
_OPEN = ("/gradio_api/run/", "/gradio_api/startup-events", "/gradio_api/heartbeat/", "/gradio_api/app_id")
"""The part of Gradio's interface that the page uses. The rest takes files, or fetches them from elsewhere."""


def make_app(engines: Engines, *, gate: Gate | None = None, shelf: Shelf | None = None, local: bool = True) -> Any:
    """The demo as an ASGI application.

    Args:
        gate: by default one with `WAITING` and `WAIT_SECONDS`.
        shelf: by default one with `HELD_BYTES`, `HELD_SECONDS` and `AWAITED_SECONDS`.
        local: refuse requests that name another host than localhost or a loopback address, so that no web site can
            reach the demo by pointing its own host name to this machine (DNS rebinding).
    """
    import gradio as gr
    from fastapi import FastAPI
    from starlette.routing import Route

    shelf = shelf or Shelf(HELD_BYTES, HELD_SECONDS, AWAITED_SECONDS)
    page = make_page(engines, shelf, gate or Gate(WAITING, WAIT_SECONDS), MAX_UPLOAD)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.router.routes.append(Route("/picture", _Receiver(shelf).take, methods=["POST"]))
    gr.mount_gradio_app(
        app,
        page,
        path="/",
        theme=theme(),
        css=STYLE,
        head=f"<style>{FRAME}</style>",  # Gradio applies `css` only inside its frame
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        show_error=False,
    )
    return Limits(app, local)


def make_server(app: Any) -> Any:
    """A `uvicorn.Server` that serves the demo: `run(sockets=[...])` until it is stopped."""
    import uvicorn

    settings = {"log_level": "warning", "limit_concurrency": CONNECTIONS, "timeout_graceful_shutdown": 2}
    return uvicorn.Server(uvicorn.Config(app, timeout_keep_alive=5, **settings))  # type: ignore[arg-type]


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address.

    Raises:
        InputError: this is not an IP address.
    """
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        raise InputError(f"--listen {address}: expected an IP address, such as 127.0.0.1 or 0.0.0.0") from None


def bind(address: str, port: int) -> socket.socket:
    """Open a listening socket; port 0 takes any free port.

    Raises:
        InputError: the address is not this machine's, or the port is taken.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family, backlog=CONNECTIONS)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{address} port {port}: cannot listen there ({reason}); choose another --port") from None


class _Receiver:
    """Receives pictures; their size, each and in total, and the time to send them are limited."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.receiving = 0
        """Bytes."""

    async def take(self, request: Any) -> Any:
        """`POST /picture?name=NAME` with a file's bytes: `{"token": ...}`, or `{"error": ...}` and a status."""
        from starlette.requests import ClientDisconnect
        from starlette.responses import JSONResponse

        # Another site's page may send form types without asking, but this type only after OPTIONS, which is refused.
        if request.headers.get("content-type") != "application/octet-stream":
            return _refuse(415, "expected a picture's bytes as application/octet-stream")
        said = request.headers.get("content-length", "")
        if not said.isdecimal():
            return _refuse(411, "expected the picture's size as Content-Length")
        length = int(said)
        if length > MAX_UPLOAD:
            return _refuse(413, f"The picture is too large; they are taken up to {MAX_UPLOAD / 1e6:g} MB.")
        if self.receiving + length > RECEIVED_BYTES:
            return _refuse(503, "Busy: other pictures are being received. Try again in a moment.")
        self.receiving += length
        try:
            data = await asyncio.wait_for(request.body(), RECEIVE_SECONDS)  # uvicorn enforces the stated length
        except asyncio.TimeoutError:
            return _refuse(408, f"The picture did not arrive within {RECEIVE_SECONDS:g} s.")
        except ClientDisconnect:
            return _refuse(400, "The picture did not arrive whole.")
        finally:
            self.receiving -= length
        if not data:
            return _refuse(400, "The file is empty.")
        name = request.query_params.get("name", "")[:_NAME_LENGTH]
        try:
            return JSONResponse({"token": self.shelf.put(name if name.isprintable() and name else "picture", data)})
        except BusyError as error:
            return _refuse(503, str(error))


def _refuse(status: int, reason: str) -> Any:
    from starlette.responses import JSONResponse

    headers = {405: {"Allow": "GET, HEAD, POST"}, 503: {"Retry-After": "2"}}.get(status, {})
    return JSONResponse({"error": reason, "detail": reason}, status, headers=headers)


class Limits:
    """Checks every request first: which requests are allowed, how large, and how many at once."""

    def __init__(self, app: Any, local: bool) -> None:
        self.app, self.local = app, local
        self.events = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # the page uses no web socket, so the server closes it

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *_HEADERS.items()]}
            await send(message)

        headers = dict(scope["headers"])
        refused = self._refused(scope["method"], scope["path"], headers)
        if refused is not None:
            await refused(scope, receive, send_with_headers)
            return
        event = scope["method"] == "POST" and scope["path"] != "/picture"
        self.events += event
        try:
            if scope["path"].startswith("/gradio_api/run/"):
                receive = await _event(scope, receive)
            app = self.app if receive is not None else _refuse(400, "expected JSON with an object as its event_data")
            await app(scope, receive, send_with_headers)
        finally:
            self.events -= event

    def _refused(self, method: str, path: str, headers: dict[bytes, bytes]) -> Any:
        if self.local and not _is_here(_host(headers)):
            return _refuse(421, "This demo answers only to localhost and this machine's own addresses (127.0.0.1).")
        if _is_foreign(headers):
            return _refuse(403, "Only the demo's own page may ask this; a proxy in between must pass Host on.")
        if method not in ("GET", "HEAD", "POST"):  # Gradio answers OPTIONS with permission for every site
            return _refuse(405, "expected GET, HEAD or POST")
        if path.startswith("/gradio_api/") and not path.startswith(_OPEN):
            return _refuse(404, "The demo has no such address.")
        if method in ("GET", "HEAD") or path == "/picture":
            return None
        length = headers.get(b"content-length", b"")
        if not length.isdigit() or int(length) > EVENT_BYTES:
            return _refuse(413, f"expected a request of at most {EVENT_BYTES:,} bytes")
        if self.events >= EVENTS_AT_ONCE:
            return _refuse(503, f"Busy: {self.events} requests are being answered. Try again in a moment.")
        return None


async def _event(scope: Any, receive: Any) -> Any:
    """A page's event as a message to replay; None if it is not an event, for which Gradio would print a traceback."""
    from starlette.requests import ClientDisconnect, Request

    try:
        body = await Request(scope, receive).body()
        event = json.loads(body)
    except (ClientDisconnect, ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not isinstance(event.get("event_data"), dict):
        return None
    first = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def again() -> Any:
        message = next(first, None)
        return message if message is not None else await receive()

    return again


def _is_here(host: str) -> bool:
    """Whether a host is certainly this machine: a name may point anywhere, an address may not."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_foreign(headers: dict[bytes, bytes]) -> bool:
    """Whether a browser says that a page of another site sent the request; programs send no such header."""
    origin = headers.get(b"origin")
    return origin is not None and origin.partition(b"://")[2].lower() != headers.get(b"host", b"").lower()


def _host(headers: dict[bytes, bytes]) -> str:
    host = headers.get(b"host", b"").decode("latin-1")
    return host if host.endswith("]") else host.rpartition(":")[0] or host
