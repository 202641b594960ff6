"""A latency budget: choose which student is worth training, and which of its engines to ship.

How long a network takes does not depend on the values of its weights, so students are timed with random weights before
anything is trained. The trained engines are timed again, and only those count for shipping.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from edgepress.deploy.bench.benchmark import Benchmark
from edgepress.deploy.bench.latency import bench
from edgepress.deploy.engines.table import ENGINES
from edgepress.deploy.machine.device import describe_machine, installed
from edgepress.multilabel.bundle import Bundle, inputs_hash, write_atomically
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.errors import EngineUnavailableError, InputError
from edgepress.multilabel.judgement import NotRun, Reason, judge
from edgepress.multilabel.preprocess import Preprocess
from edgepress.remote.host import Host, host_of, require_edgepress
from edgepress.remote.session import Session
from edgepress.remote.verbs import bench_there, verify_there
from edgepress.run.build import build_engine, folder_of
from edgepress.run.recipe import QuantizeConfig, Recipe
from edgepress.run.result import EngineResult, OnHost
from edgepress.run.run_report import EngineTime, LatencyBudget, StudentTimes
from edgepress.run.splits import Splits

log = logging.getLogger("edgepress")

TIMES = "latency.json"
PICTURES = 16
"""Pictures on which students with random weights are exported, quantised and checked; times do not depend on them."""
_ROWS = TypeAdapter(tuple[StudentTimes, ...])
_SHORT = QuantizeConfig(pictures=PICTURES, choice="random", time_limit=0.0, budget=100.0)
"""INT8 with one candidate; with `most_float` it becomes the slowest graph that a search may end with."""


class OverBudgetError(Exception):
    """No student is within the latency budget: a gate that failed, exit code 1; names each one's best time."""


def choose_student(recipe: Recipe, splits: Splits, out: Path) -> tuple[Recipe, LatencyBudget | None]:
    """The recipe with the first of its students that has an engine within the budget, and the measured times.

    latency.json keeps the times, so that a continued run does not measure again. Under a launcher the main process
    measures and the others read the file.

    Raises:
        OverBudgetError: none is within the budget.
        InputError: a student cannot be made, or a host cannot be used.
    """
    from edgepress.compress.gather import process_state

    budget = recipe.latency_budget_ms
    if budget is None:
        return recipe, None
    host = host_of_recipe(recipe)
    tried: list[StudentTimes] = []
    with process_state().main_process_first():
        for name in recipe.students or (recipe.distill.backbone,):
            tried.append(_timed(name, recipe, splits, out, host))
            p50, _ = _best(tried[-1])
            verdict = "within" if p50 <= budget else "over"
            log.info(
                "%s: %s; %s the latency budget of %g ms%s", name, _listed(tried[-1]), verdict, budget, _where(host)
            )
            if p50 <= budget:
                distill = recipe.distill.model_copy(update={"backbone": name})
                found = LatencyBudget(budget_ms=budget, host=recipe.host, students=tuple(tried))
                return recipe.model_copy(update={"distill": distill}), found
    best_times = "; ".join(f"{row.student}: {_best(row)[1]}" for row in tried)
    raise OverBudgetError(
        f"no student is within {budget:g} ms{_where(host)}: {best_times}. "
        "Name smaller students, a smaller size, more engines or a larger latency budget"
    )


def choose_engine(results: Sequence[EngineResult], budget: LatencyBudget, student_val_map: float) -> LatencyBudget:
    """The budget with the engine to ship: of those that pass within it, the one with the best val mAP, and the faster
    of equals. The choice does not use test, on which they were verified.

    Args:
        results: judged.
        student_val_map: in [0, 1]; a float engine's mAP on val is the student's own.
    """
    candidates = []
    for one in results:
        p50, seen = one.p50_to_ship, one.on_host is not None or budget.host is None
        if seen and one.to_ship is not None and one.to_ship.verdict == "pass" and p50 is not None:
            candidates.append((_val_map(one, student_val_map), -p50, one))
    where = f" on {budget.host}" if budget.host else ""
    if not candidates:
        log.info("no engine passes within %g ms%s", budget.budget_ms, where)
        return budget
    val_map, negative, best = max(candidates, key=lambda one: one[:2])
    log.info("ship %s: val mAP %.2f, p50 %.3g ms%s", best.bundle, 100 * val_map, -negative, where)
    return budget.model_copy(update={"ship": best.engine})


