"""Whose an engine is: forks, closing while others call, and files that are replaced under an open engine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import pytest

from edgepress import open_engine
from edgepress.deploy.engines.base import Engine, Proof
from edgepress.multilabel.bundle import Bundle

ENGINES = ("onnx-fp32", "openvino-fp32", "litert-fp32", "ncnn-fp32")
HANG = 60
"""Seconds after which a child has hung: far above what opening an engine takes on a busy machine."""


class Slow(Engine):
    """An engine whose call lasts until it is let go."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle, "cpu")
        self.entered, self.go = threading.Event(), threading.Event()
        self.released = 0

    @property
    def runtime_version(self) -> str:
        return "slow 1.0"

    def _proof(self) -> Proof:
        raise NotImplementedError

    def _run(self, images: np.ndarray) -> np.ndarray:
        self.entered.set()
        assert self.go.wait(HANG)
        assert not self.released, "freed under a call"
        return np.zeros((len(images), len(self.labels)), np.float32)

    def _release(self) -> None:
        self.released += 1


def in_child(bundle: Bundle, lines: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program that forks while an engine is open and has answered, with some lines in the child, and before.

    In a process of its own, because a fork of the one that runs the tests has its threads too.
    """
    program = f"""
import os, sys
import numpy as np
from edgepress import open_engine
{before}
engine = open_engine({str(bundle.path)!r})
size = engine.preprocess.size
images = np.zeros((1, size, size, 3), np.uint8)
engine(images)
child = os.fork()
if child == 0:
{"".join(f"    {line}{os.linesep}" for line in lines.splitlines())}
    sys.exit(0)
_, status = os.waitpid(child, 0)
engine(images)
engine.close()
os._exit(os.waitstatus_to_exitcode(status))
"""
    # What a runtime's telemetry starts, a thread among it, is another matter.
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-W", "ignore", "-c", program]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True
    ) as started:
        try:
            out, _ = started.communicate(timeout=HANG)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, started.returncode, out)


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


@needs_fork
@pytest.mark.parametrize("name", ENGINES)
def test_a_forked_child_is_told_at_once_and_ends(build, name):
    lines = """\
try:
    engine(images)
except RuntimeError as error:
    print(error)
engine.close()
del engine"""
    done = in_child(build(name), lines)
    assert done.returncode == 0, done.stdout
    assert "this engine was opened by process" in done.stdout
    assert "open the engine here, after the fork" in done.stdout


@needs_fork
@pytest.mark.parametrize("name", ["onnx-fp32", "litert-fp32"])
def test_a_forked_child_opens_an_engine_of_its_own(build, name):
    lines = f"""\
with open_engine({str(build(name).path)!r}, threads=2) as own:
    assert np.isfinite(own(images)).all()
print("answered")"""
    done = in_child(build(name), lines)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["answered"]), done.stdout


@needs_fork
@pytest.mark.parametrize(("name", "runtime"), [("openvino-fp32", "OpenVINO"), ("ncnn-fp32", "ncnn")])
def test_a_runtime_in_a_child_that_lacks_its_threads_is_refused_with_the_way_out(build, name, runtime):
    lines = f"""\
try:
    open_engine({str(build(name).path)!r})
except RuntimeError as error:
    print(error)"""
    done = in_child(build(name), lines)
    assert done.returncode == 0, done.stdout
    assert f"forked from one that had opened an engine of {runtime}, whose threads" in done.stdout
    assert "spawn" in done.stdout


@needs_fork
@pytest.mark.parametrize(("threads", "refused"), [(2, True), (1, False)])
def test_threads_that_outlive_their_engine_are_not_waited_for_in_a_child(build, threads, refused):
    opening = f"open_engine({str(build('ncnn-fp32').path)!r}, threads={threads})"
    lines = f"""\
try:
    with {opening} as own:
        own(np.zeros((1, own.preprocess.size, own.preprocess.size, 3), np.uint8))
    print("answered")
except RuntimeError as error:
    print(error)"""
    done = in_child(build("onnx-fp32"), lines, before=f"{opening}.close()")
    assert done.returncode == 0, done.stdout
    assert ("forked from one that had opened an engine of ncnn" in done.stdout) == refused
    assert ("answered" in done.stdout) != refused


def pictures(engine: Engine) -> np.ndarray:
    return np.zeros((1, engine.preprocess.size, engine.preprocess.size, 3), np.uint8)


def test_close_waits_for_the_call_that_is_running(onnx_bundle):
    engine, answers = Slow(onnx_bundle), []
    caller = threading.Thread(target=lambda: answers.append(engine(pictures(engine))))
    caller.start()
    assert engine.entered.wait(HANG)
    closer = threading.Thread(target=engine.close)
    closer.start()

    def enter() -> None:
        for _ in range(100_000):  # until the closer has come so far, while the first call still runs
            with engine._lifetime.call():
                time.sleep(0)

    with pytest.raises(RuntimeError, match="this engine is closed; open it again"):
        enter()
    assert closer.is_alive()
    assert engine.released == 0
    engine.go.set()
    closer.join(HANG)
    caller.join(HANG)
    assert len(answers) == 1
    engine.close()
    assert engine.released == 1


def test_a_signal_handler_may_close_the_engine_that_its_thread_is_calling(onnx_bundle):
    """As a service that is told to stop: waiting for its own call it would wait for ever."""
    engine = Slow(onnx_bundle)
    before = signal.signal(signal.SIGUSR1, lambda *_: (engine.close(), engine.go.set()))
    try:
        threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGUSR1)).start()
        assert engine(pictures(engine)).shape == (1, len(engine.labels))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert engine.released == 1
    with pytest.raises(RuntimeError, match="this engine is closed"):
        engine(pictures(engine))


@pytest.mark.parametrize("name", ENGINES)
def test_closed_while_threads_call_nobody_waits_for_ever(build, images, name):
    engine, told, answered = open_engine(build(name)), [], threading.Event()

    def call() -> None:
        try:
            while True:
                engine(images[:2])
                answered.set()
        except RuntimeError as error:
            told.append(str(error))

    threads = [threading.Thread(target=call, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert answered.wait(HANG)
    engine.close()
    for thread in threads:
        thread.join(HANG)
    assert not any(thread.is_alive() for thread in threads)
    assert len(told) == 4
    assert all("this engine is closed; open it again" in line for line in told)


def test_an_engine_that_nobody_closed_is_freed_with_its_last_reference(onnx_bundle):
    engine = open_engine(onnx_bundle)
    seen = weakref.ref(engine)
    del engine
    assert seen() is None
