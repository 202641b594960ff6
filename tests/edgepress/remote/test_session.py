"""A search whose candidates run on another machine, through a real sshd on loopback."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from edgepress.deploy.engines import open_engine
from edgepress.deploy.machine.device import describe_machine
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.datasets import DataOptions
from edgepress.multilabel.errors import DisconnectedError, InputError
from edgepress.remote.host import Host
from edgepress.remote.session import Session
from edgepress.run import build
from edgepress.run.build import build_all, build_engine
from edgepress.run.latency_budget import weight_bits_there
from edgepress.run.recipe import CompileConfig, QuantizeConfig, Recipe
from edgepress.run.splits import load_splits
from tests.edgepress.remote.sshd import script

RESPOND = "edgepress.remote.respond"
WHOLE = ("--time-limit", "60")
SHORT = ("--pictures", "8", "--choice", "random", "--time-limit", "0", "--budget", "100")


@pytest.fixture
def device(server, python, tmp_path):
    """A host whose Python is a script: `$PYTHON` is the real one, and other than a search's calls go through."""

    def made(lines: str, python: str = python) -> Host:
        through = f'PYTHON={python}; [ "$2" != {RESPOND} ] && exec $PYTHON "$@"\n'
        python = script(tmp_path / "python", through + lines)
        return Host(name=server.name, python=str(python), options=tuple(server.options()))

    return made


@pytest.fixture
def search(edgepress, run_folder, tiny_data, tmp_path):
    """The verb, with a host."""

    def call(host: Host, *more: str):
        reached = [word for option in host.options for word in ("--ssh-option", option)]
        flags = ("--data", tiny_data, "--target", "onnxruntime", "--out", tmp_path / "int8", *SHORT, *more)
        return edgepress(
            "quantize", run_folder / "onnx-fp32", *flags, "--host", host.name, "--host-python", host.python, *reached
        )

    return call


class TestSearch:
    def test_candidates_go_over_one_connection_and_the_record_names_the_device(self, search, device, tmp_path):
        calls = tmp_path / "calls"
        host = device(f'echo "$2" >> {calls}; echo "welcome"; exec $PYTHON "$@"', sys.executable)
        answer = search(host)
        assert answer.code in (0, 1), answer.err  # 1 where a busy machine makes INT8 slower
        assert calls.read_text().split() == [RESPOND]
        processor = describe_machine().processor
        assert f"timed, and answered on val, on {processor}" in answer.out
        found = Bundle.open(tmp_path / "int8").manifest.calibration
        assert (found.on_device, found.measured_on) == (True, processor)
        assert found.tried
        assert all(one.latency is not None and one.latency.ratio > 0 for one in found.tried)
        # Nothing has changed, so nothing is tried again.
        assert "unchanged, kept" in search(host).err

    def test_a_device_whose_products_saturate_gets_7_bits_unless_8_are_asked_for(self, search, device, tmp_path):
        host = device('$PYTHON "$@" | sed -u \'s/"weight_bits":8/"weight_bits":7/\'')
        refused = search(host, "--weight-bits", "8")
        assert refused.code == 2
        assert "its INT8 products of 8-bit weights saturate" in refused.err
        assert not (tmp_path / "int8").exists()
        assert search(host).code in (0, 1)
        assert Bundle.open(tmp_path / "int8").manifest.calibration.weight_bits == 7

    def test_a_broken_connection_keeps_what_was_finished(self, search, device, tmp_path):
        broken = search(device('$PYTHON "$@" | (sed -u 12q; kill -9 $PPID)'), *WHOLE)
        assert broken.code == 2, broken
        last = broken.err.splitlines()[-1]
        assert "ssh failed" in last
        assert "candidates that were finished are kept" in last
        kept = list((tmp_path / ".int8.quantizing").glob("*/result.json"))
        assert kept
        again = search(device('exec $PYTHON "$@"'), *WHOLE)
        assert again.code in (0, 1), again.err
        tried = Bundle.open(tmp_path / "int8").manifest.calibration.tried
        assert len(tried) > len(kept)
        told = [line for line in again.err.splitlines() if "times fp32's time" in line]
        assert len(told) == len(tried)
        assert not (tmp_path / ".int8.quantizing").exists()

    def test_a_device_without_the_runtime_is_named_before_the_search(self, search, device, tmp_path):
        (tmp_path / "without").mkdir()
        (tmp_path / "without" / "sitecustomize.py").write_text(
            "import importlib.util as util\nfind = util.find_spec\n"
            "util.find_spec = lambda name, package=None: None if name == 'onnxruntime' else find(name, package)\n"
        )
        answer = search(device(f'PYTHONPATH={tmp_path / "without"} exec $PYTHON "$@"', sys.executable))
        assert answer.code == 2
        assert "onnxruntime is not installed" in answer.err
        assert describe_machine().processor in answer.err
        assert "min-max" not in answer.err

    def test_an_edgepress_that_cannot_serve_a_search_is_told(self, search, device, server):
        answer = search(device(f'echo "python3: No module named {RESPOND}" >&2; exit 1'))
        assert answer.code == 2
        assert "its edgepress is older than this one" in answer.err
        assert "-m pip install 'edgepress[onnxruntime]==" in answer.err

    def test_tensorrt_is_refused_before_anything_is_sent(self, bad, run_folder, tiny_data, there):
        command = ("quantize", run_folder / "onnx-fp32", "--data", tiny_data, "--target", "tensorrt", *there)
        assert "its search times no candidate on a device" in bad(*command)


