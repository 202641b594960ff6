"""What a person sees during training: a bar, one line per epoch, and TensorBoard's curves."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator

from accelerate import Accelerator
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger("edgepress")


def report_epoch(writer, history: list[dict[str, float]], step: int, epochs: int, is_best: bool, rate: float) -> None:
    """Write the last epoch's terms and val mAP to TensorBoard and as one line of the log.

    Args:
        history: as `Trained.history`.
        rate: pictures per second.
    """
    entry = history[-1]
    for name, value in entry.items():
        writer.add_scalar(name, value, step)
    writer.flush()
    skip = ("loss", "val_mAP", "seconds")
    shown = {name: value for name, value in entry.items() if name not in skip}
    terms = " + ".join(f"{name} {value:.4f}" for name, value in shown.items() if not name.endswith("_groups"))
    groups = "".join(f"  {name} {value:.1f}" for name, value in shown.items() if name.endswith("_groups"))
    log.info(
        "epoch %d/%d  loss %.4f = %s%s  val mAP %.2f%s  %.0f pictures/s",
        len(history),
        epochs,
        entry["loss"],
        terms,
        groups,
        100 * entry["val_mAP"],
        " (best)" if is_best else "",
        rate,
    )


class progress:
    """Show a bar on a terminal, and nothing in a log file; yields a function that advances it."""

    def __init__(self, accelerator: Accelerator, title: str, steps: int) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        shown = accelerator.is_main_process and console.is_terminal
        self.bar = Progress(*columns, console=console, transient=True, disable=not shown)
        self.task = self.bar.add_task(title, total=steps)

    def __enter__(self) -> Callable[[], None]:
        self.bar.start()
        return lambda: self.bar.advance(self.task)

    def __exit__(self, *error: object) -> None:
        self.bar.stop()


@contextlib.contextmanager
def heartbeat(message: str, every: float = 15.0) -> Iterator[None]:
    """Log a line at intervals while something else works silently, such as a download.

    Args:
        message: what is awaited and what ends it; the number of seconds passed is added.
        every: number of seconds between two lines.
    """
    over, started = threading.Event(), time.monotonic()

    def beat() -> None:
        while not over.wait(every):
            log.info("%s (%.0f s so far)", message, time.monotonic() - started)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
