"""Faults that a run must survive or name: kills, sizes, tags, folders, states, processes, precisions."""

import errno
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_distill import COMMON, STUDENT, TEACHER, launch_teach, splits, teacher, updated  # noqa: F401
from test_training import QUICK, run_fit, with_arrays

from compress.adopt import adopt_teacher
from compress.checkpoint import WEIGHTS, load_model, load_state, save_model
from compress.config import ModelConfig, TeachConfig
from compress.distill import distill, teach
from compress.models import make_model
from compress.tasks import TeachTask
from compress.training import evaluate, make_accelerator
from multilabel.bundle import Bundle, file_sha256, is_current, write_atomically, write_bundle
from multilabel.datasets import load_dataset
from multilabel.errors import InputError
from multilabel.labels import LabelSpace

LABELS = LabelSpace(("a", "b", "c"))


@pytest.mark.parametrize(("backbone", "size"), [("test_vit", 72), ("inception_v3", 64), ("crossvit_tiny_240", 64)])
def test_a_size_that_the_backbone_cannot_take_is_refused(backbone, size):
    with pytest.raises(InputError, match=rf"{backbone}.*{size} px"):
        make_model(ModelConfig(backbone=backbone, size=size, width=32, weights="none"), LABELS)


def test_an_unknown_tag_is_refused():
    with pytest.raises(InputError, match=r"resnet50\.nosuch"):
        make_model(ModelConfig(backbone="resnet50.nosuch", size=64, weights="none"), LABELS)


