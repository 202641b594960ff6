"""What is printed of students: each time says whether it was measured or scaled, and nothing is hidden."""

from __future__ import annotations

import io

from rich.console import Console

from edgepress.deploy.engines.table import ENGINES
from edgepress.report.students import print_budget, print_table_of
from edgepress.run.student_table import RuntimeFacts
from tests.edgepress.run.test_student_table import INT8, student, table
from tests.edgepress.run.test_students import TABLE, Clock, find


def printed(show, *arguments) -> str:
    stream = io.StringIO()
    show(*arguments, Console(file=stream, width=200))
    return stream.getvalue()


class Timed(Clock):
    size, labels = 64, 5


def test_measured_and_scaled_times_are_told_apart():
    clock = Timed(s6=1.9)
    text = printed(print_budget, find(13.0, clock), TABLE, INT8, clock)
    lines = {line.split()[0]: line for line in text.splitlines() if line.startswith("s")}
    assert "measured" in lines["s6"]
    assert "scaled, 5.70 to 6.00" in lines["s3"]
    assert "measured on this machine, with random weights, 64 px, 5 labels: s2 4 ms" in text
    assert "s9: over, 18 ms measured" in text
    assert "The table knows no accuracy" in text
    assert "measured on a processor (avx2) with one thread, 2026-11-30, 64 px, 5 labels" in text


def test_a_scaled_time_that_may_be_over_says_so():
    clock = Timed(s9=4.0)
    text = printed(print_budget, find(13.0, clock, count=0), TABLE, INT8, clock)
    assert "scaled, 8.00 to 16.00; it may not fit" in text


def test_the_nearest_is_named_where_none_fits():
    clock = Timed()
    text = printed(print_budget, find(1.5, clock), TABLE, INT8, clock)
    assert "no student is within 1.5 ms on this machine; the nearest is s1 with 2 ms (measured)" in text


def test_failures_slow_families_and_gaps_are_listed():
    failed = student("c", 1.0, 0.5).model_copy(update={"runtimes": {"onnx": RuntimeFacts(error="no such operator")}})
    found = table(student("a", 1.0, 0.5), student("b", 1.0, 1.3, family="slow"), failed)
    text = printed(print_table_of, found, INT8)
    assert "2 students of 3 as onnx-int8-onnxruntime, the fastest first" in text
    assert "c: no such operator" in text
    assert "INT8 takes 0.90 times fp32's time in the median" in text
    assert "slower in INT8 than in fp32 in ONNX Runtime, by the table: slow (1.30 times)" in text
    text = printed(print_table_of, found, ENGINES["litert-fp32"])
    assert "not measured as litert-fp32: c" in text
    assert "slower in INT8" not in text
