"""Two processes do not write to one folder, and one that died keeps nobody out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from edgepress.multilabel.errors import InputError
from edgepress.multilabel.lock import only_writer

HOLD = textwrap.dedent("""
    import sys, time
    from pathlib import Path
    from edgepress.multilabel.lock import only_writer
    with only_writer(Path(sys.argv[1])):
        print("held", flush=True)
        time.sleep(600)
""")


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_the_second_is_told_which_process_writes_there_and_may_write_elsewhere(tmp_path, holder):
    told = f"another edgepress writes there .process {holder.pid}.*give another --out"
    with pytest.raises(InputError, match=told), only_writer(tmp_path / "run"):
        pass
    with only_writer(tmp_path / "other"):
        pass


def test_the_same_folder_by_another_name_is_the_same(tmp_path, holder):
    (tmp_path / "deep").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    for name in ("deep/../run", "link"):
        with pytest.raises(InputError), only_writer(tmp_path / name):
            pass


def test_one_that_was_killed_keeps_nobody_out_and_nothing_is_left(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with only_writer(tmp_path / "run"):
        assert (tmp_path / ".run.lock").read_text() == str(os.getpid())
    assert list(tmp_path.iterdir()) == []


def test_of_a_launch_the_first_process_holds_it(tmp_path, holder, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with only_writer(tmp_path / "run"):
        pass
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(InputError), only_writer(tmp_path / "run"):
        pass


def test_where_nothing_may_be_written_beside_it_the_lock_is_inside(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path.resolve() and allowed(path, mode))
    with only_writer(tmp_path / "run"):
        assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]
        with pytest.raises(InputError, match="another edgepress writes there"), only_writer(tmp_path / "run"):
            pass
    assert list((tmp_path / "run").iterdir()) == []


def test_a_lock_that_a_person_removed_hides_no_error(tmp_path):
    def fail() -> None:
        with only_writer(tmp_path / "run"):
            (tmp_path / ".run.lock").unlink()
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail()
