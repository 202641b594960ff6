"""benchmarks/gpu.py without a GPU: what it runs, that it goes on where a step fails, and what its record says."""

from __future__ import annotations

import json
import re
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import typer
from packaging.requirements import Requirement

from benchmarks import gpu, gpu_found, gpu_training
from benchmarks.gpu import Step, record_of, run_all, steps_of
from edgepress.cli.main import command_line_of

ROOT = Path(__file__).resolve().parents[1]
ALL_HERE: dict[str, str] = {}
IMAGE = {
    *("torch", "torchvision", "triton", "numpy", "pillow", "filelock", "typing-extensions", "sympy", "mpmath"),
    *("networkx", "jinja2", "markupsafe", "fsspec", "setuptools"),
}
"""What comes with PyTorch and torchvision."""


def python(name: str, code: str, **fields) -> Step:
    """A step that runs a line of Python in place of a module."""
    return Step(name=name, module="timeit", arguments=("-n1", "-r1", code), **fields)


def test_a_step_that_fails_is_told_with_its_last_lines_and_the_others_go_on():
    steps = [
        python("breaks", "import os; os.write(1, b'one\\n'); os.write(2, b'the reason\\n'); os._exit(3)"),
        python("needs it", "pass", after=("breaks",)),
        python("hangs", "import time; time.sleep(60)"),
        python("has no gpu", "pass", needs=("gpu",)),
        python("works", "pass"),
        python("prints nothing of use", "pass", prints=True),
    ]
    told = run_all(steps, {"gpu": "no GPU that torch sees"}, limit=100, longest=2)
    assert [(one.name, one.outcome, one.reason) for one in told] == [
        ("breaks", "failed", "exit code 3"),
        ("needs it", "skipped", "needs what breaks should have made"),
        ("hangs", "stopped", "it lasted longer than 2 s"),
        ("has no gpu", "skipped", "no GPU that torch sees"),
        ("works", "ok", ""),
        ("prints nothing of use", "failed", "it printed no JSON object"),
    ]
    assert told[0].last_lines == ["one", "the reason"]
    assert "loop" in told[5].last_lines[0]


def test_after_the_limit_no_step_begins():
    (told,) = run_all([python("late", "pass")], ALL_HERE, limit=-1)
    assert (told.outcome, told.reason) == ("not reached", "the -1 s were over")


def test_what_a_step_prints_is_in_the_record():
    file = ROOT / "benchmarks/records/mutation.json"
    (told,) = run_all([Step(name="tells", module="json.tool", arguments=(str(file),), prints=True)], ALL_HERE, 10)
    assert told.outcome == "ok"
    record = json.loads(json.dumps(record_of(gpu_found.find(), [told], rehearsed=True)))
    assert record["steps"][0]["found"] == json.loads(file.read_text())
    assert record["outcomes"] == {"ok": 1}
    assert record["versions"]["torch"] == version("torch")
    assert {"when", "gpu", "driver", "missing", "machine"} <= record.keys()


def test_the_steps_are_those_that_the_gpu_half_needs(tmp_path):
    steps = {step.name: step for step in steps_of(tmp_path / "data", tmp_path, rehearse=False)}
    for role in ("teach", "distill"):
        assert {f"{role}-{kind}" for kind in ("no", "bf16", "fp16", "bf16-compiled", "bf16-16-workers")} <= set(steps)
    engines = [f"cuda-{name}" for name in ("onnx-fp32", "onnx-fp16", "onnx-int8-onnxruntime")]
    engines += [f"tensorrt-{precision}{graph}" for precision in ("fp32", "fp16", "int8") for graph in ("", "-graph")]
    for name in engines:
        for verb in ("verify", "bench"):
            step = steps[f"{verb}-{name}"]
            assert step.prints
            assert "gpu" in step.needs
            assert step.arguments[0] == verb
        assert "1,8,64" in steps[f"bench-{name}"].arguments
    assert ("--cuda-graph" in steps["make-tensorrt-int8-graph"].arguments, steps["distill-in-two-processes"].needs) == (
        True,
        ("two gpus",),
    )
    made = set()
    for step in steps.values():  # whatever a step reads was made before it
        assert set(step.after) <= made
        made.add(step.name)


