"""Tables at 80 and 120 columns and piped: nothing that one would copy is cut or broken."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from edgepress.cli.doctor import print_doctor
from edgepress.report.bench_table import print_bench
from edgepress.report.terminal import UNBOUNDED, print_record, print_table, stdout
from edgepress.report.verification import MINUS, print_verification
from tests.edgepress.report.test_bench_table import RECORD

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
    timed = shown(width, print_bench, RECORD)
    header = next(line for line in timed if line.startswith("what") or line == "model alone")
    if width >= 80:
        assert {"p50 ms", "p90 ms", "p99 ms", "images/s"} <= set(re.split(r" {2,}", header))
    backend = {"name": "tensorrt", "works": False, "detail": "not installed: " + "words " * 20}
    machine = {"processor": "a processor", "cores": 2}
    report = {"machine": machine, "backends": [backend], "board": "", "advice": []}
    assert max(map(len, shown(width, print_doctor, report))) <= width


@pytest.mark.parametrize("width", [80, 120])
def test_what_verify_found_fits(width):
    counts = {"labels_counted": 30, "num_images": 240, "top_k": 3, "budget_points": 1.0}
    rates = {"flip_rate": 0.0193, "flip_rate_kept": 0.0394, "top1_agreement": 0.99, "topk_agreement": 0.95}
    logits = {"max_abs_diff": 1.2345, "mean_abs_diff": 0.1, "sqnr_db": 27.1}
    maps = {"mAP": 0.3443, "mAP_reference": 0.3439, "drop_points": -0.04, "drop_interval": [-0.59, 0.64]}
    label = {"label": "transport", "positives": 40, "AP_reference": 0.4, "AP": 0.41, "moved_points": 1.0}
    stage = {"stage": "onnx-int8-onnxruntime in ONNX Runtime", "after": "onnx-fp32 in ONNX Runtime", "beyond": ["drop"]}
    stage |= {"drop_points": 0.2, "max_abs_diff": 1.0, "sqnr_db": 27.0, "flip_rate": 0.02, "not_run": None}
    layer = {"layer": "/backbone/blocks.0/conv_dw/Conv", "operator": "Conv", "tensor": "/backbone/blocks.0/conv_dw/Out"}
    layers = {"against": "onnx-fp32", "pictures": 8, "threshold_db": 10, "not_inspected": None, "diverged_at": None}
    layers["layers"] = [layer | {"so_far_db": 30.0, "alone_db": 35.0}]
    engine = {"engine": "onnx-int8-onnxruntime", "reference": "student", "precision": "int8", "verdict": "pass"}
    result = engine | counts | rates | logits | maps | {"labels": [label], "stages": [stage], "layers": layers}
    result |= {"ran": {"runtime": "onnxruntime"}, "diverged_at": None, "reasons": [], "cautions": []}
    text = "\n".join(lines := shown(width, print_verification, result))
    assert max(map(len, lines)) <= width
    for whole in (engine["engine"], "-0.04 (-0.59 to 0.64)".replace("-", MINUS), stage["stage"], layer["layer"]):
        assert whole in text
