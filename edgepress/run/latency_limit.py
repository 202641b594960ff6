"""A latency budget: which student is worth training, and which of its engines to ship.

What a network computes, and so how long it takes, does not depend on the values of its weights: students are timed
with random ones before anything is trained. The trained engines are timed again, and only those count for shipping.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgepress.deploy.bench.latency import bench
from edgepress.deploy.machine.device import describe_machine, installed
from edgepress.multilabel.bundle import Bundle, inputs_hash, write_atomically
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.errors import EngineUnavailableError, InputError
from edgepress.multilabel.preprocess import Preprocess
from edgepress.remote.host import Host, host_of, require_edgepress, run_there
from edgepress.run.build import Splits, build_engine, folder_of
from edgepress.run.recipe import QuantizeConfig, Recipe

log = logging.getLogger("edgepress")

TIMES = "latency.json"
PICTURES = 16
"""What students with random weights are exported, quantised and checked on; their time does not depend on it."""
OVER = "over the latency budget: "
"""Begins the reason of an engine that is."""
_PLAIN = QuantizeConfig(pictures=PICTURES, choice="random", time_limit=0.0, budget=100.0)
"""INT8 without a search: the graph alone counts."""


class OverBudgetError(Exception):
    """No student is within the latency budget: a gate that failed, exit code 1; names each one's best time."""


def choose_student(recipe: Recipe, splits: Splits, out: Path) -> tuple[Recipe, list[dict[str, Any]]]:
    """The recipe with the first of its students of which an engine is within the budget, and the times that were taken.

    What was timed stands in latency.json, so that a run that goes on does not time again. Under a launcher the main
    process times and the others read.

    Raises:
        OverBudgetError: none is within the budget.
        InputError: a student that cannot be made, or a host that cannot be used.
    """
    from edgepress.compress.gather import process_state

    budget = recipe.latency_budget_ms
    if budget is None:
        return recipe, []
    host = _host(recipe)
    tried: list[dict[str, Any]] = []
    with process_state().main_process_first():
        for name in recipe.students or (recipe.distill.backbone,):
            tried.append(_timed(name, recipe, splits, out, host))
            p50, _ = _best(tried[-1]["engines"])
            verdict = "within" if p50 <= budget else "over"
            log.info("%s: %s; %s the budget of %g ms%s", name, _listed(tried[-1]), verdict, budget, _where(host))
            if p50 <= budget:
                distill = recipe.distill.model_copy(update={"backbone": name})
                return recipe.model_copy(update={"distill": distill}), tried
    best_times = "; ".join(f"{row['student']}: {_best(row['engines'])[1]}" for row in tried)
    raise OverBudgetError(
        f"no student is within {budget:g} ms{_where(host)}: {best_times}. "
        "Name smaller students, a smaller size, more engines or a larger budget"
    )


def choose_engine(
    recipe: Recipe, rows: list[dict[str, Any]], built: Mapping[str, Bundle], student: Bundle, test: MultiLabelDataset
) -> dict[str, Any]:
    """Of the engines that pass and are within the budget the one with the best val mAP, the faster of equals.

    Test, on which they were verified, does not choose. Rows that are over the budget are told so in their reasons;
    with a host, each row gets `there`: verdict, reasons and p50_ms on it.

    Args:
        rows: of a run's report.
        built: the engines' bundles, by their rows' names.
    """
    budget, host = recipe.latency_budget_ms, _host(recipe)
    assert budget is not None
    candidates = []
    for row in rows:
        bundle = built.get(row["engine"])
        if bundle is None:
            continue
        seen = row
        if host is not None:
            seen = row["there"] = _there(host, bundle, recipe, test)
            log.info("%s%s: %s", bundle.name, _where(host), _said(seen))
        p50 = seen.get("p50_ms")
        if p50 is not None and p50 > budget:
            over = f"{OVER}p50 is {p50:.3g} ms{_where(host)}, {budget:g} ms are allowed"
            row["reasons"] = [*row.get("reasons", []), over]
        elif p50 is not None and seen["verdict"] == "pass" and row["verdict"] not in ("fail", "unproven"):
            # On a host too an engine must hold what was found here, as against the student that it stands for.
            candidates.append((val_map(bundle, student), -p50, bundle.name))
    if not candidates:
        log.info("no engine passes within %g ms%s", budget, _where(host))
        return {"budget_ms": budget, "host": recipe.host, "ship": None}
    best, negative, name = max(candidates)
    log.info("ship %s: val mAP %.2f, p50 %.3g ms%s", name, 100 * best, -negative, _where(host))
    return {"budget_ms": budget, "host": recipe.host, "ship": name, "val_mAP": best, "p50_ms": -negative}