def test_every_command_has_options_that_its_verb_takes(tmp_path):
    known: dict[str, set[str]] = {}
    for rehearse in (False, True):
        for step in steps_of(tmp_path, tmp_path, rehearse):
            words = list(step.arguments)
            if step.module == "torch.distributed.run":
                words = words[words.index("edgepress") + 1 :]
            elif step.module != "edgepress":
                continue
            if words[0] not in known:
                command = typer.main.get_command(command_line_of(words))
                command = getattr(command, "commands", {}).get(words[0], command)
                known[words[0]] = {
                    name for one in command.params for name in (*one.opts, *getattr(one, "secondary_opts", ()))
                }
            assert {word for word in words if word.startswith("--")} <= known[words[0]], step.name
    assert known.keys() == {"teach", "distill", "export", "compile", "quantize", "verify", "bench"}


@pytest.mark.parametrize(
    ("gpus", "providers", "lacking"),
    [
        (0, ("CPUExecutionProvider",), {"gpu", "two gpus", "onnxruntime-gpu"}),
        (1, ("CUDAExecutionProvider",), {"two gpus"}),
        (2, ("CUDAExecutionProvider",), set()),
    ],
)
def test_what_is_missing_is_named(monkeypatch, gpus, providers, lacking):
    monkeypatch.setattr(gpu_found.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(gpu_found, "_version", lambda name: "1.0")
    assert gpu_found.lacks(gpus, providers).keys() == lacking


def test_a_gpu_is_described_as_torch_names_its_properties(monkeypatch):
    """Not run on a GPU: the names of the fields are those of torch.cuda's own class."""
    fields = {"name": "NVIDIA H200", "major": 9, "minor": 0, "total_memory": 150_000_000_000}
    assert set(fields) <= set(dir(torch._C._CudaDeviceProperties))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: SimpleNamespace(**fields))
    (found,) = gpu_found.find().gpus
    assert (found.name, found.compute_capability, found.memory_mb) == ("NVIDIA H200", "SM90", 143_051)


@pytest.mark.parametrize("role", ["teach", "distill"])
def test_a_training_is_timed_and_its_waiting_is_counted(tiny_data, capsys, monkeypatch, role):
    slept = []
    monkeypatch.setattr(gpu_training, "_memory", lambda device: slept.append(device.type))
    small = ["--backbone", "test_efficientnet", "--teacher", "test_vit", "--size", "32", "--batch-size", "8"]
    gpu_training.main([role, str(tiny_data), *small, "--repeat", "1", "--seconds", "0.01"])
    told = json.loads(capsys.readouterr().out)
    assert told["pictures_per_second"] > 0
    assert 0 < told["share_waiting_for_data"] < 1
    assert told["waits_little"] == (told["share_waiting_for_data"] < 0.05)
    assert slept == ["cpu"]
    assert ("mld" in told["terms"]) == (role == "distill")


def test_a_loader_is_waited_for_as_long_as_it_takes(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(gpu_training.time, "perf_counter", lambda: next(clock))
    waited = gpu_training.Waited([1, 2, 3])
    assert (list(waited), len(waited), waited.seconds) == ([1, 2, 3], 3, 4)  # one second each, and the end


def test_memory_of_a_gpu_is_what_torch_counts(monkeypatch):
    """Not run on a GPU."""
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 * 2**20)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 5 * 2**20)
    assert gpu_training._memory(torch.device("cuda")) == {"allocated": 3.0, "reserved": 5.0}
    assert gpu_training._memory(torch.device("cpu")) is None


def test_the_list_of_wheels_has_all_that_its_packages_need():
    """Beyond the packages of an image with PyTorch; the extras `train`, `quantize` and those of a GPU."""
    lines = (ROOT / "benchmarks/gpu_wheels.txt").read_text().splitlines()
    listed = {line for line in lines if line and not line.startswith("#")}
    wanted = {"edgepress"}
    for name in sorted(listed | {"edgepress"}):
        try:
            found = [Requirement(text) for text in requires(name) or []]
        except PackageNotFoundError:
            continue  # of a GPU alone, and not installed here
        wanted |= {_plain(one.name) for one in found if one.marker is None or one.marker.evaluate({"extra": ""})}
    assert not wanted - listed - IMAGE - {"edgepress"}
    assert not {"torch", "torchvision", "numpy"} & listed, "the image's own"


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_record_is_written_and_a_failed_step_gives_exit_code_1(tmp_path, monkeypatch, capsys):
    for code, step in ((0, python("works", "pass")), (1, python("breaks", "import sys; sys.exit(1)"))):
        monkeypatch.setattr(gpu, "steps_of", lambda *_, step=step: [step])
        file = tmp_path / f"{code}.json"
        assert gpu.main([str(tmp_path), "--record", str(file), "--rehearse"]) == code
        record = json.loads(file.read_text())
        assert record["rehearsed_without_a_gpu"]
        assert json.loads(capsys.readouterr().out)["outcomes"] == record["outcomes"]
