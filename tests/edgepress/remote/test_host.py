"""--host: verbs on another machine, through a real sshd on loopback; what goes wrong is one line, nothing is left."""

from __future__ import annotations

import io
import json
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from edgepress.multilabel.bundle import Bundle, _serialise, file_sha256
from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.judgement import Reason
from edgepress.remote.host import Host, _send, as_flags, run_there
from edgepress.remote.receive import unpack
from edgepress.run.judge import judge_engine
from edgepress.run.latency_budget import TIMES, choose_engine, choose_student, host_of_recipe, seen_on_host
from edgepress.run.recipe import Recipe
from edgepress.run.result import EngineResult, LatencyBudget
from edgepress.run.splits import splits_of
from tests.edgepress.remote import sshd

torch = pytest.importorskip("torch", reason="torch is not installed; the bundles are made of a model of it")
pytest.importorskip("openvino", reason="openvino is not installed; one of the bundles is made with it")

from edgepress.compress.config import ModelConfig  # noqa: E402
from edgepress.compress.models import make_model  # noqa: E402
from edgepress.deploy.build.compile import compile_openvino  # noqa: E402
from edgepress.deploy.build.export import export_onnx  # noqa: E402


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[sshd.Server]:
    sshd.require_sshd()
    process, server = sshd.start(tmp_path_factory.mktemp("sshd"))
    yield server
    process.terminate()
    process.wait()


@pytest.fixture
def there(server) -> list[str]:
    """The flags that name the server."""
    return ["--host", server.name, "--host-python", sys.executable, *server.flags()]


@pytest.fixture(autouse=True)
def nothing_is_left(request) -> Iterator[None]:
    yield
    if "server" in request.fixturenames:
        assert request.getfixturevalue("server").left() == []


def script(path: Path, lines: str) -> Path:
    """A command that stands where Python is looked for."""
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module")
def run_folder(tiny_data, tmp_path_factory) -> Path:
    """A finished ONNX bundle and OpenVINO's of it, of a model that learnt nothing."""
    data = load_dataset(tiny_data, "test")
    torch.manual_seed(0)
    model, _ = make_model(ModelConfig(backbone="test_efficientnet", width=32, size=64, weights="none"), data.labels)
    folder = tmp_path_factory.mktemp("run")
    onnx = export_onnx(model.eval(), data, folder / "onnx-fp32", identity="x")
    compile_openvino(onnx, folder / "openvino-fp32", "fp32")
    return folder


class TestRuns:
    def test_bench_takes_pictures_along_and_brings_the_record_back(
        self, edgepress, run_folder, there, server, tiny_data
    ):
        settings = ("--data", tiny_data, "--seconds", "0.05", "--batch", "2")
        answer = edgepress("bench", run_folder / "onnx-fp32", *settings, *there, "--json")
        assert answer.code == 0, answer.err
        assert answer.json["pictures"] == "12 pictures of the data set"
        (cell,) = answer.json["cells"]
        assert cell["batch"] == 2
        assert cell["model"]["mean_ms"] > 0
        assert (answer.json["host"], answer.json["rebuilt"]) == (server.name, False)
        assert f"{server.name}: sending onnx-fp32" in answer.err

    def test_two_engines_of_one_name_go_along(self, edgepress, run_folder, there, tmp_path):
        run = shutil.copytree(run_folder, tmp_path / "run")
        command = ("bench", run / "onnx-fp32", "--against", run_folder / "onnx-fp32", "--seconds", "0.05", "--json")
        answer = edgepress(*command, *there)
        assert answer.code == 0, answer.err
        assert answer.json["against"]

    def test_verify_says_there_what_it_says_here(self, edgepress, run_folder, there, tiny_data):
        command = ("verify", run_folder / "openvino-fp32", "--data", tiny_data, "--json")
        here, answer = edgepress(*command), edgepress(*command, *there)
        assert answer.code == here.code, answer.err
        for name in ("verdict", "mAP", "num_images", "reference"):
            assert answer.json[name] == here.json[name]

    def test_a_gate_that_fails_there_fails_here(self, edgepress, run_folder, there, tiny_data):
        failing = ("--data", tiny_data, "--budget", "-100", "--json")
        answer = edgepress("verify", run_folder / "onnx-fp32", *failing, *there)
        assert answer.code == 1, answer.err
        assert answer.json["verdict"] == "fail"

    def test_an_engine_that_does_not_fit_is_built_again_from_its_onnx(self, edgepress, run_folder, there, tmp_path):
        run = shutil.copytree(run_folder, tmp_path / "run")
        engine = Bundle.open(run / "openvino-fp32")
        graph = engine.path / engine.manifest.model  # as of a newer OpenVINO, with operators that this one has not
        graph.write_text(graph.read_text().replace('version="opset1"', 'version="opset99"', 1))
        fields = json.loads(engine.manifest.model_dump_json())
        fields["files"][graph.name] = file_sha256(graph)
        (engine.path / "manifest.json").write_bytes(_serialise(fields))
        answer = edgepress("bench", engine.path, "--seconds", "0.05", *there, "--json")
        assert answer.code == 0, answer.err
        assert answer.json["rebuilt"] is True
        assert "rebuilding it from its ONNX bundle" in answer.err
        assert json.loads((engine.path / "manifest.json").read_text())["built_for"] == fields["built_for"]

    def test_doctor(self, edgepress, there):
        answer = edgepress("doctor", *there, "--json")
        assert answer.code == 0, answer.err
        assert answer.json["backends"] == edgepress("doctor", "--json").json["backends"]

    def test_what_a_login_shell_prints_is_not_the_record(self, server, run_folder, tmp_path):
        python = script(tmp_path / "python", f'echo "welcome"; exec {sys.executable} "$@"')
        host = Host(name=server.name, python=str(python), options=tuple(server.options()))
        answer = run_there(host, "bench", Bundle.open(run_folder / "onnx-fp32"), ["--seconds=0.05"])
        assert answer.record["engine"] == "onnx-fp32"