def val_map(bundle: Bundle, student: Bundle) -> float:
    """An engine's mAP on val, in [0, 1]: of INT8 what its calibration reached, of a float engine the student's own."""
    calibration = bundle.manifest.calibration
    if calibration is not None and calibration.val_mAP is not None:
        return calibration.val_mAP
    return float(student.manifest.facts["val_mAP"])


def _host(recipe: Recipe) -> Host | None:
    return host_of(recipe.host, recipe.host_python, recipe.ssh_option)


def _timed(name: str, recipe: Recipe, splits: Splits, out: Path, host: Host | None) -> dict[str, Any]:
    """A student's row of latency.json: kept while what it was measured from and on is the same."""
    model = recipe.distill.model_dump(include={"head", "width", "size", "resize"})
    machine = describe_machine()
    key = inputs_hash(
        {
            "student": name,
            "model": model,
            "labels": splits.train.labels.names,
            "engines": recipe.engines,
            "compile": recipe.compile.model_dump(),
            "seconds": recipe.bench.seconds,
            "host": [recipe.host, recipe.host_python, recipe.ssh_option],
            "machine": [machine["processor"], machine["cores"], machine["gpu"]],
            "tools": installed(),
        }
    )
    from edgepress.compress.gather import process_state

    if not process_state().is_main_process:
        return _timed_by_main(name, out)
    kept = [row for row in _read(out) if row["key"] == key]
    # What failed on a host may have been the host: a connection, or a runtime that is installed by now.
    if kept and (host is None or all("p50_ms" in seen for seen in kept[0]["engines"].values())):
        log.info("%s: timed before, kept (%s)", name, out / TIMES)
        return kept[0]
    if host is not None:
        require_edgepress(host)  # a host out of reach is no reason against an engine
    folder = out / ".latency"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        row = {"student": name, "key": key, "engines": _time_student(name, recipe, splits, folder, host)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    others = [one for one in _read(out) if one["student"] != name]
    write_atomically(out / TIMES, (json.dumps([*others, row], indent=2) + "\n").encode())
    return row


def _timed_by_main(name: str, out: Path) -> dict[str, Any]:
    """What the main process has written of a student, whatever the machine of this one: all must choose alike.

    Raises:
        InputError: it stands not in this process's folder.
    """
    for row in _read(out):
        if row["student"] == name:
            return row
    raise InputError(
        f"{out / TIMES}: no times of {name}; expected those that the main process of the launch wrote. Put the run's "
        "folder (--out) where every process sees it"
    )


def _read(out: Path) -> list[dict[str, Any]]:
    """The rows of latency.json that are whole: nothing is lost, for every student can be timed again."""
    try:
        rows = json.loads((out / TIMES).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return []
    return [row for row in rows if _is_row(row)] if isinstance(rows, list) else []


def _is_row(row: Any) -> bool:
    """Whether it has what `_timed` writes."""
    if not isinstance(row, dict) or not all(isinstance(row.get(name), str) for name in ("student", "key")):
        return False
    engines = row.get("engines")
    return isinstance(engines, dict) and bool(engines) and all(map(_is_time, engines.values()))


def _is_time(seen: Any) -> bool:
    if not isinstance(seen, dict):
        return False
    if "p50_ms" not in seen:
        return isinstance(seen.get("reason"), str)
    return isinstance(seen["p50_ms"], int | float) and math.isfinite(seen["p50_ms"])


def _time_student(
    name: str, recipe: Recipe, splits: Splits, folder: Path, host: Host | None
) -> dict[str, dict[str, Any]]:
    """By engine `p50_ms`, or `reason` where it cannot be made or run."""
    log.info("timing %s with random weights%s: its mAP means nothing", name, _where(host))
    few = Splits(train=_few(splits.train), val=_few(splits.val), test=_few(splits.test))
    onnx = _with_random_weights(name, recipe, few, folder)
    times: dict[str, dict[str, Any]] = {}
    for engine in recipe.engines:
        try:
            bundle = build_engine(engine, onnx, folder, few, _PLAIN, recipe.compile)
            times[folder_of(engine, recipe.compile)] = {"p50_ms": _p50(_bench(bundle, recipe, host))}
        except (EngineUnavailableError, InputError) as error:
            times[folder_of(engine, recipe.compile)] = {"reason": str(error)}
    return times


def _with_random_weights(name: str, recipe: Recipe, few: Splits, folder: Path) -> Bundle:
    from edgepress.compress.config import ModelConfig
    from edgepress.compress.untrained import make_untrained
    from edgepress.deploy.build.export import export_onnx

    shape = recipe.distill.model_dump(include={"head", "width", "size", "resize"})
    config = ModelConfig.parse({**shape, "backbone": name}, "students")
    seen = Preprocess(size=config.size, resize=config.resize)
    images = np.stack([seen(few.train.picture(row)) for row in range(len(few.train))])
    model = make_untrained(config, few.train.labels, images)
    return export_onnx(model, few.test, folder / "onnx-fp32", identity=inputs_hash(config.model_dump()))


def _few(data: MultiLabelDataset) -> MultiLabelDataset:
    """The pictures with the most labels: mAP must be defined, whatever it is."""
    return data.subset(np.argsort(-data.targets.sum(axis=1), kind="stable")[:PICTURES])


def _bench(bundle: Bundle, recipe: Recipe, host: Host | None) -> dict[str, Any]:
    """A record of `bench` at batch 1 on the target.

    Raises:
        InputError: the host, or its runtime, refuses.
        EngineUnavailableError: the target cannot run it.
    """
    if host is None:
        return bench(bundle, seconds=recipe.bench.seconds).as_dict()
    record = run_there(host, "bench", bundle, [f"--seconds={recipe.bench.seconds}"]).record
    if record.get("verdict") == "not run":
        raise EngineUnavailableError("; ".join(record["reasons"]))
    return record


def _p50(record: dict[str, Any]) -> float:
    p50 = record["cells"][0]["model"]["p50_ms"]
    if p50 is None:
        raise EngineUnavailableError(f"too slow to be timed: {record['cells'][0]['model']['mean_ms']:.0f} ms a call")
    return p50


def _there(host: Host, bundle: Bundle, recipe: Recipe, test: MultiLabelDataset) -> dict[str, Any]:
    """An engine verified and timed on a host; what stops one engine stops no other."""
    budget = recipe.verify.budget(bundle.manifest.precision)
    try:
        proof = run_there(host, "verify", bundle, [f"--budget={budget}"], test).record
        seen = {"verdict": proof["verdict"], "reasons": proof["reasons"], "rebuilt": proof["rebuilt"]}
        return {**seen, "p50_ms": _p50(_bench(bundle, recipe, host))} if proof["verdict"] != "not run" else seen
    except EngineUnavailableError as error:
        return {"verdict": "not run", "reasons": [str(error)]}
    except InputError as error:
        return {"verdict": "fail", "reasons": [str(error)]}


def _best(engines: dict[str, dict[str, Any]]) -> tuple[float, str]:
    """The lowest p50 in milliseconds, infinite where nothing ran, and words for it."""
    times = [(seen["p50_ms"], name) for name, seen in engines.items() if "p50_ms" in seen]
    if not times:
        return float("inf"), "no engine runs (" + "; ".join(seen["reason"] for seen in engines.values()) + ")"
    p50, name = min(times)
    return p50, f"{p50:.3g} ms ({name})"


def _listed(row: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_said(seen)}" for name, seen in row["engines"].items())


def _said(seen: dict[str, Any]) -> str:
    time = f"{seen['p50_ms']:.3g} ms" if "p50_ms" in seen else ""
    reasons = seen.get("reasons", [seen["reason"]] if "reason" in seen else [])
    return ", ".join(part for part in (seen.get("verdict", ""), time, "; ".join(reasons)) if part)


def _where(host: Host | None) -> str:
    return f" on {host.name}" if host is not None else ""
