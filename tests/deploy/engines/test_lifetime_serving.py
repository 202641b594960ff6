"""The short form of `make serve`: forked workers with threads answer while their bundle is replaced under them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgepress.deploy.engines.golden import cache_folder
from tests.serving.service import TOLERANCE

COUNT = 400


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_service_of_forked_workers_gives_no_wrong_answer_and_no_hang(build, tiny_data):
    run = build("onnx-fp32").path.parent
    build("onnx-fp16")
    # A process of its own: a fork of the one that runs the tests has none of torch's threads.
    command = [sys.executable, "-m", "tests.serving", run, "--pictures", str(COUNT), "--data", tiny_data]
    done = subprocess.run(
        [*command, "--pair", "onnx-fp32", "onnx-fp16"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"},
    )
    assert done.returncode in (0, 1), done.stderr  # 1 where it took longer than its runtime: told by `make serve`
    service = json.loads(done.stdout)["services"]["onnx-fp32 / onnx-fp16"]
    assert service["apart"] > TOLERANCE  # so that an answer of the other bundle can be told
    assert sum(worker["answered"] for worker in service["workers"]) == COUNT
    assert [worker["wrong"] for worker in service["workers"]] == [0, 0]
    assert all(worker["opened"] > 1 for worker in service["workers"])


def test_a_process_that_a_test_starts_keeps_its_proofs_where_the_tests_do():
    program = "from edgepress.deploy.engines.golden import cache_folder; print(cache_folder())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()) == cache_folder()
    assert cache_folder() != Path.home() / ".cache/edgepress/proven"
