"""The other machine's part in a search: what it stores, what it refuses, and that it leaves nothing behind."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgepress.multilabel.errors import InputError
from edgepress.multilabel.saturation import weight_bits_here
from edgepress.remote.respond import Answer, Request, answer, inside


def responding(tmp_path: Path, sent: bytes) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "edgepress.remote.respond"]
    return subprocess.run(command, input=sent, capture_output=True, env={"TMPDIR": str(tmp_path)}, timeout=120)


def test_it_says_what_it_is_answers_and_leaves_nothing(tmp_path):
    done = responding(tmp_path, b'{"do": "keep", "files": [{"name": "a/b.txt", "size": 3}]}\nabc')
    hello, *answers = map(json.loads, done.stdout.splitlines())
    assert hello["weight_bits"] == weight_bits_here()
    assert answers in ([{}], [])  # the end of stdin ends whatever is being done
    assert (done.returncode, done.stderr) == (0, b"")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"hello\n", b"what was sent cannot be read"),
        (b'{"do": "remove"}\n', b"do"),
        (b'{"do": "keep", "files": [{"name": "a", "size": 9}]}\nabc', b"it broke off"),
        (b'{"do": "keep", "files": [{"name": "../a", "size": 1}]}\na', b"is not inside the folder"),
        (b'{"do": "keep", "bundle": "..", "files": [{"name": "a", "size": 1}]}\na', b"is not inside the folder"),
    ],
)
def test_what_cannot_be_read_ends_it(tmp_path, sent, said):
    done = responding(tmp_path, sent)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", ".", "/etc/passwd", "a/../../b", ".."])
def test_names_stay_inside(tmp_path, name):
    with pytest.raises(InputError, match="is not inside the folder"):
        inside(tmp_path, name)
    assert inside(tmp_path, "a/b") == tmp_path / "a" / "b"


@pytest.mark.parametrize("asked", [{"bundle": "../x", "pictures": "p.npy"}, {"bundle": "x", "pictures": "/etc/passwd"}])
def test_a_request_reads_nothing_outside_the_folder(run_folder, tmp_path, asked):
    shutil.copytree(run_folder / "onnx-fp32", tmp_path / "x")
    found = answer(Request.model_validate({"do": "answers", **asked}), tmp_path)
    assert isinstance(found, Answer)
    assert "is not inside the folder" in str(found.refused)