def test_a_person_s_folder_is_refused_before_training(splits, tmp_path):  # noqa: F811
    out = tmp_path / "holiday"
    out.mkdir()
    (out / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(InputError):
        teach(*splits, TEACHER, out)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday"]


def test_worker_processes_do_not_pile_up(splits, tmp_path):  # noqa: F811
    counts = []

    class Counting(TeachTask):
        def __call__(self, *arguments):
            counts.append(len(multiprocessing.active_children()))
            return super().__call__(*arguments)

    run_fit(splits, tmp_path, Counting(TeachConfig(**QUICK), splits[0]), epochs=4, workers=1)
    assert max(counts) <= 2


def test_another_teacher_of_the_same_inputs_replaces_the_adopted_one(teacher, tmp_path):  # noqa: F811
    fields = teacher.manifest.model_dump(exclude={"files", "created"})
    with write_bundle(tmp_path / "other", **fields) as (folder, _):
        model = load_model(teacher.path)
        with torch.no_grad():
            model.head.bias.add_(1)
        save_model(model, folder / WEIGHTS)
    adopt_teacher(teacher.path, tmp_path / "teacher", teacher.labels)
    adopted = adopt_teacher(tmp_path / "other", tmp_path / "teacher", teacher.labels)
    assert adopted.manifest.files[WEIGHTS] == Bundle.open(tmp_path / "other").manifest.files[WEIGHTS]


@pytest.mark.parametrize(
    ("key", "value"), [("preprocess", {"size": 3}), ("preprocess", {"bad": 1}), ("preprocess", [1]), ("labels", 5)]
)
def test_a_damaged_description_is_refused(tmp_path, key, value):
    whole = {"architecture": {"backbone": "test_efficientnet"}, "labels": ["a"], "preprocess": {"size": 32}}
    text = json.dumps({**whole, key: value})
    save_file({"a": torch.zeros(1)}, tmp_path / "m.safetensors", metadata={"edgepress": text})
    with pytest.raises(InputError, match=r"m\.safetensors"):
        load_model(tmp_path / "m.safetensors")


def test_a_damaged_state_is_told(tmp_path):
    (tmp_path / "state.pt").write_bytes(b"garbage")
    with pytest.raises(InputError, match=r"state\.pt"):
        load_state(tmp_path / "state.pt", "x")


def test_teacher_and_student_may_differ_in_mixed_precision(splits, teacher, tmp_path):  # noqa: F811
    distill(*splits, teacher, updated(STUDENT, mixed_precision="bf16"), tmp_path / "student")


def test_a_val_split_without_a_positive_is_refused_before_training(splits, tmp_path):  # noqa: F811
    train, val = splits
    empty = with_arrays(val, targets=np.zeros_like(val.targets))
    with pytest.raises(InputError, match="positive"):
        teach(train, empty, TEACHER, tmp_path / "teacher")


def test_one_picture_is_refused(splits, tmp_path):  # noqa: F811
    train, val = splits
    config = TeachConfig(backbone="test_efficientnet", size=32, width=32, **COMMON)
    with pytest.raises(InputError):
        teach(train.subset(np.arange(1)), val, config, tmp_path / "teacher")


def test_two_processes_and_one_batch_do_not_train_nothing(tiny_data, tmp_path):
    """Either every epoch learns something, or it is said what to lower; nothing is left that did not learn."""
    done = launch_teach(tiny_data, tmp_path / "teacher", "--batch-size", "24")
    if done.returncode == 0:
        history = Bundle.open(tmp_path / "teacher").manifest.facts["history"]
        assert all(entry.get("asl", 0) > 0 for entry in history)
    else:
        assert "training pictures make no step of 24 in each of 2 processes; lower batch_size" in done.stderr
        assert not (tmp_path / "teacher").exists()


def test_two_processes_record_the_saved_model_s_own_map(tiny_data, tmp_path):
    done = launch_teach(tiny_data, tmp_path / "teacher", "--batch-size", "3", "--epochs", "6", "--head", "linear")
    assert done.returncode == 0, done.stderr
    bundle = Bundle.open(tmp_path / "teacher")
    config = TeachConfig(**bundle.manifest.facts["training"])
    model, val = load_model(bundle.path), load_dataset(tiny_data, "val")
    assert evaluate(model, val, config, make_accelerator(config)) == bundle.manifest.facts["val_mAP"]


@pytest.mark.parametrize("epochs", [1, 5])
def test_a_rise_of_exactly_one_step_is_no_division_by_zero(splits, tmp_path, epochs):  # noqa: F811
    config = updated(TEACHER, batch_size=24, epochs=epochs, pct_start=1 / epochs if epochs > 1 else 0.99)
    assert teach(*splits, config, tmp_path / "teacher").manifest.facts["history"]


def test_a_launch_of_another_size_does_not_continue(splits, tmp_path):  # noqa: F811
    run_fit(splits, tmp_path / "work", inputs="x", epochs=1)
    state = torch.load(tmp_path / "work" / "state.pt", weights_only=True)
    torch.save({**state, "steps": state["steps"] + 1}, tmp_path / "work" / "state.pt")
    with pytest.raises(InputError, match=r"state\.pt.*as many processes as before"):
        run_fit(splits, tmp_path / "work", inputs="x", epochs=1)


KILLS = int(os.environ.get("EDGEPRESS_TEST_KILLS", "5"))
"""How often the run below is killed at a random moment; more for a long look."""
SERVER = '''
"""edgepress with its imports paid once: a child for each line of JSON, which says what it does and when it dies.

A child that dies kills itself at one moment (half, before or after) of a file's name, the n-th time the name comes.
"""
import json, os, signal, sys
from pathlib import Path

import compress.checkpoint
import compress.distill
from edgepress.cli import main


def due(path):
    global left
    left -= Path(path).name == name
    return Path(path).name == name and left == 0


def die():
    os.kill(os.getpid(), signal.SIGKILL)


class Half:
    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def write(self, data):
        self.file.write(data[: len(data) // 2])
        self.file.flush()
        die()


def dying_open(path, mode="r", *rest, original=Path.open, **named):
    file = original(path, mode, *rest, **named)
    return Half(file) if moment == "half" and "w" in mode and due(path) else file


def dying_save(tensors, path, *rest, original=compress.checkpoint.save_file, **named):
    original(tensors, path, *rest, **named)
    if moment == "half" and due(path):
        os.truncate(path, os.path.getsize(path) // 2)
        die()


def dying_rename(original):
    def rename(path, target):
        now = moment != "half" and due(target)
        if now and moment == "before":
            die()
        original(path, target)
        if now:
            die()

    return rename


for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(order["told"], os.O_WRONLY), 2)
        if order["dies"]:
            moment, name, left = order["dies"]
            Path.open = dying_open
            Path.rename, Path.replace = dying_rename(Path.rename), dying_rename(Path.replace)
            compress.checkpoint.save_file = dying_save
        sys.argv = ["edgepress", *order["arguments"]]
        main()
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
'''
ALONE = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


class Server:
    """Starts `edgepress ARGUMENTS` as a process of its own, one at a time."""

    def __init__(self, folder):
        script, self.told = folder / "server.py", folder / "told"
        script.write_text(SERVER)
        os.mkfifo(self.told)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen([sys.executable, str(script)], env=ALONE, text=True, **pipes)

    def start(self, arguments, dies=None):
        """The number of the process, and the lines that it writes to standard error."""
        order = {"arguments": arguments, "told": str(self.told), "dies": dies}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline()), self.told.open()

    def exit_code(self):
        return int(self.process.stdout.readline())


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.process.stdin.close()
    assert server.process.wait(timeout=60) == 0
    server.process.stdout.close()


