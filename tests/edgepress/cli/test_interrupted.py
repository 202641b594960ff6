"""Ctrl-C while the command still imports what it needs, which takes seconds on a small board."""

from __future__ import annotations

import subprocess
import sys

import pytest

STOPPED = """
import sys, threading
class Stop:
    def find_spec(self, name, *rest):
        if name == "{module}":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Stop())
if {threadless}:
    def start(self):
        raise RuntimeError("can't start new thread")
    threading.Thread.start = start
sys.argv = ["edgepress", "data", "none"]
from edgepress.__main__ import main
main()
"""


@pytest.mark.parametrize("module", ["edgepress.cli.main", "typer", "edgepress.cli.data", "numpy"])
def test_no_import_that_is_interrupted_prints_a_traceback(module):
    code = STOPPED.format(module=module, threadless=False)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "edgepress: interrupted; the same command continues where it can\n"


def test_openblas_that_interrupts_its_own_process_is_told_as_such():
    code = STOPPED.format(module="numpy", threadless=True)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("edgepress: no thread can be started here: raise the limit")
