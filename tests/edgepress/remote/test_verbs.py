"""Verbs on another machine, through a real sshd on loopback: what they find there is told as what is found here."""

from __future__ import annotations

import json
import shutil

import onnx
import pytest

from edgepress.multilabel.bundle import Bundle, _serialise, file_sha256
from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.judgement import Reason
from edgepress.remote.host import Host
from edgepress.remote.verbs import FoundThere, as_flags, bench_there
from edgepress.run.judge import judge_engine
from edgepress.run.latency_budget import (
    TIMES,
    choose_engine,
    choose_student,
    host_of_recipe,
    require_host,
    seen_on_host,
)
from edgepress.run.ready import require_ready
from edgepress.run.recipe import Recipe
from edgepress.run.result import EngineResult
from edgepress.run.run_report import LatencyBudget
from edgepress.run.splits import splits_of
from edgepress.run.teachers import Teaching
from tests.deploy.verify.corruptions import scaled, wrap
from tests.edgepress.remote import sshd
from tests.edgepress.remote.sshd import script


class TestRuns:
    def test_bench_takes_pictures_along_and_brings_the_record_back(
        self, edgepress, run_folder, afresh, server, tiny_data
    ):
        settings = ("--data", tiny_data, "--seconds", "0.05", "--batch", "2")
        answer = edgepress("bench", run_folder / "onnx-fp32", *settings, *afresh, "--json")
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

    def test_golden_pictures_check_the_machine_there(self, edgepress, run_folder, there, server):
        command = ("verify", run_folder / "onnx-fp32", "--golden")
        here, answer = edgepress(*command), edgepress(*command, *there)
        assert (answer.code, answer.out) == (0, here.out)
        told = edgepress(*command, *there, "--json").json
        assert (told["host"], told["verdict"], told["pictures"]) == (server.name, "pass", 9)

    def test_the_tables_are_of_what_was_found_there(self, edgepress, run_folder, there, tiny_data, tmp_path):
        save = tmp_path / "earlier.json"
        timing = ("bench", run_folder / "onnx-fp32", "--seconds", "0.05", *there)
        assert edgepress(*timing, "--save", save).code == 0
        timed = edgepress(*timing, "--against", save)
        for words in ("model alone", "p99 ms", "peak memory", "NOT in turn: two runs"):
            assert words in timed.out
        command = ("verify", run_folder / "openvino-fp32", "--data", tiny_data)
        here, answer = edgepress(*command), edgepress(*command, *there)
        assert answer.out == here.out
        assert "drop in points" in answer.out

    def test_an_engine_that_cannot_run_there(self, edgepress, run_folder, there, tiny_data):
        absent = (run_folder / "openvino-fp32", "--device", "npu")
        timed = edgepress("bench", *absent, *there, "--json")
        assert timed.code == 0, timed.err
        assert list(timed.json) == ["host", "rebuilt", "engine", "verdict", "reasons"]
        assert "OpenVINO sees no NPU" in timed.json["reasons"][0]
        verified = ("verify", *absent, "--data", tiny_data)
        here, answer = edgepress(*verified, "--json"), edgepress(*verified, *there, "--json")
        assert {**here.json, **timed.json, "reason_kinds": ["machine"]} == answer.json
        told = edgepress(*verified, *there, "--required")
        assert told.code == 1
        assert told.out.splitlines()[-1] == "openvino-fp32: not run"

    def test_a_gate_that_fails_there_fails_here(self, edgepress, run_folder, there, tiny_data, tmp_path):
        honest = Bundle.open(run_folder / "onnx-fp32")
        graph = onnx.load(honest.model_path)
        scaled(graph, 2.0)
        wrong = wrap(tmp_path / "onnx-fp32", graph, honest)
        answer = edgepress("verify", wrong.path, "--data", tiny_data, "--json", *there)
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

    def test_doctor(self, edgepress, afresh):
        answer = edgepress("doctor", *afresh, "--json")
        assert answer.code == 0, answer.err
        assert answer.json["backends"] == edgepress("doctor", "--json").json["backends"]

    def test_what_a_login_shell_prints_is_not_the_record(self, server, python, run_folder, tmp_path):
        python = script(tmp_path / "python", f'echo "welcome"; exec {python} "$@"')
        host = Host(name=server.name, python=str(python), options=tuple(server.options()))
        answer = bench_there(host, Bundle.open(run_folder / "onnx-fp32"), ["--seconds=0.05"])
        assert answer.found.benchmark.engine == "onnx-fp32"
        assert (answer.place, answer.code) == ({"host": server.name, "rebuilt": False}, 0)


