"""A disk that is full is told in a line with what to do, wherever it was noticed."""

from __future__ import annotations

import errno
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
