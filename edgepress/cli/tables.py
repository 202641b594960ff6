"""Tables of a verb's results."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.table import Table


def stdout() -> Console:
    # A pipe has no width of its own; the table needs about this much.
    return Console(width=None if sys.stdout.isatty() else 140, markup=False)


def print_record(record: dict[str, Any]) -> None:
    """A row a value, named by where it is."""
    table = Table(show_header=False)
    for name, value in _flatten(record):
        table.add_row(name, value)
    stdout().print(table)


def _flatten(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            rows += _flatten(value, f"{prefix}{name}.")
        elif value not in (None, "", []):
            text = f"{value:.4g}" if isinstance(value, float) else str(value)
            rows.append((prefix + name, text if len(text) <= 200 else text[:197] + "..."))
    return rows
