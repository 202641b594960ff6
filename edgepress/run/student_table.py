"""The table of students: what was measured of mobile backbones, once, on one processor (`benchmarks/students.py`)."""

from __future__ import annotations

import statistics
from collections import defaultdict
from functools import cache
from importlib.resources import files

from pydantic import BaseModel, ConfigDict, Field

from edgepress.deploy.engines.table import ENGINES, EngineSpec
from edgepress.multilabel.errors import InputError, require_choice
from edgepress.multilabel.manifest import Kind

FILE = "students.jsonl"
"""A header and a row per backbone, each a line of JSON."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Spread(_Frozen):
    """One time as a multiple of another."""

    ratio: float
    low: float
    """Lower end of the 95 % interval over pairs of blocks."""
    high: float
    """Upper end of the 95 % interval over pairs of blocks."""


class RuntimeFacts(_Frozen):
    """A student in one runtime; `error` says why there are no times."""

    error: str | None = None
    fp32_of_onnx: Spread | None = None
    """Time of its fp32 engine, as a multiple of ONNX Runtime's; None for ONNX Runtime itself."""
    fp32_bytes: int | None = None
    int8_of_fp32: Spread | None = None
    """Time of the plain INT8 graph, as a multiple of the same runtime's fp32."""
    int8_bytes: int | None = None
    sqnr: float | None = None
    """Signal to noise of the plain INT8 graph's logits, in dB; weights are random, norms are fitted to pictures."""
    int8_error: str | None = None
    """Why there is no INT8, where there is fp32."""


class StudentFacts(_Frozen):
    """A backbone with the default head, as a student; `error` says why it cannot be one."""

    name: str
    family: str
    error: str | None = None
    parameters: int | None = None
    """Of backbone and head, as exported."""
    macs: int | None = None
    """Multiply-adds for one picture of the table's size, in convolutions and matrix products."""
    apart: float | None = None
    """Largest difference of ONNX Runtime's logits from torch's at batches of 1 to 5, as a share of the largest logit
    or of 1."""
    fp32_ms: float | None = None
    """Milliseconds of ONNX Runtime's fp32 engine for one picture, with one thread."""
    runtimes: dict[Kind, RuntimeFacts | None] = {}
    """By the kind of bundle; None where it was not measured."""

    def why_not(self, engine: EngineSpec) -> str | None:
        """Why it cannot be this engine, or was not measured as one; None if the table has its time."""
        if self.error is not None:
            return self.error
        found = self.runtimes.get(engine.runtime.kind)
        if found is None:
            return NOT_MEASURED
        if engine.precision == "int8" and found.int8_error is not None:
            return found.int8_error
        return found.error

    def time_ms(self, engine: EngineSpec) -> float | None:
        """Milliseconds for one picture on the table's processor with one thread; None where it was not measured."""
        found = self.runtimes.get(engine.runtime.kind)
        if self.fp32_ms is None or found is None or self.why_not(engine) is not None:
            return None
        time = self.fp32_ms * (1.0 if found.fp32_of_onnx is None else found.fp32_of_onnx.ratio)
        if engine.precision == "fp32":
            return time
        return None if found.int8_of_fp32 is None else time * found.int8_of_fp32.ratio


class StudentTable(_Frozen):
    """The whole table."""

    measured: str
    """Days, `2026-11-30`, or the first and the last."""
    processor: str
    instructions: tuple[str, ...]
    """Those of the processor's that INT8 is fast or slow by."""
    size: int
    """Side of the pictures in pixels."""
    labels: int
    tools: dict[str, str]
    """Versions of what the times and the failures depend on."""
    students: tuple[StudentFacts, ...] = Field(min_length=1)

    def named(self, name: str) -> StudentFacts | None:
        return next((one for one in self.students if one.name == name), None)

    def slower_families(self, engine: EngineSpec) -> dict[str, float]:
        """Families whose INT8 is slower than fp32 in the engine's runtime, with the median of their ratios.

        It is beyond chance: the median of the intervals' lower ends is above 1.
        """
        found: dict[str, list[Spread]] = defaultdict(list)
        for one in self.students:
            facts = one.runtimes.get(engine.runtime.kind)
            if facts is not None and facts.int8_of_fp32 is not None:
                found[one.family].append(facts.int8_of_fp32)
        return {
            family: statistics.median(one.ratio for one in spreads)
            for family, spreads in sorted(found.items())
            if statistics.median(one.low for one in spreads) > 1
        }


NOT_MEASURED = "not measured"


@cache
def student_table() -> StudentTable:
    """The table that comes with this version."""
    header, *rows = (files("edgepress.run") / FILE).read_text(encoding="utf-8").splitlines()
    students = tuple(StudentFacts.model_validate_json(row) for row in rows)
    return StudentTable.model_validate({**_Header.model_validate_json(header).model_dump(), "students": students})


class _Header(_Frozen):
    measured: str
    processor: str
    instructions: tuple[str, ...]
    size: int
    labels: int
    tools: dict[str, str]


def table_engine(name: str) -> EngineSpec:
    """The engine of this name, if the table has times of its runtime and precision.

    Raises:
        InputError: it has not; lists those that it has.
    """
    known = engines_of_table()
    if name in ENGINES and name not in known:
        raise InputError(
            f"--engine {name}: the table has no times of it; expected one of {', '.join(known)}. For other engines "
            "name students in a recipe with a latency budget: it times each (docs/devices.md)"
        )
    require_choice("--engine", name, known)
    return ENGINES[name]


def engines_of_table() -> tuple[str, ...]:
    """Names of the engines whose times the table has."""
    table = student_table()
    return tuple(
        name
        for name, spec in ENGINES.items()
        if spec.weight_bits is None
        and spec.precision in ("fp32", "int8")
        and any(one.time_ms(spec) is not None for one in table.students)
    )