class TestRun:
    def test_a_run_searches_int8_on_its_host(self, device, run_folder, tiny_data, tmp_path):
        splits = load_splits(str(tiny_data), "train", "val", "test", DataOptions())
        config = QuantizeConfig(pictures=8, choice="random", time_limit=0.0, budget=100.0)
        onnx, host = Bundle.open(run_folder / "onnx-fp32"), device('exec $PYTHON "$@"')
        made = build_engine("onnx-int8-onnxruntime", onnx, tmp_path, splits, config, CompileConfig(), host=host)
        assert made.manifest.calibration.on_device
        assert made.manifest.calibration.measured_on == describe_machine().processor

    def test_students_are_timed_with_the_bits_that_the_host_needs(self, device):
        host = device('$PYTHON "$@" | sed -u \'s/"weight_bits":8/"weight_bits":7/\'')
        assert weight_bits_there(host, ["onnx-fp32", "onnx-int8-onnxruntime"]) == 7
        nobody = Host(name="nobody@host.invalid")  # is not asked
        assert weight_bits_there(nobody, ["onnx-fp32", "litert-int8"]) is weight_bits_there(None, []) is None

    def test_a_run_stops_where_the_connection_breaks_off(self, run_folder, micro, tiny_data, tmp_path, monkeypatch):
        """The engine is not refused for it, so the same command continues."""

        def broken(*_: object, **__: object) -> Bundle:
            raise DisconnectedError("the connection broke off")

        monkeypatch.setattr(build, "build_engine", broken)
        recipe = Recipe.parse({**micro, "data": str(tiny_data), "engines": ["onnx-int8-onnxruntime"]}, "recipe")
        with pytest.raises(DisconnectedError):
            build_all(Bundle.open(run_folder / "onnx-fp32"), recipe, None, tmp_path, None)


class TestSession:
    @pytest.fixture
    def session(self, device):
        with Session(device('exec $PYTHON "$@"')) as session:
            yield session

    def test_answers_there_are_answers_here(self, session, run_folder):
        bundle = Bundle.open(run_folder / "onnx-fp32")
        pixels = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), np.uint8)
        session.keep("some", pixels)
        with open_engine(bundle, unproven=True) as engine:
            np.testing.assert_allclose(session.answers(bundle, "some"), engine(pixels), atol=1e-5)
        with pytest.raises(InputError, match=r"no such|cannot be read|missing"):
            session.answers(bundle, "others")
        assert session.latency(bundle, Bundle.open(run_folder / "openvino-fp32"), "some").ratio > 0

    def test_a_first_line_of_another_edgepress_is_not_waited_for(self, device):
        with pytest.raises(InputError, match=r"does not read \(weight_bits: Field required\)"):
            Session(device('$PYTHON "$@" | sed -u \'s/"weight_bits"/"bits"/\''))

    def test_a_changed_answer_is_not_read(self, device, run_folder):
        with Session(device('$PYTHON "$@" | sed -u \'s/"logits":"/"logits":"####/\'')) as session:
            session.keep("some", np.zeros((1, 64, 64, 3), np.uint8))
            with pytest.raises(InputError, match="answers what this one does not read"):
                session.answers(Bundle.open(run_folder / "onnx-fp32"), "some")
