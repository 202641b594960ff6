"""--host: verbs on another machine, through a real sshd on loopback; what goes wrong is one line, nothing is left."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from importlib.metadata import version

import pytest

from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import InputError
from edgepress.remote.host import Host
from edgepress.remote.verbs import bench_there
from tests.edgepress.remote import sshd
from tests.edgepress.remote.sshd import script


class TestErrors:
    def test_a_port_where_nobody_listens(self, bad, server, run_folder):
        flags = server.flags(port=sshd.free_port())
        line = bad("bench", run_folder / "onnx-fp32", "--host", server.name, *flags)
        assert "Connection refused" in line
        assert f"ssh {server.name} true" in line

    def test_a_key_that_is_not_authorised(self, bad, server, run_folder):
        line = bad("bench", run_folder / "onnx-fp32", "--host", server.name, *server.flags(key="stranger"))
        assert "Permission denied" in line

    def test_a_server_that_is_not_known(self, bad, server, run_folder, tmp_path):
        flags = [flag.replace("known_hosts", "nobody") for flag in server.flags()]
        assert "Host key verification failed" in bad("bench", run_folder / "onnx-fp32", "--host", server.name, *flags)

    def test_no_such_python(self, bad, server, run_folder):
        python = ("--host-python", "no/such/python")
        line = bad("bench", run_folder / "onnx-fp32", "--host", server.name, *python, *server.flags())
        assert "no/such/python does not run there" in line
        assert "--host-python" in line

    @pytest.mark.parametrize("verb", ["bench", "doctor"])
    def test_no_edgepress(self, bad, server, run_folder, tmp_path, verb):
        python = script(tmp_path / "python", f'exec {sys.executable} -I -S "$@"')
        bundle = [run_folder / "onnx-fp32"] if verb == "bench" else []
        line = bad(verb, *bundle, "--host", server.name, "--host-python", python, *server.flags())
        assert "edgepress is not installed" in line
        assert f"-m pip install 'edgepress[onnxruntime]=={version('edgepress')}'" in line

    @pytest.mark.parametrize(("theirs", "fits"), [("9.9.9", False), ("0.2.0", False), ("0.1.99", True)])
    def test_another_version(self, edgepress, server, python, run_folder, tmp_path, theirs, fits):
        assert version("edgepress").startswith("0.1.")
        lines = f'[ "$3" = --version ] && echo "edgepress {theirs}" && exit; exec {python} "$@"'
        python = script(tmp_path / "python", lines)
        arguments = ("--seconds", "0.05", "--host", server.name, "--host-python", python, *server.flags(), "--json")
        answer = edgepress("bench", run_folder / "onnx-fp32", *arguments)
        assert answer.code == (0 if fits else 2), answer.err
        if not fits:
            assert f"edgepress {theirs}" in answer.err
            assert f"edgepress {version('edgepress')}" in answer.err

    def test_a_full_disk(self, bad, server, run_folder, tmp_path):
        # The largest file that may be written there is 1 kB.
        python = script(
            tmp_path / "python", f'export PYTHONDONTWRITEBYTECODE=1; ulimit -f 2; exec {sys.executable} "$@"'
        )
        line = bad("bench", run_folder / "onnx-fp32", "--host", server.name, "--host-python", python, *server.flags())
        assert "is the disk full?" in line

    def test_a_connection_that_dies_while_it_is_sent(self, bad, server, python, run_folder, tmp_path):
        lines = f'[ "$2" = edgepress.remote.receive ] && head -c 1000 > /dev/null && exit 3; exec {python} "$@"'
        python = script(tmp_path / "python", lines)
        line = bad("bench", run_folder / "onnx-fp32", "--host", server.name, "--host-python", python, *server.flags())
        assert "exit code 3" in line

    def test_what_the_verb_refuses_there_is_told_here(self, bad, run_folder, there):
        line = bad("bench", run_folder / "openvino-fp32", "--device", "fridge", *there)
        assert "fridge" in line

    @pytest.mark.parametrize("name", ["-oProxyCommand=touch bad", "two words"])
    def test_a_name_that_is_no_host(self, bad, run_folder, name):
        assert "expected a host as ssh takes it" in bad("bench", run_folder / "onnx-fp32", f"--host={name}")

    def test_how_to_reach_nobody(self, bad, run_folder):
        assert "give --host" in bad("bench", run_folder / "onnx-fp32", "--ssh-option", "Port=1")

    def test_a_name_with_shell_in_it_is_a_name(self, server, run_folder, tmp_path):
        host = Host(name=server.name, python=f"no; touch {tmp_path / 'bad'}", options=tuple(server.options()))
        with pytest.raises(InputError, match="does not run there"):
            bench_there(host, Bundle.open(run_folder / "onnx-fp32"))
        assert not (tmp_path / "bad").exists()


class TestInterrupted:
    @pytest.fixture
    def long(self, run_folder, afresh) -> list[str]:
        """A command that lasts ten minutes there."""
        words = ("-m", "edgepress", "bench", run_folder / "onnx-fp32", "--seconds", "600", *afresh)
        return [sys.executable, *map(str, words)]

    def test_ctrl_c_ends_the_work_there_and_removes_its_folder(self, server, long):
        # What is started in the background of a shell ignores SIGINT, and so would what it starts.
        process = subprocess.Popen(
            long, stderr=subprocess.PIPE, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
        )
        wait_until(lambda: any(server.home.glob("edgepress-*/onnx-fp32/manifest.json")))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
        assert server.left() == []

    def test_a_killed_command_leaves_nothing_there(self, server, long):
        process = subprocess.Popen(long, stderr=subprocess.DEVNULL)
        wait_until(lambda: any(server.home.glob("edgepress-*/onnx-fp32/manifest.json")))
        process.kill()
        process.wait()
        wait_until(lambda: server.left() == [])


def wait_until(holds) -> None:
    """A minute at most: what does not come then does not come."""
    for _ in range(1200):
        if holds():
            return
        time.sleep(0.05)
    pytest.fail("waited a minute in vain")