def _val_map(result: EngineResult, student_val_map: float) -> float:
    """An engine's mAP on val, in [0, 1]; for INT8 the one that its calibration reached."""
    found = result.int8
    return student_val_map if found is None or found.val_mAP is None else found.val_mAP


def host_of_recipe(recipe: Recipe) -> Host | None:
    """The host that verifies and times the engines; None if the recipe names none."""
    return host_of(recipe.host, recipe.host_python, recipe.ssh_option)


def require_host(recipe: Recipe) -> None:
    """Ask the recipe's host, if it names one, whether edgepress runs there; under a launcher the main process asks.

    Raises:
        InputError: it cannot be reached, or edgepress cannot be run there; says what to do.
    """
    from edgepress.compress.gather import process_state

    host = host_of_recipe(recipe)
    if host is not None and process_state().is_main_process:
        require_edgepress(host)


def seen_on_host(host: Host, bundle: Bundle, recipe: Recipe, test: MultiLabelDataset) -> OnHost:
    """Verify and time an engine on a host; an error of one engine does not stop the others."""
    try:
        answer = verify_there(host, bundle, [f"--budget={recipe.verify.budget(bundle.manifest.precision)}"], test)
        ran = not isinstance(answer.found, NotRun)
        p50 = _p50(bundle, recipe, host) if ran else None
        seen = OnHost(judgement=answer.found.judgement, rebuilt=answer.rebuilt, p50_ms=p50)
    except EngineUnavailableError as error:
        seen = OnHost(judgement=judge([Reason(kind="machine", text=str(error))]))
    except InputError as error:
        seen = OnHost(judgement=judge([Reason(kind="model", text=str(error))]))
    time = "" if seen.p50_ms is None else f", {seen.p50_ms:.3g} ms"
    said = "".join(f", {reason}" for reason in seen.judgement.reasons)
    log.info("%s%s: %s%s%s", bundle.name, _where(host), seen.judgement.verdict, time, said)
    return seen


def _timed(name: str, recipe: Recipe, splits: Splits, out: Path, host: Host | None) -> StudentTimes:
    """A student's row of latency.json; it is kept while what it was measured from and on stays the same."""
    machine = describe_machine()
    key = inputs_hash(
        {
            "student": name,
            "model": recipe.distill.model_dump(include={"head", "width", "size", "resize", "crop_fraction"}),
            "labels": splits.train.labels.names,
            "engines": recipe.engines,
            "int8": ["with the most nodes in float", recipe.quantize.weight_bits],
            "compile": recipe.compile.model_dump(),
            "seconds": recipe.bench.seconds,
            "host": [recipe.host, recipe.host_python, recipe.ssh_option],
            "machine": [machine.processor, machine.cores, machine.gpu],
            "tools": installed(),
        }
    )
    from edgepress.compress.gather import process_state

    rows = {row.student: row for row in read_times(out)}
    if not process_state().is_main_process:  # all processes must choose alike, whatever their machine
        if name in rows:
            return rows[name]
        raise InputError(
            f"{out / TIMES}: no times of {name}; expected those that the main process of the launch wrote. Put the "
            "run's folder (--out) where every process sees it"
        )
    kept = rows.get(name)
    # A failure on a host may have come from the host: a connection, or a runtime that is installed by now.
    whole = kept is not None and (host is None or all(seen.p50_ms is not None for seen in kept.engines.values()))
    if kept is not None and kept.key == key and whole:
        log.info("%s: timed before, kept (%s)", name, out / TIMES)
        return kept
    if host is not None:
        require_edgepress(host)  # an unreachable host says nothing against an engine
    folder = out / ".latency"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        row = StudentTimes(student=name, key=key, engines=time_student(name, recipe, splits, folder, host))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    data = _ROWS.dump_json((*(one for one in rows.values() if one.student != name), row), indent=2, exclude_none=True)
    write_atomically(out / TIMES, data + b"\n")
    return row


def read_times(out: Path) -> tuple[StudentTimes, ...]:
    """latency.json; empty if it cannot be read, because every student can be timed again."""
    try:
        return _ROWS.validate_json((out / TIMES).read_bytes())
    except (FileNotFoundError, ValidationError):
        return ()