class TestAnswers:
    """A record of another version with our major and minor version."""

    @pytest.fixture
    def changed(self, server, python, run_folder, tmp_path):
        """What `bench` answers where its record is changed by this script of sed."""

        def answer(change: str) -> FoundThere:
            lines = f'[ "$2" != edgepress.remote.receive ] && exec {python} "$@"\n'
            changing = script(tmp_path / "python", f"{lines}{python} \"$@\" | sed '{change}'")
            host = Host(name=server.name, python=str(changing), options=tuple(server.options()))
            return bench_there(host, Bundle.open(run_folder / "onnx-fp32"), ["--seconds=0.05"])

        return answer

    def test_a_field_that_only_one_side_knows_changes_nothing(self, changed):
        answer = changed('s/"engine": /"later": {"x": [1]}, "engine": /; s/, "products": {[^}]*}//')
        assert answer.found.benchmark.engine == "onnx-fp32"
        assert answer.found.benchmark.ran.products == {}

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ('s/"cores": [0-9]*/"cores": "many"/', r"machine\.cores: Input should be a valid integer"),
            ('s/"memory": /"memories": /', "memory: Field required"),
            ('s/"rebuilt": /"again": /', "rebuilt: Field required"),
            ("s/.*/{}/", "code: Field required"),
            ("s/.*/[]/", r"answered '\[\]'; expected a record of edgepress"),
        ],
    )
    def test_an_answer_that_is_not_read_is_one_line_with_what_to_do(self, changed, server, change, said):
        with pytest.raises(InputError, match=said) as error:
            changed(change)
        assert str(error.value).startswith(f"{server.name}: ")
        assert "\n" not in str(error.value)


class TestBudget:
    """A latency budget that is kept or missed on the other machine."""

    @pytest.fixture
    def settings(self, micro, tiny_data, server, python) -> Recipe:
        reached = {"host": server.name, "host_python": python, "ssh_option": server.options()}
        wanted = {"data": str(tiny_data), "engines": ["onnx-fp32"], "latency_budget": "60000ms"}
        return Recipe.parse({**micro, **wanted, **reached}, "recipe")

    def test_a_student_is_timed_there(self, settings, tmp_path):
        _, budget = choose_student(settings, splits_of(settings), tmp_path)
        (row,) = budget.students
        assert row.engines["onnx-fp32"].p50_ms > 0
        assert [path.name for path in tmp_path.iterdir()] == [TIMES]

    def test_without_a_budget_the_host_is_asked_before_anything_is_trained(self, settings, server, tmp_path):
        free = settings.model_copy(update={"latency_budget": None})
        require_host(free)
        assert choose_student(free, splits_of(free), tmp_path) == (free, None)
        away = free.model_copy(update={"ssh_option": tuple(server.options(port=sshd.free_port()))})
        with pytest.raises(InputError, match="Connection refused"):
            require_ready(
                away,
                splits_of(away),
                [away.distill],
                away.engines,
                Teaching.of(away.teacher_options, away.data, away.data_options),
            )
        assert not list(tmp_path.iterdir())

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


def test_flags_go_along_as_they_were_given():
    given = {"batch": 2, "max_batch": [1, 8], "budget": None, "required": False, "rebuild": True, "seconds": 0.5}
    assert as_flags(given) == ["--batch=2", "--max-batch=1,8", "--rebuild", "--seconds=0.5"]
