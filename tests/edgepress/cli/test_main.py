"""What the machine lacks (room on a disk, memory, threads, an encoding) is told in a line with what to do."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading

import pytest

from edgepress.cli import main
from edgepress.multilabel.bundle import Bundle


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize(
    ("files", "file"),
    [
        ((), None),
        (("run/student",), "run/student"),
        (("onnx-fp32/golden.npz", None, "out/golden.npz"), "out/golden.npz"),
    ],
    ids=["a write", "an open", "a copy, whose destination is on the disk"],
)
def test_a_full_disk_says_to_make_room(bad, tmp_path, monkeypatch, number, files, file):
    def full(path, kind=None):
        raise OSError(number, os.strerror(number), *files)

    monkeypatch.setattr(Bundle, "open", full)
    where = f"{file}: " if file else ""
    assert bad("inspect", tmp_path) == (
        f"edgepress: {where}{os.strerror(number)}: make room and start the same command again; what is finished is kept"
    )


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("data", ""), "the argument after data"),
        (("predict", "bundle", "a.jpg", ""), "the argument after a.jpg"),
        (("predict", "bundle", "--csv", ""), "the argument after --csv"),  # a flag without a value
        (("verify", "bundle", "--data", ""), "the argument after --data"),
        (("verify", "bundle", "--data="), "--data"),
        (("predict", "bundle", "--", ""), "the argument after --"),
    ],
)
def test_an_empty_value_is_not_the_current_folder(bad, arguments, named):
    said = f"edgepress: {named} is empty; expected a value: is a variable of the shell not set?"
    assert bad(*arguments) == said


def test_behind_two_dashes_a_name_may_end_with_an_equals_sign(bad, tmp_path):
    assert "is empty" not in bad("inspect", "--", "--x=")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "(none was left)"),
        (MemoryError("Unable to allocate 8 GiB"), "(Unable to allocate 8 GiB)"),
        (
            ImportError("x.so: failed to map segment from shared object"),
            "(x.so: failed to map segment from shared object)",
        ),
    ],
)
def test_too_little_memory_is_told_as_that(bad, tmp_path, monkeypatch, error, said):
    def full(path, kind=None):
        raise error

    monkeypatch.setattr(Bundle, "open", full)
    assert bad("inspect", tmp_path) == f"edgepress: there is too little memory here {said}; free some, or allow more"


def test_another_failed_import_is_a_fault_of_ours(edgepress, tmp_path, monkeypatch):
    """Exit code 70: 1 would say that a gate failed."""

    def broken(path, kind=None):
        raise ModuleNotFoundError("No module named 'nonesuch'", name="nonesuch")

    monkeypatch.setattr(Bundle, "open", broken)
    answer = edgepress("inspect", tmp_path)
    assert answer.code == 70
    assert "this is a fault of edgepress" in answer.err


def test_a_process_that_may_start_no_thread_is_not_told_as_interrupted(edgepress, tmp_path, monkeypatch):
    """OpenBLAS, which numpy imports, sends its own process SIGINT where a thread of its own does not start."""

    def interrupted(path, kind=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(Bundle, "open", interrupted)
    answer = edgepress("inspect", tmp_path)
    assert (answer.code, answer.err) == (130, "edgepress: interrupted; the same command continues where it can\n")

    def none(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)
    answer = edgepress("inspect", tmp_path)
    assert answer.code == 2
    assert answer.err.startswith(
        "edgepress: no thread can be started here: raise the limit (ulimit -u, or --pids-limit"
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_a_terminal_cannot_show_is_escaped(onnx_bundle, tiny_data, tmp_path, encoding):
    """A container or a service may have any encoding; the name of a picture is no fault of edgepress."""
    source = next(path for path in (tiny_data / "test").iterdir() if path.suffix in (".png", ".jpg"))
    picture = tmp_path / f"Straße 犬{source.suffix}"
    picture.write_bytes(source.read_bytes())
    command = [sys.executable, "-m", "edgepress", "predict", str(onnx_bundle.path), str(picture)]
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode(encoding).startswith(str(picture).encode(encoding, "backslashreplace").decode(encoding))
    done = subprocess.run([*command, "--json"], capture_output=True, env=environment, check=False)
    assert json.loads(done.stdout.decode(encoding))["file"] == str(picture)


def test_a_library_s_thread_prints_no_traceback_over_it_but_over_a_fault(edgepress, tmp_path, monkeypatch):
    faults = [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyError("a fault")]

    def fail():
        raise faults[0]

    def start(path, kind=None):
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
        return opened(path, kind)

    opened = Bundle.open
    monkeypatch.setattr(Bundle, "open", start)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    told = edgepress("inspect", tmp_path).err
    assert "No space left on device: make room" in told
    assert "Traceback" not in told
    faults.pop(0)
    told = edgepress("inspect", tmp_path).err
    assert "Traceback" in told
    assert "a fault" in told


@pytest.mark.parametrize("verb", ["inspect", "card"])
def test_a_reader_that_went_away_is_no_failed_gate(run_folder, verb):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = [sys.executable, "-m", "edgepress", verb, str(run_folder / "onnx-fp32")]
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(
    ("given", "own", "rest"),
    [
        (["inspect", "b", "--quiet"], {"--quiet"}, ["inspect", "b"]),
        (["--quiet", "--debug", "inspect", "b"], {"--quiet", "--debug"}, ["inspect", "b"]),
        (["predict", "b", "--debug", "--", "--quiet"], {"--debug"}, ["predict", "b", "--", "--quiet"]),
        ([], set(), []),
    ],
)
def test_the_flags_of_every_verb_may_stand_anywhere(given, own, rest):
    assert main._own_flags(given) == (own, rest)


def test_quiet_after_the_verb_is_quiet_before_it(edgepress, onnx_bundle, tiny_data, tmp_path):
    verb = ("predict", onnx_bundle.path, tiny_data / "test", "absent.jpg", "--json")
    answers = [edgepress(*arguments) for arguments in (verb, ("--quiet", *verb), (*verb, "--quiet"))]
    assert [answer.code for answer in answers] == [answers[0].code] * 3
    assert answers[1].err == answers[2].err
    assert answers[1].out == answers[2].out == answers[0].out
