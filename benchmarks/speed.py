"""Two checkouts in turns: how many times as fast the new one teaches, distils, computes CD + ID and runs commands.

    .venv/bin/python benchmarks/speed.py OLD NEW --run OLDS_QUICKSTART --rounds 2 >> RECORD.jsonl

OLD and NEW are checkouts, which share the packages of this Python. Each round runs A B B A, every turn in a process of
its own. Both train on the settings of OLD's quickstart: terms and options that only NEW knows are off, as far as their
defaults say so, and each distils from a teacher that it taught itself. Prints a line of JSON for each thing that was
measured, as soon as it was. Ratios above 1 are NEW's gain, of processor time (user and kernel, over all threads), and
of wall time, which other work on the machine disturbs. `export`, `quantize`, `verify` and `predict` begin with the
models of OLD's finished quickstart (`--run`; an older edgepress need not open bundles of a newer one) and are measured
as a person runs them, with their imports; `benchmarks/load_labels.py` measures how fast labels load. The interval of a
ratio is 95 %, from Student's t on the logarithms of the rounds' ratios; one round has none.

Beside them stand the floors, in pictures per second of processor time: `bare` is forward and backward of the same torch
models without anything around them, `decode` is reading and scaling the pictures. `peak_mb` is the largest resident
memory of a turn.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

VERBS = ("teach", "distill")
COMMANDS = ("export", "quantize", "verify", "predict", "quickstart")
PICTURES = 1000
"""Of `predict`: those of the sample's test split, again and again."""
_T95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
"""Student's t for 95 %, for 1 to 9 degrees of freedom."""


def main() -> None:
    """Run all turns and print the record, or run one turn (`--turn`, for this program's own use)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--rounds", type=int, default=2, choices=range(1, 11))
    every = ",".join((*VERBS, "cd_id", *COMMANDS))
    parser.add_argument("--only", default=every, help="what to measure, with commas (default: %(default)s)")
    parser.add_argument("--run", type=Path, default=Path("runs/quickstart"), help="the folder of OLD's quickstart")
    parser.add_argument("--turn", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.turn:
        print(json.dumps(_turn(options.turn, options.old, options.new)))
        return
    checkouts = {"old": options.old.resolve(), "new": options.new.resolve()}
    both = {name: _commit(path) for name, path in checkouts.items()}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        settings = _process(checkouts["old"], ["--turn", "settings"], work) | {"run": str(options.run.resolve())}
        (work / "settings.json").write_text(json.dumps(settings))
        for name in options.only.split(","):
            turns = _turns(name, checkouts, options.rounds, work)
            floors = {"floors": _floors(name, checkouts, work)} if name in VERBS else {}
            print(json.dumps({"what": name, "commits": both, **_summary(turns), **floors}), flush=True)


def _turns(name: str, checkouts: dict[str, Path], rounds: int, work: Path) -> list[dict[str, list[dict[str, float]]]]:
    """Of each round, both turns of either checkout."""
    found = []
    for _ in range(rounds):
        both: dict[str, list[dict[str, float]]] = {"old": [], "new": []}
        for which in ("old", "new", "new", "old"):
            own = work / which
            own.mkdir(exist_ok=True)
            (own / "settings.json").write_text((work / "settings.json").read_text())
            both[which].append(_process(checkouts[which], ["--turn", name], own))
        found.append(both)
    return found


def _summary(turns: list[dict[str, list[dict[str, float]]]]) -> dict[str, Any]:
    """Both checkouts' medians and the ratios of their times."""
    summary: dict[str, Any] = {}
    for clock in ("cpu", "wall"):
        means = [{which: statistics.mean(turn[clock] for turn in both[which]) for which in both} for both in turns]
        logs = [math.log(both["old"] / both["new"]) for both in means]
        middle = statistics.mean(logs)
        ends = None
        if len(logs) > 1:
            reach = _T95[len(logs) - 2] * statistics.stdev(logs) / math.sqrt(len(logs))
            ends = [round(math.exp(middle - reach), 2), round(math.exp(middle + reach), 2)]
        summary[f"{clock}_ratio"] = {"ratio": round(math.exp(middle), 2), "interval": ends}
    for which in ("old", "new"):
        of = [turn for both in turns for turn in both[which]]
        summary[which] = {field: round(statistics.median(turn[field] for turn in of), 5) for field in of[0]}
    return summary


def _floors(name: str, checkouts: dict[str, Path], work: Path) -> dict[str, float]:
    return {
        floor: _process(checkouts["new"], ["--turn", f"{floor}-{name}"], work / "new")["rate"]
        for floor in ("bare", "decode")
    }


