"""demo: show engines at work on a web page, or in an overlay over a video or a camera."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgepress.cli.options import Device, Rebuild, Threads, Unproven
from edgepress.multilabel.errors import InputError

if TYPE_CHECKING:
    from edgepress.deploy.demo.answers import Opening

log = logging.getLogger("edgepress")
LOOPBACK = "127.0.0.1"


def verb(
    bundle: Annotated[Path, typer.Argument(help="A bundle, or a run's folder: then each of its engines.")],
    device: Device = "cpu",
    threads: Threads = None,
    unproven: Unproven = False,
    rebuild: Rebuild = False,
    listen: Annotated[str, typer.Option("--listen", help="The IP address of the page.")] = LOOPBACK,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port; 0 takes a free one.")] = 7860,
    top: Annotated[
        int | None,
        typer.Option("--top", min=1, help="Only this many labels of a picture, and all that are answered yes."),
    ] = None,
    video: Annotated[Path | None, typer.Option("--video", help="No page: draw the labels into this video.")] = None,
    camera: Annotated[int | None, typer.Option("--camera", min=0, help="No page: draw into a camera's, 0, 1.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The video to write; without it a window opens.")] = None,
) -> None:
    """Show engines at work, on a web page or in a video.

    Ctrl-C ends it.
    """
    if video is not None and camera is not None:
        raise InputError("--video and --camera: expected one of them")
    from edgepress.deploy.demo.answers import Opening

    opening = Opening(device=device, threads=threads, rebuild=rebuild, unproven=unproven, top=top)
    source = video if video is not None else camera
    if source is not None:
        _overlay(bundle, opening, source, out)
    elif out is not None:
        raise InputError("--out is the video that --video or --camera writes; the page writes none")
    else:
        _serve(bundle, opening, listen, port)


def _serve(bundle: Path, opening: Opening, listen: str, port: int) -> None:
    import gradio  # noqa: F401 # checked before engines are opened, because that takes longer

    from edgepress.deploy.demo.answers import open_engines
    from edgepress.deploy.demo.server import bind, is_loopback, make_app, make_server

    local = is_loopback(listen)
    with bind(listen, port) as listening, open_engines(bundle, opening) as engines:
        for name, reason in engines.refused.items():
            log.info("%s is not offered: %s", name, reason)
        if not local:
            log.warning(
                "--listen %s: anyone who reaches this machine can give it pictures; there is no password and no HTTPS",
                listen,
            )
        server = make_server(make_app(engines, local=local))
        host = f"[{listen}]" if ":" in listen else listen
        print(
            f"http://{host}:{listening.getsockname()[1]}/  ({', '.join(engines.taggers)}; Ctrl-C ends it)", flush=True
        )
        with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is the way to end the demo
            server.run(sockets=[listening])


def _overlay(bundle: Path, opening: Opening, source: Path | int, out: Path | None) -> None:
    from edgepress.deploy.demo.overlay import Frames, show
    from edgepress.multilabel.bundle import MANIFEST

    if not (bundle / MANIFEST).is_file() and any(bundle.glob(f"*/{MANIFEST}")):
        raise InputError(f"{bundle}: a run's folder; for a video name one of its engines, a folder in it")
    if out is not None and isinstance(source, Path) and out.resolve() == source.resolve():
        raise InputError(f"--out {out}: the video that is read; name another file")
    with opening.tagger(bundle) as tagger, Frames(source) as frames:
        shown = show(tagger, frames, out)
    rate = shown.frames / max(shown.seconds, 1e-9)
    said = f"{shown.frames:,} frames, {rate:.1f} per second on average with decoding, the model and drawing"
    print(said + (f": {shown.out}" if shown.out else ""))
