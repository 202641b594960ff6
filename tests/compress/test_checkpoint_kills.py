"""A run that is killed at any moment goes on where it was."""

import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from edgepress.compress.checkpoint import WEIGHTS
from edgepress.compress.distill import teach
from edgepress.multilabel.bundle import Bundle, file_sha256, up_to_date, write_bundle
from edgepress.multilabel.manifest import Manifest
from tests.compress.lessons import COMMON, STUDENT, TEACHER

KILLS = int(os.environ.get("EDGEPRESS_TEST_KILLS", "2"))
"""How often the run below is killed at a random moment; `make survive` kills it 20 times."""
DYING = '''
"""dying.py MOMENT NAME NUMBER ARGUMENTS: `edgepress ARGUMENTS`, which kills itself at a moment (half, before, after) of
a file's name, the NUMBER-th time the name comes."""
import os, signal, sys
from pathlib import Path

import edgepress.compress.checkpoint
from edgepress.cli.main import main

moment, name, left = sys.argv[1], sys.argv[2], int(sys.argv[3])


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


def dying_save(tensors, path, *rest, original=edgepress.compress.checkpoint.save_file, **named):
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


Path.open = dying_open
Path.rename, Path.replace = dying_rename(Path.rename), dying_rename(Path.replace)
edgepress.compress.checkpoint.save_file = dying_save
sys.argv = ["edgepress", *sys.argv[4:]]
main()
'''


@pytest.fixture(scope="module")
def undisturbed(tiny_data, teacher, forks, tmp_path_factory):
    """Students by their number of epochs, made without a break, as the killed ones are: on one thread.

    The number of threads is a part of what is computed: sums are split by it, and round accordingly.
    """
    made = {}

    def student(epochs):
        if epochs not in made:
            out = tmp_path_factory.mktemp("undisturbed") / "student"
            finish(forks, arguments(tiny_data, teacher, out, epochs))
            made[epochs] = Bundle.open(out)
        return made[epochs]

    return student


def arguments(data, teacher, out, epochs):
    """`distill` as on a command line."""
    same = ("backbone", "size", "width", "mld", "cd", "id", "review_kd")
    flags = {**COMMON, **{name: getattr(STUDENT, name) for name in same}}
    flags |= {"epochs": epochs, "batch_size": 4, "teacher": teacher.path, "out": out}
    return ["distill", str(data), *(f"--{name.replace('_', '-')}={value}" for name, value in flags.items())]


def finish(forks, arguments):
    """The same command undisturbed; what it said."""
    done = forks.run(["edgepress", *arguments])
    assert done.codes == [0], done.err
    return done.err


def epochs_in(state):
    return len(torch.load(state, weights_only=True)["history"]) if state.exists() else 0


def test_killed_while_a_file_is_written_and_started_again(tiny_data, teacher, undisturbed, forks, tmp_path):
    """One run of six epochs, killed by its own hand at every moment of writing its state, and then its bundle."""
    out, work = tmp_path / "run" / "student", tmp_path / "run" / ".student.training"
    command, dying = arguments(tiny_data, teacher, out, 6), tmp_path / "dying.py"
    dying.write_text(DYING)
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
        done = forks.run([dying, moment, name, number, *command])
        assert done.codes == [-signal.SIGKILL], done.err
        assert re.findall(r"resumed after epoch (\d+) of 6", done.err) == ([str(found)] if found else [])
        assert epochs_in(work / "state.pt") == kept
        assert out.exists() == ((moment, name) == ("after", "student"))
        beside = {path.name for path in work.iterdir()} - {"state.pt", "tensorboard"}
        assert beside <= {".state.pt.partial"}
        if (moment, name) == ("half", ".state.pt.partial"):
            assert (work / name).stat().st_size < (work / "state.pt").stat().st_size * 3 / 4  # it is cut indeed
        if (moment, name) == ("half", "model.safetensors"):
            whole = undisturbed(6).model_path.stat().st_size
            assert out.with_name(".student.partial").joinpath(name).stat().st_size == whole // 2
    assert "unchanged, kept" in finish(forks, command)
    assert file_sha256(Bundle.open(out).model_path) == file_sha256(undisturbed(6).model_path)
    assert [path.name for path in out.parent.iterdir()] == ["student"]
    assert not any(path.name.endswith((".partial", ".old")) for path in out.rglob("*"))


def kill_at_random(forks, command, rng, epoch_seconds, fifo):
    """Start a run and kill it, some epochs after it began to train and a random part of an epoch later."""
    (child,) = forks.start(["edgepress", *command], told=fifo)
    lines, told, awaited = fifo.open(), [], int(rng.integers(1, 4))
    for line in lines:
        told.append(line)
        awaited -= "val mAP" in line  # the teacher's, then one an epoch
        if not awaited:
            time.sleep(rng.uniform(0, epoch_seconds))
            os.kill(child, signal.SIGKILL)
            break
    lines.close()
    assert forks.finish().codes == [-signal.SIGKILL], "".join(told)


def test_killed_at_random_moments_and_started_again(tiny_data, teacher, undisturbed, forks, tmp_path):
    rng, epochs, out = np.random.default_rng(0), 4 * KILLS, tmp_path / "run" / "student"
    expected, command = undisturbed(epochs), arguments(tiny_data, teacher, out, epochs)
    epoch_seconds = float(np.median([entry.seconds for entry in expected.manifest.facts.history]))
    kept, fifo = [], tmp_path / "told"
    os.mkfifo(fifo)
    for _ in range(KILLS):
        kill_at_random(forks, command, rng, epoch_seconds, fifo)
        kept.append(epochs_in(out.with_name(".student.training") / "state.pt"))
        assert not out.exists()
    assert kept == sorted(kept)  # nothing that was finished is lost
    assert kept[-1] > 0
    assert f"resumed after epoch {kept[-1]} of {epochs}" in finish(forks, command)
    bundle = Bundle.open(out)
    assert bundle.manifest.inputs == expected.manifest.inputs
    assert file_sha256(bundle.model_path) == file_sha256(expected.model_path)
    assert [path.name for path in out.parent.iterdir()] == ["student"]


def test_the_state_beside_a_finished_bundle_is_removed(splits, tmp_path):
    """What is left by a kill between the bundle's rename and the end of the run."""
    work = teach(*splits, TEACHER, tmp_path / "teacher").path.with_name(".teacher.training")
    work.mkdir()
    (work / "state.pt").write_bytes(b"the last epoch's")
    teach(*splits, TEACHER, tmp_path / "teacher")
    assert not work.exists()


def test_a_bundle_killed_while_it_replaces_another_is_made_again(teacher, tmp_path):
    """Between the two renames the old one is hidden and the new one not yet there: neither is taken for a bundle."""
    fields = {
        name: getattr(teacher.manifest, name) for name in Manifest.model_fields if name not in ("files", "created")
    }

    def write(content):
        with write_bundle(tmp_path / "student", **fields) as folder:
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
    assert up_to_date(tmp_path / "student", teacher.manifest.inputs) is None
    write(b"new")
    assert (Bundle.open(tmp_path / "student").path / WEIGHTS).read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["student"]
