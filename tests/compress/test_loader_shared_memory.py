"""Processes that read pictures, in a container that gives them too little shared memory or none."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install 'edgepress[train]')")

_READ = """
import sys
from pathlib import Path
from edgepress.compress.loader import batches, make_loader
from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.preprocess import Preprocess

loader = make_loader(load_dataset(Path(sys.argv[1]), "train"), [Preprocess(size=96)], batch_size=12, workers=2)
try:
    for batch in batches(loader, 0, loader):
        pass
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("options", "said"), [("size=64k", "has 0 MB"), ("ro", "processes that read pictures")], ids=["full", "ro"]
)
def test_too_little_shared_memory_is_one_line_that_says_what_to_do(tiny_data, options, said):
    if shutil.which("unshare") is None:
        pytest.skip("no unshare here: the test needs a /dev/shm of its own")
    mount = f"mount -t tmpfs -o {options} none /dev/shm"
    inside = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
    tried = subprocess.run([*inside, mount], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"this machine gives no /dev/shm of one's own: {tried.stderr.strip()}")
    command = [*inside, f'{mount} && exec "$0" -c "$1" "$2"', sys.executable, _READ, str(tiny_data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = done.stdout.splitlines()
    assert line.startswith("the 2 processes that read pictures died or did not start")
    assert said in line
    assert "--shm-size" in line
    assert "--workers 0" in line
    assert "Traceback" not in done.stderr