class TestBudget:
    """A latency budget that is kept or missed on the other machine."""

    @pytest.fixture
    def settings(self, micro, tiny_data, server) -> Recipe:
        reached = {"host": server.name, "host_python": sys.executable, "ssh_option": server.options()}
        wanted = {"data": str(tiny_data), "engines": ["onnx-fp32"], "latency_budget": "60000ms"}
        return Recipe.parse({**micro, **wanted, **reached}, "recipe")

    def test_a_student_is_timed_there(self, settings, tmp_path):
        _, budget = choose_student(settings, splits_of(settings), tmp_path)
        (row,) = budget.students
        assert row.engines["onnx-fp32"].p50_ms > 0
        assert [path.name for path in tmp_path.iterdir()] == [TIMES]

    def test_an_engine_that_cannot_run_here_counts_there(self, settings, run_folder, tiny_data):
        engine, test = Bundle.open(run_folder / "onnx-fp32"), load_dataset(tiny_data, "test")
        seen = seen_on_host(host_of_recipe(settings), engine, settings, test)
        assert seen.judgement.verdict == "pass"
        assert seen.p50_ms > 0
        budget = LatencyBudget(budget_ms=60_000.0, host=settings.host)
        refusal = Reason(kind="machine", text="not here")
        found = EngineResult(engine="onnx-fp32", precision="fp32", bundle="onnx-fp32", refusal=refusal, on_host=seen)
        judged = found.model_copy(update={"judgement": judge_engine(found, "", budget)})
        assert choose_engine([judged], budget, 0.5).ship == "onnx-fp32"

    def test_what_failed_there_is_timed_again_and_what_ran_is_kept(self, settings, tmp_path):
        choose_student(settings, splits_of(settings), tmp_path)
        (row,) = json.loads((tmp_path / TIMES).read_text())
        for seen, again in (({"p50_ms": 0.125}, False), ({"reason": "the connection broke off"}, True)):
            (tmp_path / TIMES).write_text(json.dumps([{**row, "engines": {"onnx-fp32": seen}}]))
            _, budget = choose_student(settings, splits_of(settings), tmp_path)
            found = budget.students[0].engines["onnx-fp32"]
            assert (found.p50_ms != 0.125) == again
            assert found.p50_ms > 0

    def test_a_host_out_of_reach_is_no_reason_against_a_student(self, settings, server, tmp_path):
        options = server.options(port=sshd.free_port())
        with pytest.raises(InputError, match="Connection refused"):
            choose_student(settings.model_copy(update={"ssh_option": tuple(options)}), splits_of(settings), tmp_path)


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
    def test_another_version(self, edgepress, server, run_folder, tmp_path, theirs, fits):
        assert version("edgepress").startswith("0.1.")
        lines = f'[ "$3" = --version ] && echo "edgepress {theirs}" && exit; exec {sys.executable} "$@"'
        python = script(tmp_path / "python", lines)
        arguments = ("--seconds", "0.05", "--host", server.name, "--host-python", python, *server.flags(), "--json")
        answer = edgepress("bench", run_folder / "onnx-fp32", *arguments)
        assert answer.code == (0 if fits else 2), answer.err
        if not fits:
            assert f"edgepress {theirs}" in answer.err
            assert f"edgepress {version('edgepress')}" in answer.err

    def test_a_full_disk(self, bad, server, run_folder, tmp_path):
        # The largest file that may be written there is 1 kB.
        python = script(tmp_path / "python", f'ulimit -f 2; exec {sys.executable} "$@"')
        line = bad("bench", run_folder / "onnx-fp32", "--host", server.name, "--host-python", python, *server.flags())
        assert "is the disk full?" in line

    def test_a_connection_that_dies_while_it_is_sent(self, bad, server, run_folder, tmp_path):
        lines = f'[ "$2" = edgepress.remote.receive ] && head -c 1000 > /dev/null && exit 3; exec {sys.executable} "$@"'
        python = script(tmp_path / "python", lines)
        line = bad("bench", run_folder / "onnx-fp32", "--host", server.name, "--host-python", python, *server.flags())
        assert "exit code 3" in line

    def test_what_the_verb_refuses_there_is_told_here(self, bad, run_folder, there):
        line = bad("bench", run_folder / "openvino-fp32", "--device", "fridge", *there)
        assert "fridge" in line

    @pytest.mark.parametrize("name", ["-oProxyCommand=touch bad", "", "two words"])
    def test_a_name_that_is_no_host(self, bad, run_folder, name):
        assert "expected a host as ssh takes it" in bad("bench", run_folder / "onnx-fp32", f"--host={name}")

    def test_how_to_reach_nobody(self, bad, run_folder):
        assert "give --host" in bad("bench", run_folder / "onnx-fp32", "--ssh-option", "Port=1")

    def test_a_name_with_shell_in_it_is_a_name(self, server, run_folder, tmp_path):
        host = Host(name=server.name, python=f"no; touch {tmp_path / 'bad'}", options=tuple(server.options()))
        with pytest.raises(InputError, match="does not run there"):
            run_there(host, "bench", Bundle.open(run_folder / "onnx-fp32"))
        assert not (tmp_path / "bad").exists()


