"""The GPU half, proven by one command in ten minutes on one GPU without internet. Not run on a GPU.

    .venv/bin/python -m benchmarks.gpu examples/clipart-sample --record benchmarks/records/gpu.json

Trains with AMP, torch.compile and channels-last (`benchmarks/gpu_training.py`), makes the sample student, and opens,
verifies and times its engines on the CUDA execution provider and in TensorRT or TensorRT-RTX, with and without a CUDA
graph; with two GPUs it distils in two processes over NCCL. Every step is a process of its own, because a failed CUDA
call spoils its process for all later ones. A step that fails or lasts too long is recorded with its last lines, and the
others go on; a step whose device or package is missing is skipped, and the record says what was missing. `--rehearse`
runs the steps that need no GPU, and makes the models so small that two cores need few minutes.

`benchmarks/gpu_wheels.sh` collects what this needs beyond a plain PyTorch image, for a machine without a network.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from benchmarks.gpu_found import Found, find
from edgepress.multilabel.bundle import write_atomically

PRECISIONS = ("no", "bf16", "fp16")
BATCHES = "1,8,64"
LAST_LINES = 15
"""How much of a failed step's output is kept."""
LONGEST = 150.0
"""Seconds after which a step is stopped."""
MINUTES = 10.0
"""After these no further step begins."""
REHEARSED = 10
"""How many times as long a rehearsal may last, and each of its steps."""
Outcome = Literal["ok", "failed", "stopped", "skipped", "not reached"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One process of the proof."""

    name: str
    module: str
    """What `python -m` runs."""
    arguments: tuple[str, ...]
    needs: tuple[str, ...] = ()
    """What must be here, by the names of `Found.lacks`."""
    after: tuple[str, ...] = ()
    """Steps that made what this one reads."""
    prints: bool = False
    """Whether its standard output is a JSON object."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """What became of a step."""

    name: str
    outcome: Outcome
    command: str
    reason: str = ""
    """Why it was not run, or did not end well."""
    seconds: float = 0.0
    found: Any = None
    """The JSON object that it printed."""
    last_lines: list[str] = field(default_factory=list)


def training(data: Path, rehearse: bool) -> list[Step]:
    """A training of each kind in every precision, with and without torch.compile, and with more reading processes."""
    small = ("--backbone", "test_efficientnet", "--size", "32", "--batch-size", "8", "--repeat", "1", "--seconds", "1")
    kinds: list[tuple[str, tuple[str, ...]]] = [(precision, ()) for precision in PRECISIONS]
    kinds += [("bf16-compiled", ("--torch-compile",)), ("bf16-16-workers", ("--workers", "16"))]
    steps = []
    for role in ("teach", "distill"):
        tiny = (*small, *(("--teacher", "test_vit") if role == "distill" else ())) if rehearse else ()
        for name, flags in kinds:
            words = (role, str(data), "--mixed-precision", name.partition("-")[0], *flags, *tiny)
            needs = () if rehearse and name == "no" else ("gpu",)
            module = "benchmarks.gpu_training"
            steps.append(Step(name=f"{role}-{name}", module=module, arguments=words, needs=needs, prints=True))
    return steps


def student(data: Path, work: Path, rehearse: bool) -> list[Step]:
    """The sample student and its ONNX graphs."""
    small = ("--backbone", "test_efficientnet", "--weights", "none") if rehearse else ()
    size = ("--size", "32" if rehearse else "128", "--epochs", "1" if rehearse else "4")
    precision = () if rehearse else ("--mixed-precision", "bf16")
    trained = (*size, *small, *precision, "--augment", "none")
    teacher, made, onnx = (str(work / name) for name in ("teacher", "student", "onnx-fp32"))
    backbone = () if rehearse else ("--backbone", "tf_efficientnet_lite2")
    quantized = ("--data", str(data), "--pictures", "64", "--time-limit", "1")
    return [
        _verb("make-teacher", ("teach", str(data), "--out", teacher, *trained, *backbone)),
        _verb(
            "make-student",
            ("distill", str(data), "--teacher", teacher, "--out", made, *trained),
            after=("make-teacher",),
        ),
        _verb("make-onnx-fp32", ("export", made, "--out", onnx, "--data", str(data)), after=("make-student",)),
        _verb("make-onnx-fp16", ("compile", onnx, "--engine", "onnx-fp16"), after=("make-onnx-fp32",)),
        *(
            _verb(
                f"make-onnx-int8-{target}",
                ("quantize", onnx, "--target", target, *quantized),
                after=("make-onnx-fp32",),
            )
            for target in ("onnxruntime", "tensorrt")
        ),
    ]


def onnxruntime_engines(data: Path, work: Path, rehearse: bool) -> list[Step]:
    """Every ONNX engine on the CUDA execution provider: verified and timed."""
    steps = []
    for name in ("onnx-fp32", "onnx-fp16", "onnx-int8-onnxruntime"):
        device = ("--device", "cpu" if rehearse else "cuda")
        needs = () if rehearse else ("gpu", "onnxruntime-gpu")
        steps += _proven(f"cuda-{name}", work / name, data, device, needs, (f"make-{name}",), rehearse)
    return steps


def tensorrt_engines(data: Path, work: Path, rehearse: bool) -> list[Step]:
    """Every TensorRT engine, with and without a CUDA graph: built, verified and timed."""
    steps = []
    for precision, graph in (("fp32", "onnx-fp32"), ("fp16", "onnx-fp16"), ("int8", "onnx-int8-tensorrt")):
        for captured in (False, True):
            name = f"tensorrt-{precision}{'-graph' if captured else ''}"
            out = work / name
            words = ("compile", str(work / graph), "--engine", "tensorrt", "--out", str(out), "--max-batch", "64")
            needs = ("gpu", "tensorrt", "cuda-bindings")
            made = (f"make-{graph}",)
            flag = ("--cuda-graph",) if captured else ()
            # tensorrt-rtx builds without a GPU, so that much can be rehearsed.
            build_needs = ("tensorrt",) if rehearse else needs
            steps.append(_verb(f"make-{name}", (*words, *flag), needs=build_needs, after=made))
            steps += _proven(name, out, data, (), needs, (f"make-{name}",), rehearse)
    return steps


def two_processes(data: Path, work: Path) -> list[Step]:
    """A student that two processes distil on two GPUs over NCCL."""
    launched = ("--standalone", "--nproc-per-node", "2", "-m", "edgepress", "distill", str(data))
    made = ("--teacher", str(work / "teacher"), "--out", str(work / "student-of-two"))
    return [
        Step(
            name="distill-in-two-processes",
            module="torch.distributed.run",
            arguments=(*launched, *made, "--size", "128", "--epochs", "2", "--mixed-precision", "bf16"),
            needs=("two gpus",),
            after=("make-teacher",),
        )
    ]


def _verb(name: str, words: tuple[str, ...], needs: tuple[str, ...] = (), after: tuple[str, ...] = ()) -> Step:
    return Step(name=name, module="edgepress", arguments=words, needs=needs, after=after, prints="--json" in words)


def _proven(
    name: str,
    bundle: Path,
    data: Path,
    device: tuple[str, ...],
    needs: tuple[str, ...],
    after: tuple[str, ...],
    rehearse: bool,
) -> list[Step]:
    seconds = "0.1" if rehearse else "0.5"
    return [
        _verb(f"verify-{name}", ("verify", str(bundle), "--data", str(data), *device, "--json"), needs, after),
        _verb(
            f"bench-{name}",
            ("bench", str(bundle), *device, "--batch", BATCHES, "--seconds", seconds, "--json"),
            needs,
            after,
        ),
    ]


def steps_of(data: Path, work: Path, rehearse: bool) -> list[Step]:
    """Every step, in the order in which they are run: what proves most comes first."""
    return [
        *student(data, work, rehearse),
        *onnxruntime_engines(data, work, rehearse),
        *tensorrt_engines(data, work, rehearse),
        *training(data, rehearse),
        *two_processes(data, work),
    ]


def run_step(step: Step, longest: float) -> Told:
    """Run a step in a process of its own; whatever happens there is told and raises nothing here."""
    command = [sys.executable, "-m", step.module, *step.arguments]
    shown = " ".join(["python", *command[1:]])
    began = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=longest)
    except subprocess.TimeoutExpired as error:
        said = [_text(error.stdout), _text(error.stderr)]
        return _told(step, shown, "stopped", f"it lasted longer than {longest:.0f} s", began, said)
    said = [done.stdout, done.stderr]
    found, reason = None, "" if done.returncode == 0 else f"exit code {done.returncode}"
    if step.prints:
        try:
            found = json.loads(done.stdout)
        except json.JSONDecodeError:
            reason = reason or "it printed no JSON object"
    return _told(step, shown, "failed" if reason else "ok", reason, began, said, found)


def _told(
    step: Step, shown: str, outcome: Outcome, reason: str, began: float, said: Sequence[str], found: Any = None
) -> Told:
    lines = [line for text in said if found is None or text is not said[0] for line in text.splitlines()]
    return Told(
        name=step.name,
        outcome=outcome,
        command=shown,
        reason=reason,
        seconds=round(time.perf_counter() - began, 1),
        found=found,
        last_lines=[] if outcome == "ok" else lines[-LAST_LINES:],
    )


def _text(said: str | bytes | None) -> str:
    return said.decode(errors="replace") if isinstance(said, bytes) else said or ""


def run_all(steps: Sequence[Step], lacks: Mapping[str, str], limit: float, longest: float = LONGEST) -> list[Told]:
    """Run the steps in order.

    Args:
        lacks: what is missing here, and why, by the names of `Step.needs`.
        limit: seconds after which no further step begins.
    """
    began, told = time.perf_counter(), list[Told]()
    for step in steps:
        shown = f"python -m {step.module} {' '.join(step.arguments)}"
        missing = [lacks[need] for need in step.needs if need in lacks]
        ended = {one.name: one.outcome for one in told}
        broken = [name for name in step.after if ended.get(name) != "ok"]
        if missing:
            told.append(Told(name=step.name, outcome="skipped", command=shown, reason="; ".join(missing)))
        elif broken:
            reason = f"needs what {' and '.join(broken)} should have made"
            told.append(Told(name=step.name, outcome="skipped", command=shown, reason=reason))
        elif time.perf_counter() - began > limit:
            reason = f"the {limit:.0f} s were over"
            told.append(Told(name=step.name, outcome="not reached", command=shown, reason=reason))
        else:
            told.append(run_step(step, longest))
        print(f"{told[-1].outcome:12} {told[-1].seconds:6.1f} s  {step.name}  {told[-1].reason}", file=sys.stderr)
    return told


def record_of(found: Found, told: Sequence[Told], rehearsed: bool) -> dict[str, Any]:
    """The record: the machine, what was missing, and every step."""
    count = {outcome: sum(one.outcome == outcome for one in told) for outcome in sorted({one.outcome for one in told})}
    return {
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "rehearsed_without_a_gpu": rehearsed,
        "machine": asdict(found.machine),
        "gpu": [asdict(gpu) for gpu in found.gpus],
        "driver": found.driver,
        "versions": found.versions,
        "missing": found.lacks,
        "outcomes": count,
        "steps": [asdict(one) for one in told],
    }


def main(arguments: list[str]) -> int:
    """Run everything, write the record, and print how it ended; 1 if a step failed or was stopped."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="a labelled data set, such as examples/clipart-sample")
    parser.add_argument("--record", type=Path, required=True, help="the JSON file to write")
    parser.add_argument(
        "--rehearse", action="store_true", help="run on a processor what needs no GPU, with tiny models"
    )
    options = parser.parse_args(arguments)
    found = find()
    with tempfile.TemporaryDirectory(prefix="edgepress-gpu-") as folder:
        steps = steps_of(options.data, Path(folder), options.rehearse)
        longer = REHEARSED if options.rehearse else 1
        told = run_all(steps, found.lacks, 60 * MINUTES * longer, LONGEST * longer)
    record = record_of(found, told, options.rehearse)
    write_atomically(options.record, (json.dumps(record, indent=2) + "\n").encode())
    print(json.dumps({"record": str(options.record), "missing": found.lacks, "outcomes": record["outcomes"]}, indent=2))
    return int(any(one.outcome in ("failed", "stopped") for one in told))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
