"""Many clients at once: what became of each one's picture, after how long, and what the server's process holds."""

from __future__ import annotations

import http.client
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tests.loading.client import Client

Became = Literal["answered", "busy", "failed"]


@dataclass(frozen=True)
class Asked:
    """What became of one picture."""

    became: Became
    seconds: float
    said: str
    """Where it failed."""


@dataclass(frozen=True)
class Memory:
    """Of a process, in MB."""

    resident: float
    most: float
    """Since `forget_most`."""


def memory_of(process: int) -> Memory:
    """From Linux's /proc."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    kb = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith(("VmRSS", "VmHWM"))}
    return Memory(int(kb["VmRSS"]) / 1024, int(kb["VmHWM"]) / 1024)


def forget_most(process: int) -> None:
    """Let the most be what is resident now; proc(5)."""
    Path(f"/proc/{process}/clear_refs").write_text("5")


def once(client: Client, picture: bytes, name: str, engine: str) -> Asked:
    """Send a picture and ask for its answer."""
    started = time.perf_counter()
    became, said = _once(client, picture, name, engine)
    return Asked(became, time.perf_counter() - started, said)


def _once(client: Client, picture: bytes, name: str, engine: str) -> tuple[Became, str]:
    try:
        status, body = client.send(picture, name)
        if status == 503:
            return "busy", ""
        if status != 200:
            return "failed", f"{status}: {body}"
        status, body = client.answer(body["token"], engine)
        if status == 503:
            return "busy", ""
        if status != 200:
            return "failed", f"{status}: {body}"
    except (OSError, http.client.HTTPException) as error:
        return "failed", repr(error)
    said = body["data"][2]
    if "data-token" in said:
        return "answered", ""
    return ("busy", "") if "Busy: " in said else ("failed", said)


def load(
    client: Client,
    process: int,
    picture: bytes,
    *,
    requests: int,
    at_once: int,
    engine: str,
    name: str = "picture.jpg",
    each: int = 1000,
    tell: Callable[[dict[str, Any]], None] = lambda row: None,
) -> dict[str, Any]:
    """Ask so often, so many at once; `process` is the server's. Tells after each thousand, and gives the sum."""
    everything: list[Asked] = []
    forget_most(process)
    before = memory_of(process)
    thousands = []
    with ThreadPoolExecutor(at_once) as clients:
        while len(everything) < requests:
            some = min(each, requests - len(everything))
            started = time.perf_counter()
            asked = list(clients.map(lambda _: once(client, picture, name, engine), range(some)))
            taken = time.perf_counter() - started
            row = {**summary(asked), "seconds": taken, **_megabytes(memory_of(process))}
            thousands.append(row)
            tell(row)
            everything += asked
    return {
        "requests": requests,
        "at_once": at_once,
        "picture_bytes": len(picture),
        "before": _megabytes(before),
        **summary(everything),
        "parts": thousands,
    }


def summary(asked: list[Asked]) -> dict[str, Any]:
    """How many were answered, told to come again, and failed; and after how many milliseconds."""
    counts = Counter(one.became for one in asked)
    row: dict[str, Any] = {became: counts[became] for became in ("answered", "busy", "failed")}
    for became in ("answered", "busy"):
        times = np.array([1000 * one.seconds for one in asked if one.became == became])
        for name, share in (("p50", 50), ("p99", 99), ("max", 100)):
            row[f"{became}_{name}_ms"] = float(np.percentile(times, share)) if len(times) else None
    said = Counter(one.said for one in asked if one.became == "failed")
    return {**row, "failures": [{"said": text[:200], "times": times} for text, times in said.most_common(5)]}


def _megabytes(memory: Memory) -> dict[str, float]:
    return {f"{name}_mb": round(value, 1) for name, value in asdict(memory).items()}