class TestInterrupted:
    def test_ctrl_c_ends_the_work_there_and_removes_its_folder(self, server, run_folder, there):
        command = [sys.executable, "-m", "edgepress", "bench", run_folder / "onnx-fp32", "--seconds", "600", *there]
        # What is started in the background of a shell ignores SIGINT, and so would what it starts.
        process = subprocess.Popen(
            list(map(str, command)),
            stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        wait_until(lambda: any(server.home.glob("edgepress-*/onnx-fp32/manifest.json")))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
        assert server.left() == []

    def test_a_killed_command_leaves_nothing_there(self, server, run_folder, there):
        command = [sys.executable, "-m", "edgepress", "bench", run_folder / "onnx-fp32", "--seconds", "600", *there]
        process = subprocess.Popen(list(map(str, command)), stderr=subprocess.DEVNULL)
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


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w|") as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def test_links_are_sent_as_the_bytes_they_lead_to(tmp_path):
    """The other side takes no links: a bundle may lie behind some, and two of its files be one."""
    real = tmp_path / "real"
    real.write_bytes(b"weights")
    (tmp_path / "soft").symlink_to(real)
    (tmp_path / "hard").hardlink_to(real)
    names = ("real", "soft", "hard")
    stream = io.BytesIO()
    _send(stream, [(tmp_path / name, f"bundle/{name}") for name in names])
    stream.seek(0)
    with tarfile.open(fileobj=stream) as archive:
        assert all(member.isreg() for member in archive)
    stream.seek(0)
    unpack(stream, tmp_path / "there")
    for name in names:
        assert (tmp_path / "there" / "bundle" / name).read_bytes() == b"weights"
        assert not (tmp_path / "there" / "bundle" / name).is_symlink()


class TestUnpack:
    def test_plain_files_arrive(self, tmp_path):
        unpack(io.BytesIO(tar((tarfile.TarInfo("a/b.bin"), b"12"), (tarfile.TarInfo("c"), b""))), tmp_path)
        assert (tmp_path / "a/b.bin").read_bytes() == b"12"
        assert (tmp_path / "c").read_bytes() == b""

    @pytest.mark.parametrize(
        "member",
        [
            tarfile.TarInfo("../out"),
            tarfile.TarInfo("a/../../out"),
            tarfile.TarInfo("/out"),
            link("a", "/etc", tarfile.SYMTYPE),
            link("a", "/etc/passwd", tarfile.LNKTYPE),
            link("a", "", tarfile.FIFOTYPE),
            link("a", "", tarfile.CHRTYPE),
        ],
        ids=lambda member: f"{member.name}-{member.type!r}",
    )
    def test_whatever_would_leave_the_folder_is_refused(self, tmp_path, member):
        inside = tmp_path / "inside"
        inside.mkdir()
        with pytest.raises(InputError, match="refused"):
            unpack(io.BytesIO(tar((member, b""))), inside)
        assert list(tmp_path.rglob("*")) == [inside]

    @pytest.mark.parametrize("share", [0.1, 0.4, 0.9])
    def test_a_stream_that_breaks_off_in_a_file(self, tmp_path, share):
        whole = tar((tarfile.TarInfo("a"), np.random.default_rng(0).bytes(100_000)))
        with pytest.raises(InputError, match="broke off"):
            unpack(io.BytesIO(whole[: int(share * 100_000)]), tmp_path)

    @pytest.mark.parametrize("garbage", [b"", b"not a tar" * 1000])
    def test_no_tar(self, tmp_path, garbage):
        with pytest.raises(InputError, match="broke off"):
            unpack(io.BytesIO(garbage), tmp_path)


def test_flags_go_along_as_they_were_given():
    given = {"batch": 2, "max_batch": [1, 8], "budget": None, "required": False, "rebuild": True, "seconds": 0.5}
    assert as_flags(given) == ["--batch=2", "--max-batch=1,8", "--rebuild", "--seconds=0.5"]
