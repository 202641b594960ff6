"""A record of `bench` for people: one table, and below it the conditions of the measurement and warnings."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from edgepress.report.terminal import print_table

_NAMES = {"model": "model alone", "end_to_end": "JPEG to logits", "ahead": "decoded ahead"}
_PERCENTILES = ("p50", "p90", "p95", "p99")


def print_bench(record: dict[str, Any], console: Console) -> None:
    """Print a row per batch size, number of streams and way of calling."""
    ran, machine = record["ran"], record["machine"]
    energy = record["energy_source"] is not None
    names = ["batch", "streams", *(f"{name} ms" for name in _PERCENTILES), "max ms", "mean ms", "calls", "images/s"]
    print_table(
        console,
        ["what", *names, *(["mJ/picture"] if energy else [])],
        [
            [name, str(cell["batch"]), str(cell["streams"]), *_numbers(cell[kind], energy)]
            for cell in record["cells"]
            for kind, name in _NAMES.items()
            if cell[kind] is not None
        ],
        title=(
            f"{record['engine']}: {ran['runtime']} {ran['version']}, {ran['precision']}, {ran['provider']}; "
            f"{machine['processor']}, {machine['cores']} cores"
        ),
        caption=f"Milliseconds per call; {record['pictures']}",
        spare=("mean ms", "max ms", "p95 ms", "calls"),
    )
    for line in lines(record):
        console.print(line, highlight=False, soft_wrap=True)


def lines(record: dict[str, Any]) -> list[str]:
    """The lines below the table."""
    memory = record["memory"]
    grown = "" if memory["growth_mb"] is None else f", {memory['growth_mb']:.0f} MB of it since before the load"
    told = [
        f"to load {record['load_ms']:.0f} ms, to the first answer {record['first_ms']:.1f} ms more",
        "peak memory not known" if memory["peak_mb"] is None else f"peak memory {memory['peak_mb']:.0f} MB{grown}",
        *([f"memory: {memory['reason']}"] if memory["reason"] else []),
        *(_copies(cell) for cell in record["cells"] if cell["copies"]),
        *([f"copies: {record['copies_reason']}"] if record["copies_reason"] else []),
        f"energy: {record['energy_source'] or record['energy_reason']}",
        *_missing(record),
    ]
    if "against" in record:
        told += _against(record["against"])
    return [*told, *(f"CAUTION {line}" for line in record["cautions"])]


def _numbers(timing: dict[str, Any], energy: bool) -> list[str]:
    values = [timing[f"{name}_ms"] for name in (*_PERCENTILES, "max", "mean")]
    picture = timing["millijoules_per_image"]
    return [
        *("-" if value is None else f"{value:.2f}" for value in values),
        str(timing["calls"]),
        f"{timing['images_per_second']:.1f}",
        *(["-" if picture is None else f"{picture:.2f}"] if energy else []),
    ]


def _copies(cell: dict[str, Any]) -> str:
    copies = cell["copies"]
    return (
        f"batch {cell['batch']}: copy in {copies['copy_in_ms']:.3f} ms, compute {copies['compute_ms']:.3f} ms, "
        f"copy out {copies['copy_out_ms']:.3f} ms"
    )


def _missing(record: dict[str, Any]) -> list[str]:
    """Which percentiles no row has enough calls for, and how long a measurement must be to have enough."""
    needed: dict[str, tuple[int, float]] = {}
    for cell in record["cells"]:
        for kind in _NAMES:
            for name, calls in (cell[kind] or {}).get("calls_needed", {}).items():
                seconds = calls * cell[kind]["mean_ms"] / 1e3 / cell["streams"]
                needed[name] = (calls, max(seconds, needed.get(name, (0, 0.0))[1]))
    return [
        f"-: {name} needs {calls} calls to be claimed with 99 % confidence (about --seconds {seconds:.0f})"
        for name, (calls, seconds) in sorted(needed.items())
    ]


def _against(against: dict[str, Any]) -> list[str]:
    how = "in turn" if against["interleaved"] else "NOT in turn: two runs, one after the other"
    told = []
    for row in against["ratios"]:
        between = "no interval, too few calls" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
        told.append(
            f"batch {row['batch']}, streams {row['streams']}: {row['ratio']:.3f} times ({between}, 95 %) the time of "
            f"{against['other']}; {how}"
        )
    return [*told, *(f"CAUTION differs: {line}" for line in against["differences"])]
