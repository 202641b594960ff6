"""The table of students that comes with edgepress: what it must hold for `edgepress students` to be believed."""

from __future__ import annotations

import pytest

from edgepress.deploy.engines.table import ENGINES
from edgepress.multilabel.errors import InputError
from edgepress.run.student_table import (
    NOT_MEASURED,
    RuntimeFacts,
    Spread,
    StudentFacts,
    StudentTable,
    engines_of_table,
    student_table,
    table_engine,
)

INT8, FP32, LITERT = (ENGINES[name] for name in ("onnx-int8-onnxruntime", "onnx-fp32", "litert-int8"))


def spread(ratio: float) -> Spread:
    return Spread(ratio=ratio, low=ratio - 0.01, high=ratio + 0.01)


def student(name: str, fp32_ms: float, int8: float, *, family: str = "f", macs: int = 10, litert: float = 0.5):
    """A student in ONNX Runtime and LiteRT; LiteRT's fp32 takes 2 times ONNX Runtime's."""
    runtimes = {
        "onnx": RuntimeFacts(int8_of_fp32=spread(int8), fp32_bytes=400, int8_bytes=100, sqnr=30.0),
        "litert": RuntimeFacts(fp32_of_onnx=spread(2.0), int8_of_fp32=spread(litert), fp32_bytes=400, int8_bytes=100),
        "ncnn": None,
    }
    facts = {"name": name, "family": family, "parameters": 100, "macs": macs, "apart": 1e-6, "fp32_ms": fp32_ms}
    return StudentFacts.model_validate({**facts, "runtimes": runtimes})


def table(*students: StudentFacts) -> StudentTable:
    about = {"measured": "2026-11-30", "processor": "a processor", "instructions": ("avx2",), "size": 64, "labels": 5}
    return StudentTable.model_validate({**about, "tools": {}, "students": students})


class TestShipped:
    def test_every_student_says_what_it_reached_or_why_not(self):
        found = student_table()
        names = [one.name for one in found.students]
        assert len(set(names)) == len(names) >= 180
        assert len({one.family for one in found.students}) >= 50
        for one in found.students:
            assert (one.error is None) == (one.apart is not None and one.fp32_ms is not None), one.name
            assert one.error is not None or one.apart < 1e-3, one.name
            assert "/" not in (one.error or ""), "no path of the machine that measured it"
            assert all(facts is not None for facts in one.runtimes.values()), f"{one.name}: {NOT_MEASURED}"

    def test_times_are_those_of_the_processor_that_is_named(self):
        found = student_table()
        assert found.processor
        assert found.tools["timm"]
        assert {"onnx-fp32", "onnx-int8-onnxruntime", "litert-int8"} <= set(engines_of_table())
        for name in engines_of_table():
            times = [time for one in found.students if (time := one.time_ms(ENGINES[name])) is not None]
            assert 0.01 < min(times) <= max(times) < 200, name

    def test_intervals_hold_what_they_are_of(self):
        for one in student_table().students:
            for facts in filter(None, one.runtimes.values()):
                for found in filter(None, (facts.fp32_of_onnx, facts.int8_of_fp32)):
                    assert 0 < found.low <= found.high
                    assert found.ratio / found.low > 0.5
                    assert found.ratio / found.high < 2


def test_a_time_is_the_product_of_what_was_measured():
    one = student("a", 3.0, 0.5, litert=0.4)
    assert one.time_ms(FP32) == 3.0
    assert one.time_ms(INT8) == 1.5
    assert one.time_ms(ENGINES["litert-fp32"]) == 6.0
    assert one.time_ms(LITERT) == pytest.approx(2.4)
    assert one.time_ms(ENGINES["ncnn-fp32"]) is None
    assert one.why_not(ENGINES["ncnn-fp32"]) == NOT_MEASURED


def test_what_failed_has_no_time_and_says_why():
    refused = RuntimeFacts(error="cannot be converted")
    one = student("a", 3.0, 0.5).model_copy(update={"runtimes": {"onnx": refused}})
    assert (one.time_ms(FP32), one.why_not(FP32)) == (None, "cannot be converted")
    quantised = RuntimeFacts(fp32_bytes=1, int8_error="nothing to quantise")
    one = one.model_copy(update={"runtimes": {"onnx": quantised}})
    assert (one.time_ms(FP32), one.why_not(FP32)) == (3.0, None)
    assert (one.time_ms(INT8), one.why_not(INT8)) == (None, "nothing to quantise")


def test_families_that_are_slower_in_int8_are_named_by_their_median():
    rows = [student(name, 1.0, ratio, family=name[0]) for name, ratio in (("a1", 0.9), ("a2", 1.2), ("a3", 1.3))]
    found = table(*rows, student("b1", 1.0, 0.5, family="b", litert=1.5))
    assert found.slower_families(INT8) == {"a": 1.2}
    assert found.slower_families(LITERT) == {"b": 1.5}
    assert table(student("c", 1.0, 1.005)).slower_families(INT8) == {}  # from 0.995 on: chance


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("litert-int9", "did you mean 'litert-int8'"),
        ("tensorrt-int8", "the table has no times of it"),
        ("onnx-int8-onnxruntime-7bit", "the table has no times of it"),
        ("onnx-fp16", "the table has no times of it"),
    ],
)
def test_an_engine_that_the_table_does_not_have_is_told(name, said):
    with pytest.raises(InputError, match=said) as error:
        table_engine(name)
    assert "expected one of onnx-fp32, onnx-int8-onnxruntime" in str(error.value)