def time_student(
    name: str, recipe: Recipe, splits: Splits, folder: Path, host: Host | None, *, most_float: bool = True
) -> dict[str, EngineTime]:
    """Times of a backbone with random weights, by the names of the recipe's engines.

    Args:
        folder: an empty folder, or one that does not exist, for what is made.
        most_float: time INT8 as the slowest graph that its search may end with, and not as the plain one.
    """
    log.info("timing %s with random weights%s: its mAP means nothing", name, _where(host))
    few = Splits(train=_few(splits.train), val=_few(splits.val), test=_few(splits.test))
    onnx = _with_random_weights(name, recipe, few, folder)
    times: dict[str, EngineTime] = {}
    bits = recipe.quantize.weight_bits or weight_bits_there(host, recipe.engines)
    short = _SHORT.model_copy(update={"weight_bits": bits})
    for engine in recipe.engines:
        try:
            bundle = build_engine(engine, onnx, folder, few, short, recipe.compile, most_float=most_float, tell=None)
            times[folder_of(engine, recipe.compile)] = EngineTime(p50_ms=_p50(bundle, recipe, host))
        except (EngineUnavailableError, InputError) as error:
            times[folder_of(engine, recipe.compile)] = EngineTime(reason=str(error))
    return times


def weight_bits_there(host: Host | None, engines: Sequence[str]) -> int | None:
    """Bits of INT8 weights that a host's processor needs; None without a host, or where no engine depends on it.

    Raises:
        InputError: see `Session`.
    """
    specs = [ENGINES[name] for name in engines]
    if host is None or not any(spec.precision == "int8" and spec.runtime.saturates for spec in specs):
        return None
    with Session(host) as session:
        return session.machine.weight_bits


def _with_random_weights(name: str, recipe: Recipe, few: Splits, folder: Path) -> Bundle:
    from edgepress.compress.config import ModelConfig
    from edgepress.compress.untrained import make_untrained
    from edgepress.deploy.build.export import export_onnx

    shape = recipe.distill.model_dump(include={"head", "width", "size", "resize", "crop_fraction", "interpolation"})
    config = ModelConfig.parse({**shape, "backbone": name}, "students")
    seen = Preprocess(**config.model_dump(include={"size", "resize", "crop_fraction", "interpolation"}))
    images = np.stack([seen(few.train.picture(row)) for row in range(len(few.train))])
    model = make_untrained(config, few.train.labels, images)
    return export_onnx(model, few.test, folder / "onnx-fp32", identity=inputs_hash(config.model_dump()))


def _few(data: MultiLabelDataset) -> MultiLabelDataset:
    """The pictures with the most labels, because mAP must be defined, whatever its value."""
    return data.subset(np.argsort(-data.targets.sum(axis=1), kind="stable")[:PICTURES])


def _p50(bundle: Bundle, recipe: Recipe, host: Host | None) -> float:
    """Milliseconds of a call with one picture on the target.

    Raises:
        InputError: the host or its runtime refuses.
        EngineUnavailableError: the target cannot run it, or it takes too long.
    """
    seconds = recipe.bench.seconds
    timed = bench(bundle, seconds=seconds) if host is None else _timed_there(bundle, seconds, host)
    timing = timed.cells[0].model
    if timing.p50_ms is None:
        raise EngineUnavailableError(f"too slow to be timed: {timing.mean_ms:.0f} ms a call")
    return timing.p50_ms


def _timed_there(bundle: Bundle, seconds: float, host: Host) -> Benchmark:
    found = bench_there(host, bundle, [f"--seconds={seconds}"]).found
    if isinstance(found, NotRun):
        raise EngineUnavailableError("; ".join(found.reasons))
    return found.benchmark


def _best(row: StudentTimes) -> tuple[float, str]:
    """The lowest p50 in milliseconds, infinite if nothing ran, and a text for it."""
    times = [(seen.p50_ms, name) for name, seen in row.engines.items() if seen.p50_ms is not None]
    if not times:
        return float("inf"), f"no engine runs ({'; '.join(str(seen.reason) for seen in row.engines.values())})"
    p50, name = min(times)
    return p50, f"{p50:.3g} ms ({name})"


def _listed(row: StudentTimes) -> str:
    said = {name: seen.reason or f"{seen.p50_ms:.3g} ms" for name, seen in row.engines.items()}
    return ", ".join(f"{name} {time}" for name, time in said.items())


def _where(host: Host | None) -> str:
    return f" on {host.name}" if host is not None else ""