@pytest.fixture(scope="module")
def undisturbed(tiny_data, teacher, server, tmp_path_factory):  # noqa: F811
    """Students by their number of epochs, made without a break, as the killed ones are: on one thread.

    The number of threads is a part of what is computed: sums are split by it, and round accordingly.
    """
    made = {}

    def student(epochs):
        if epochs not in made:
            out = tmp_path_factory.mktemp("undisturbed") / "student"
            _, lines = server.start(arguments(tiny_data, teacher, out, epochs))
            told = lines.read()
            assert server.exit_code() == 0, told
            made[epochs] = Bundle.open(out)
        return made[epochs]

    return student


def arguments(data, teacher, out, epochs):  # noqa: F811
    """`distill` as on a command line."""
    same = ("backbone", "size", "width", "mld", "cd", "id", "hint")
    flags = {**COMMON, **{name: getattr(STUDENT, name) for name in same}}
    flags |= {"epochs": epochs, "batch_size": 4, "teacher": teacher.path, "out": out}
    return ["distill", str(data), *(f"--{name.replace('_', '-')}={value}" for name, value in flags.items())]


def finish(arguments):
    """The same command undisturbed, as a person gives it; what it said."""
    command = [sys.executable, "-m", "edgepress", *arguments]
    done = subprocess.run(command, env=ALONE, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stderr


def epochs_in(state):
    return len(torch.load(state, weights_only=True)["history"]) if state.exists() else 0


def test_killed_while_a_file_is_written_and_started_again(tiny_data, teacher, undisturbed, server, tmp_path):  # noqa: F811
    """One run of six epochs, killed by its own hand at every moment of writing its state, and then its bundle."""
    out, work = tmp_path / "run" / "student", tmp_path / "run" / ".student.training"
    command = arguments(tiny_data, teacher, out, 6)
    # What dies, when, and how many epochs are kept: each process finishes one epoch more than the last had kept.
    for moment, name, number, kept in (
        ("half", ".state.pt.partial", 2, 1),
        ("before", "state.pt", 2, 2),
        ("after", "state.pt", 2, 4),
        ("half", "model.safetensors", 1, 6),
        ("before", "student", 1, 6),
        ("after", "student", 1, 6),
    ):
        found = epochs_in(work / "state.pt")
        _, lines = server.start(command, (moment, name, number))
        told = lines.read()
        assert server.exit_code() == -signal.SIGKILL, told
        assert re.findall(r"resumed after epoch (\d+) of 6", told) == ([str(found)] if found else [])
        assert epochs_in(work / "state.pt") == kept
        assert out.exists() == ((moment, name) == ("after", "student"))
        beside = {path.name for path in work.iterdir()} - {"state.pt", "tensorboard"}
        assert beside <= {".state.pt.partial"}
        if (moment, name) == ("half", ".state.pt.partial"):
            assert (work / name).stat().st_size < (work / "state.pt").stat().st_size * 3 / 4  # it is cut indeed
        if (moment, name) == ("half", "model.safetensors"):
            whole = undisturbed(6).model_path.stat().st_size
            assert out.with_name(".student.partial").joinpath(name).stat().st_size == whole // 2
    assert "unchanged, kept" in finish(command)
    assert file_sha256(Bundle.open(out).model_path) == file_sha256(undisturbed(6).model_path)
    assert [path.name for path in out.parent.iterdir()] == ["student"]
    assert not any(path.name.endswith((".partial", ".old")) for path in out.rglob("*"))


def kill_at_random(server, command, rng, epoch_seconds):
    """Start a run and kill it, some epochs after it began to train and a random part of an epoch later."""
    child, lines = server.start(command)
    told, awaited = [], int(rng.integers(1, 4))
    for line in lines:
        told.append(line)
        awaited -= "val mAP" in line  # the teacher's, then one an epoch
        if not awaited:
            time.sleep(rng.uniform(0, epoch_seconds))
            os.kill(child, signal.SIGKILL)
            break
    lines.close()
    assert server.exit_code() == -signal.SIGKILL, "".join(told)


def test_killed_at_random_moments_and_started_again(tiny_data, teacher, undisturbed, server, tmp_path):  # noqa: F811
    rng, epochs, out = np.random.default_rng(0), 4 * KILLS, tmp_path / "run" / "student"
    expected, command = undisturbed(epochs), arguments(tiny_data, teacher, out, epochs)
    epoch_seconds = float(np.median([entry["seconds"] for entry in expected.manifest.facts["history"]]))
    kept = []
    for _ in range(KILLS):
        kill_at_random(server, command, rng, epoch_seconds)
        kept.append(epochs_in(out.with_name(".student.training") / "state.pt"))
        assert not out.exists()
    assert kept == sorted(kept)  # nothing that was finished is lost
    assert kept[-1] > 0
    assert f"resumed after epoch {kept[-1]} of {epochs}" in finish(command)
    bundle = Bundle.open(out)
    assert bundle.manifest.inputs == expected.manifest.inputs
    assert file_sha256(bundle.model_path) == file_sha256(expected.model_path)
    assert [path.name for path in out.parent.iterdir()] == ["student"]


def test_the_state_beside_a_finished_bundle_is_removed(splits, tmp_path):  # noqa: F811
    """What is left by a kill between the bundle's rename and the end of the run."""
    work = teach(*splits, TEACHER, tmp_path / "teacher").path.with_name(".teacher.training")
    work.mkdir()
    (work / "state.pt").write_bytes(b"the last epoch's")
    teach(*splits, TEACHER, tmp_path / "teacher")
    assert not work.exists()


def test_a_bundle_killed_while_it_replaces_another_is_made_again(teacher, tmp_path):  # noqa: F811
    """Between the two renames the old one is hidden and the new one not yet there: neither is taken for a bundle."""
    fields = teacher.manifest.model_dump(exclude={"files", "created"})

    def write(content):
        with write_bundle(tmp_path / "student", **fields) as (folder, _):
            (folder / WEIGHTS).write_bytes(content)

    write(b"old")
    child = os.fork()
    if child == 0:
        try:
            rename = Path.rename
            Path.rename = lambda old, new: (rename(old, new), os.kill(os.getpid(), signal.SIGKILL))
            write(b"new")
        finally:
            os._exit(1)  # it should not have come so far
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert {path.name for path in tmp_path.iterdir()} == {".student.old", ".student.partial"}
    assert not is_current(tmp_path / "student", teacher.manifest.inputs)
    write(b"new")
    assert (Bundle.open(tmp_path / "student").path / WEIGHTS).read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["student"]


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    write_atomically(tmp_path / "state.pt", b"old")

    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "state.pt", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]
    assert (tmp_path / "state.pt").read_bytes() == b"old"
