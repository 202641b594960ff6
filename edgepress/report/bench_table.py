"""A benchmark for people: one table, and below it the conditions of the measurement and warnings."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console

from edgepress.deploy.bench.against import Against
from edgepress.deploy.bench.benchmark import Benchmark, Cell
from edgepress.deploy.bench.timing import Timing
from edgepress.report.terminal import print_table


def print_bench(benchmark: Benchmark, against: Against | None, console: Console) -> None:
    """Print a row per batch size, number of streams and way of calling."""
    ran, machine = benchmark.ran, benchmark.machine
    energy = benchmark.energy_source is not None
    numbers = ("p50 ms", "p90 ms", "p95 ms", "p99 ms", "max ms", "mean ms", "calls", "images/s")
    print_table(
        console,
        ["what", "batch", "streams", *numbers, *(["mJ/picture"] if energy else [])],
        [
            [name, str(cell.batch), str(cell.streams), *_numbers(timing, energy)]
            for cell in benchmark.cells
            for name, timing in _timings(cell)
        ],
        title=(
            f"{benchmark.engine}: {ran.runtime} {ran.version}, {ran.precision}, {ran.provider}; "
            f"{machine.processor}, {machine.cores} cores"
        ),
        caption=f"Milliseconds per call; {benchmark.pictures}",
        spare=("mean ms", "max ms", "p95 ms", "calls"),
    )
    for line in lines(benchmark, against):
        console.print(line, highlight=False, soft_wrap=True)


def lines(benchmark: Benchmark, against: Against | None = None) -> list[str]:
    """The lines below the table."""
    memory = benchmark.memory
    grown = "" if memory.growth_mb is None else f", {memory.growth_mb:.0f} MB of it since before the load"
    return [
        f"to load {benchmark.load_ms:.0f} ms, to the first answer {benchmark.first_ms:.1f} ms more",
        "peak memory not known" if memory.peak_mb is None else f"peak memory {memory.peak_mb:.0f} MB{grown}",
        *([f"memory: {memory.reason}"] if memory.reason else []),
        *(_copies(cell) for cell in benchmark.cells if cell.copies is not None),
        *([f"copies: {benchmark.copies_reason}"] if benchmark.copies_reason else []),
        f"energy: {benchmark.energy_source or benchmark.energy_reason}",
        *_missing(benchmark),
        *([] if against is None else _against(against)),
        *(f"CAUTION {line}" for line in benchmark.cautions),
    ]


def _timings(cell: Cell) -> Iterator[tuple[str, Timing]]:
    yield "model alone", cell.model
    yield "JPEG to logits", cell.end_to_end
    if cell.ahead is not None:
        yield "decoded ahead", cell.ahead


def _numbers(timing: Timing, energy: bool) -> list[str]:
    percentiles = (timing.p50_ms, timing.p90_ms, timing.p95_ms, timing.p99_ms)
    picture = timing.millijoules_per_image
    return [
        *("-" if value is None else f"{value:.2f}" for value in (*percentiles, timing.max_ms, timing.mean_ms)),
        str(timing.calls),
        f"{timing.images_per_second:.1f}",
        *(["-" if picture is None else f"{picture:.2f}"] if energy else []),
    ]


def _copies(cell: Cell) -> str:
    copies = cell.copies
    assert copies is not None
    return (
        f"batch {cell.batch}: copy in {copies.copy_in_ms:.3f} ms, compute {copies.compute_ms:.3f} ms, "
        f"copy out {copies.copy_out_ms:.3f} ms"
    )


def _missing(benchmark: Benchmark) -> list[str]:
    """Which percentiles no row has enough calls for, and how long a measurement must be to have enough."""
    needed: dict[str, tuple[int, float]] = {}
    for cell in benchmark.cells:
        for _, timing in _timings(cell):
            for name, calls in timing.calls_needed.items():
                seconds = calls * timing.mean_ms / 1e3 / cell.streams
                needed[name] = (calls, max(seconds, needed.get(name, (0, 0.0))[1]))
    return [
        f"-: {name} needs {calls} calls to be claimed with 99 % confidence (about --seconds {seconds:.0f})"
        for name, (calls, seconds) in sorted(needed.items())
    ]


def _against(against: Against) -> list[str]:
    how = "in turn" if against.interleaved else "NOT in turn: two runs, one after the other"
    told = []
    for row in against.ratios:
        between = "no interval, too few calls" if row.low is None else f"{row.low:.3f} to {row.high:.3f}"
        told.append(
            f"batch {row.batch}, streams {row.streams}: {row.ratio:.3f} times ({between}, 95 %) the time of "
            f"{against.other}; {how}"
        )
        told += [f"CAUTION {line}" for line in row.cautions]
    return [*told, *(f"CAUTION differs: {line}" for line in against.differences)]
