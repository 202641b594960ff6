"""Tables at 80 and 120 columns and piped: nothing that one would copy is cut or broken."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from edgepress.cli.doctor import print_doctor
from edgepress.deploy.machine.device import Backend
from edgepress.deploy.machine.doctor import Diagnosis
from edgepress.report.bench_table import print_bench
from edgepress.report.terminal import UNBOUNDED, print_record, print_table, stdout
from tests.deploy.bench.test_benchmark import BENCHMARK

DIGEST = "b77e6762a08544c46f5a5163932d144467f1de1644a8efcfede8d9e6f28a7b1e"
COLUMNS = ("engine", "precision", "mAP", "drop", "p50 ms", "p90 ms", "verdict")
ROWS = [
    ("onnx-int8-onnxruntime", "int8", "34.43", "-0.04 (-0.59 to 0.64)", "1.04", "1.14", "pass"),
    ("tensorrt-int8-sm86", "int8", "", "", "", "", "not run"),
]
WIDTHS = [60, 80, 120, UNBOUNDED]


def shown(width: int, print_to, *arguments: object, terminal: bool = False, **options: object) -> list[str]:
    console = Console(file=io.StringIO(), width=width, markup=False, highlight=False, force_terminal=terminal)
    print_to(*([console, *arguments] if print_to in (print_table, print_record) else [*arguments, console]), **options)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", WIDTHS)
def test_every_cell_is_whole_and_every_line_fits(width):
    lines = shown(width, print_table, COLUMNS, ROWS, title="a run", words=("precision", "verdict"), spare=("p90 ms",))
    text = "\n".join(lines)
    assert lines[0] == "a run"
    assert max(map(len, lines)) <= width
    for row in ROWS:
        for name, cell in zip(COLUMNS, row, strict=True):
            assert cell in text or name == "p90 ms"
    assert not set("…│┃━┏╭\x1b") & set(text)


def test_a_narrow_terminal_leaves_out_what_is_spare_and_says_so():
    wide, narrow = (shown(width, print_table, COLUMNS, ROWS, spare=("p90 ms", "precision")) for width in (90, 80))
    assert len(wide) == 3
    assert wide[0].split("  ")[0] == "engine"
    assert "p90" not in narrow[0]
    assert narrow[-1] == "A terminal of 87 columns also shows p90 ms."
    assert shown(87, print_table, COLUMNS, ROWS, spare=("p90 ms", "precision")) == wide


def test_where_there_is_no_room_a_row_is_a_block():
    lines = shown(50, print_table, COLUMNS, ROWS, spare=("p90 ms",))
    assert lines == [
        "onnx-int8-onnxruntime",
        "  precision int8   mAP 34.43",
        "  drop -0.04 (-0.59 to 0.64)   p50 ms 1.04",
        "  p90 ms 1.14   verdict pass",
        "tensorrt-int8-sm86",
        "  precision int8   verdict not run",
    ]


def test_prose_goes_on_below_itself_between_words():
    rows = [("tensorrt", "no", "not installed: pip install 'edgepress[gpu]' (on a Jetson it comes with JetPack)")]
    lines = shown(60, print_table, ("backend", "works", "detail"), rows, words=("works",), prose=True)
    assert len(lines) == 3
    assert lines[2].startswith(" " * len("tensorrt  no     "))
    assert "'edgepress[gpu]'" in "\n".join(lines)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_record_s_values_are_whole(width):
    path = "/a/long/path/that/somebody/copies/" + "x" * 60
    record = {"digest": DIGEST, "path": path, "files": {"model.onnx": DIGEST}, "tried": [{"a": 1}], "none": None}
    lines = shown(width, print_record, record)
    assert any(line.strip().endswith(DIGEST) for line in lines)
    assert any(path in line for line in lines)
    assert sum(DIGEST in line for line in lines) == 2
    assert any("--json lists them" in line for line in lines)
    assert not any("none" in line for line in lines)


def test_letters_of_two_columns_are_aligned():
    lines = shown(80, print_table, ("label", "count"), [("船", "1"), ("sea", "22")])
    assert lines[1:] == ["船         1", "sea       22"]


def test_a_terminal_has_a_bold_header_and_a_pipe_has_none(monkeypatch):
    assert "\x1b[1m" in shown(90, print_table, COLUMNS, ROWS, terminal=True)[0]
    assert stdout().width == UNBOUNDED  # pytest's stdout is no terminal
    monkeypatch.setenv("COLUMNS", "80")
    assert stdout().width == UNBOUNDED


@pytest.mark.parametrize("width", WIDTHS)
def test_the_tables_of_verbs_fit(width):
    timed = shown(width, print_bench, BENCHMARK, None)
    header = next(line for line in timed if line.startswith("what") or line == "model alone")
    if width >= 80:
        assert {"p50 ms", "p90 ms", "p99 ms", "images/s"} <= set(re.split(r" {2,}", header))
    backend = Backend("tensorrt", False, "not installed: " + "words " * 20)
    found = Diagnosis(machine=BENCHMARK.machine, board=None, usable=True, backends=(backend,), advice=())
    assert max(map(len, shown(width, print_doctor, found))) <= width