def _process(checkout: Path, arguments: list[str], work: Path) -> dict[str, Any]:
    """What a turn in a process of its own prints."""
    command = [sys.executable, str(Path(__file__).resolve()), str(checkout), str(work), *arguments]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(checkout)}, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _commit(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _turn(name: str, checkout: Path, work: Path) -> dict[str, Any]:
    """One measurement, of the checkout that this process imports."""
    import edgepress

    assert Path(edgepress.__file__).is_relative_to(checkout), f"{edgepress.__file__} is not in {checkout}"
    if name == "settings":
        return _settings(checkout)
    if name == "cd_id":
        return _cd_id(checkout)
    settings = json.loads((work / "settings.json").read_text())
    if name in VERBS:
        return _trained(name, checkout, work, settings)
    if name in COMMANDS:
        return _commanded(name, checkout, Path(settings["run"]))
    floor, _, verb = name.partition("-")
    return (_bare if floor == "bare" else _decode)(verb, checkout, settings)


def _settings(checkout: Path) -> dict[str, Any]:
    import yaml

    from edgepress.compress.config import DistillConfig, TeachConfig

    recipe = yaml.safe_load((checkout / "examples/quickstart.yaml").read_text())
    configs: dict[str, Any] = {"teach": TeachConfig, "distill": DistillConfig}
    return {verb: config.model_validate(recipe[verb]).model_dump(mode="json") for verb, config in configs.items()}


def _config(verb: str, settings: dict[str, Any]) -> Any:
    from edgepress.compress import config as configs

    kind = configs.DistillConfig if verb == "distill" else configs.TeachConfig
    given = settings[verb]
    if verb == "distill":
        given = {**{term: 0.0 for term in configs.TERMS if term not in given}, **given}
    return kind.model_validate({**given, "epochs": 1})


def _data(checkout: Path, split: str) -> Any:
    from edgepress.multilabel.datasets import load_dataset

    return load_dataset(checkout / "examples/clipart-sample", split)


def _trained(verb: str, checkout: Path, work: Path, settings: dict[str, Any]) -> dict[str, float]:
    """Seconds per picture of an epoch, without what comes before and after it."""
    from edgepress.compress.distill import distill, teach
    from edgepress.compress.learning import Learning
    from edgepress.multilabel.bundle import Bundle

    times: dict[str, float] = {}
    epoch = Learning.epoch

    def timed(self: Any, number: int) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        sums = epoch(self, number)
        pictures = sums.batches * self.config.batch_size
        times.update(cpu=(time.process_time() - cpu) / pictures, wall=(time.perf_counter() - wall) / pictures)
        return sums

    train, val, config = _data(checkout, "train"), _data(checkout, "val"), _config(verb, settings)
    teacher = work / "teacher"
    if verb == "distill" and not teacher.exists():
        teach(train, val, _config("teach", settings), teacher)
    Learning.epoch = timed  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory(dir=work) as folder:
        if verb == "teach":
            teach(train, val, config, Path(folder) / "teacher")
        else:
            distill(train, val, Bundle.open(teacher), config, Path(folder) / "student")
    return {**times, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def _commanded(name: str, checkout: Path, run: Path) -> dict[str, float]:
    """Seconds of a command, and the most memory of the largest process that it started."""
    data = checkout / "examples/clipart-sample"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = [sys.executable, "-m", "edgepress", *_arguments(name, data, run, out)]
        before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL)
        wall, after = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 1):  # 1: a gate failed, as speed may on a busy machine
        raise subprocess.CalledProcessError(done.returncode, command)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu": cpu, "wall": wall, "peak_mb": after.ru_maxrss / 1024}


def _arguments(name: str, data: Path, run: Path, out: Path) -> list[str]:
    if name == "export":
        return ["export", str(run / "student"), f"--data={data}", f"--out={out}"]
    if name == "quantize":  # without a limit of time, in which a faster search would only try more
        searched = ["--target=onnxruntime", "--time-limit=0"]
        return ["quantize", str(run / "onnx-fp32"), f"--data={data}", f"--out={out}", *searched]
    if name == "verify":
        return ["verify", str(run / "onnx-int8-onnxruntime"), f"--data={data}"]
    if name == "quickstart":
        return ["run", f"--recipe={data.parent / 'quickstart.yaml'}", f"--data={data}", f"--out={out}"]
    found = sorted((data / "test").glob("*.jpg"))
    out.mkdir()
    for number in range(PICTURES):
        (out / f"{number:04d}.jpg").symlink_to(found[number % len(found)])
    return ["predict", str(run / "onnx-int8-onnxruntime"), str(out), "--json"]


def _cd_id(checkout: Path) -> dict[str, float]:
    """Seconds of CD + ID where it takes turns with a plain loop, and how many times as fast it is."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(checkout / "benchmarks/losses.py"), "--rounds", "5"]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    found = json.loads(done.stdout)
    turns, alone = found["after_other"], found["after_itself"]
    ours = turns["medians"]["edgepress"]
    return {
        "cpu": ours["cpu_seconds"],
        "wall": ours["wall_seconds"],
        "plain_loop_times": turns["cpu_seconds"]["ratio"],
        "plain_loop_times_alone": alone["cpu_seconds"]["ratio"],
        "peak_over_embeddings": found["peak_extra_over_embeddings"]["edgepress"],
    }


def _bare(verb: str, checkout: Path, settings: dict[str, Any]) -> dict[str, float]:
    """Pictures per second of forward and backward of the torch model alone."""
    import torch

    from edgepress.compress.models import make_model

    config = _config(verb, settings)
    model, _ = make_model(config, _data(checkout, "train").labels)
    model.train()
    images = torch.randint(0, 256, (config.batch_size, config.size, config.size, 3), dtype=torch.uint8)
    seconds = []
    for _ in range(6):
        cpu = time.process_time()
        model.zero_grad()
        model.logits(images).sum().backward()
        seconds.append(time.process_time() - cpu)
    return {"rate": round(config.batch_size / statistics.median(seconds), 1)}


def _decode(verb: str, checkout: Path, settings: dict[str, Any]) -> dict[str, float]:
    """Pictures per second that one thread reads and scales."""
    from edgepress.multilabel.preprocess import Preprocess

    train, scale = _data(checkout, "train"), Preprocess(size=_config(verb, settings).size)
    cpu = time.process_time()
    for path in train.paths:
        scale.load(path)
    return {"rate": round(len(train) / (time.process_time() - cpu), 1)}


if __name__ == "__main__":
    main()
