"""Students for a latency budget: what is timed, what is scaled, and what is said of each."""

from __future__ import annotations

import pytest

from edgepress.deploy.engines.table import ENGINES
from edgepress.multilabel.errors import InputError
from edgepress.run.students import Found, Scale, Timer, find_students
from tests.edgepress.run.test_student_table import INT8, student, table


class Clock:
    """Times every student as a multiple of the table's INT8 time, and remembers which."""

    host = None

    def __init__(self, **factors: float) -> None:
        self.factors, self.timed = factors, list[str]()

    def ms(self, name: str) -> float:
        self.timed.append(name)
        return TABLE.named(name).time_ms(INT8) * self.factors.get(name, 2.0)


TABLE = table(*(student(f"s{number}", 2.0 * number, 0.5, macs=number) for number in range(1, 11)))
"""Of 1 to 10 ms."""


def find(budget: float, clock: Clock, count: int = 2) -> Found:
    return find_students(TABLE, INT8, budget, clock, count=count)  # type: ignore[arg-type]


def names(fits) -> list[str]:
    return [fit.student.name for fit in fits]


def test_references_scale_the_table_and_the_largest_that_fit_are_timed():
    clock = Clock()
    found = find(13.0, clock)
    assert clock.timed == ["s2", "s6", "s9", "s6", "s5"] or clock.timed == ["s2", "s5", "s9", "s6"]
    assert found.scale.factor == 2.0
    assert names(found.fits) == ["s6", "s5", "s4", "s3", "s2", "s1"]
    measured = {fit.student.name: fit.ms for fit in found.fits if fit.measured}
    assert measured["s6"] == 12.0
    assert {"s2", "s6", "s5"} <= set(measured)
    scaled = next(fit for fit in found.fits if fit.student.name == "s3")
    assert (scaled.ms, scaled.low_ms, scaled.high_ms) == (6.0, 6.0, 6.0)
    assert names(found.over) == ["s9"]
    assert found.nearest is None


def test_a_student_that_is_measured_over_the_budget_is_not_listed_whatever_its_scaled_time():
    found = find(13.0, Clock(s6=2.5))
    assert names(found.fits)[0] == "s5"
    assert {"s6", "s9"} == set(names(found.over))
    assert found.scale.high == 2.5
    assert found.scale.factor == 2.0


def test_where_none_fits_the_fastest_is_timed_and_named():
    clock = Clock()
    found = find(1.5, clock, count=1)
    assert found.fits == ()
    assert (found.nearest.student.name, found.nearest.ms, found.nearest.measured) == ("s1", 2.0, True)
    assert clock.timed[-1] == "s1"


def test_without_timing_everything_else_is_scaled():
    clock = Clock()
    assert len(find(13.0, clock, count=0).scale.measured) == len(clock.timed) == 3


def test_a_scale_is_a_median():
    scale = Scale.of({"a": 2.0, "b": 3.0, "c": 30.0}, dict.fromkeys("abc", 1.0))
    assert (scale.factor, scale.low, scale.high) == (3.0, 2.0, 30.0)


def test_an_engine_without_times_is_refused():
    with pytest.raises(InputError, match="no times"):
        find_students(TABLE, ENGINES["ncnn-fp32"], 5.0, Clock(), count=1)  # type: ignore[arg-type]


def test_a_student_is_really_timed(tmp_path, caplog):
    pytest.importorskip("torch", reason="torch is not installed; students are made with it")
    small = table(student("test_resnet", 1.0, 0.5), student("test_efficientnet", 1.0, 0.5))
    timer = Timer(ENGINES["onnx-fp32"], 64, 5, None, tmp_path)
    found = find_students(small, ENGINES["onnx-fp32"], 60_000.0, timer, count=2)
    assert sorted(names(found.fits)) == ["test_efficientnet", "test_resnet"]
    assert all(fit.measured and fit.ms > 0 for fit in found.fits)
    assert "mAP" not in caplog.text
    assert not list((tmp_path / "made").glob("*"))[1:]


class TestVerb:
    def test_the_table_is_printed_without_timing(self, edgepress):
        answer = edgepress("students", "--engine", "litert-int8")
        assert answer.code == 0, answer.err
        for words in ("as litert-int8, the fastest first", "Nothing was timed now", "that LiteRT cannot run"):
            assert words in answer.out
        record = edgepress("students", "--json").json
        assert record["processor"]
        assert len(record["students"]) >= 120

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            (("--budget", "5"), "has no unit; expected milliseconds, such as 5ms"),
            (("--budget", "5s"), "expected milliseconds, such as 8ms"),
            (("--budget", "-1ms"), "expected more than no time, such as 8ms"),
            (("--budget", "nanms"), "expected milliseconds"),
            (("--engine", "litert-int9"), "did you mean 'litert-int8'"),
            (("--engine", "tensorrt-int8", "--budget", "5ms"), "the table has no times of it"),
            (("--host", "user@pi"), "give --budget as well"),
            (("--size", "64"), "give --budget as well"),
            (("--budget", "5ms", "--time", "-1"), "expected 0 or more"),
            (("--budget", "5ms", "--host", "nobody@host.invalid"), "ssh failed"),
            (("--budget", "5ms", "--size", "3"), "size"),
        ],
    )
    def test_what_cannot_be_asked_for_is_told_before_anything_is_timed(self, bad, given, said):
        assert said in bad("students", *given)
