"""`edgepress demo`: what is opened and what is not, where it listens, how it ends."""

from __future__ import annotations

import http.client
import shutil
import signal
import socket
import subprocess
import sys

import pytest

from edgepress.deploy.demo.answers import Opening, ask, open_engines
from edgepress.deploy.demo.markup import answers_html
from edgepress.multilabel.bundle import rewrite_bundle
from edgepress.multilabel.decisions import Decisions
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.label_groups import LabelGroups
from edgepress.multilabel.pictures import read_picture


def test_the_engines_of_a_run(engines):
    """The float engine first and what torch runs last; what cannot be opened with its reason."""
    assert list(engines.taggers) == [
        "onnx-fp32",
        "onnx-fp32-attention",
        "openvino-fp32",
        "onnx-int8-onnxruntime",
        "student",
    ]
    assert list(engines.refused) == ["openvino-broken"]
    assert engines.refused["openvino-broken"].endswith("make the bundle again or copy it whole")
    assert engines.looking is engines.taggers["onnx-fp32-attention"]


def test_an_answer_is_what_predict_says(engines, splits):
    path = splits.test.paths[3]
    answers = ask(engines, ["openvino-fp32", "onnx-fp32"], path.read_bytes(), path.name)
    assert (answers.width, answers.height) == (48, 48)
    assert (answers.preview == read_picture(path)).all()
    for answer in answers.of:
        tagger = engines.taggers[answer.engine]
        assert answer.probabilities == pytest.approx(tagger.predict(path), abs=1e-5)
        assert answer.tags == tagger.tags(answer.probabilities)
        assert min(answers.decode_ms, answer.prepare_ms, answer.model_ms) > 0
    with pytest.raises(InputError, match="no engine 'tensorrt' is open; expected one of onnx-fp32"):
        ask(engines, ["tensorrt"], path.read_bytes(), path.name)


def test_folders_without_an_engine(tmp_path, run):
    with pytest.raises(InputError, match="neither a bundle nor a run's folder"):
        open_engines(tmp_path)
    shutil.copytree(run / "openvino-broken", tmp_path / "openvino-broken")
    with pytest.raises(InputError, match=r"opens here \(openvino-broken: .*missing from the bundle"):
        open_engines(tmp_path)
    with pytest.raises(InputError, match="no such folder; expected a bundle"):
        open_engines(tmp_path / "no-such")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--listen", "somewhere"], "expected an IP address"),
        (["--listen", "192.0.2.1", "--port", "0"], "cannot listen there"),
        (["--video", "a.mp4", "--camera", "0"], "expected one of them"),
        (["--out", "a.mp4"], "the page writes none"),
    ],
)
def test_what_is_refused(edgepress, run, options, said):
    answer = edgepress("demo", run / "onnx-fp32", *options)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert answer.err.count("\n") == 1


def test_a_port_that_is_taken(edgepress, run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        answer = edgepress("demo", run / "onnx-fp32", "--port", port)
    assert answer.code == 2
    assert f"127.0.0.1 port {port}: cannot listen there" in answer.err


def test_it_serves_until_it_is_interrupted(run):
    pytest.importorskip("gradio", reason="gradio is not installed; the page is made with it")
    everywhere = "0.0.0.0"  # noqa: S104 # what a person must be warned of
    command = [sys.executable, "-m", "edgepress", "demo", run / "onnx-fp32", "--port", "0", "--listen", everywhere]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith(f"http://{everywhere}:"), process.communicate()
            port = int(line.split("/")[2].split(":")[1])
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("GET", "/", headers={"Host": "demo.example"})
            assert connection.getresponse().status == 200
            connection.close()
        finally:
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "there is no password" in said
    assert "Traceback" not in said


def test_what_label_groups_answer_is_shown_as_such(onnx_bundle, splits, tmp_path):
    groups = LabelGroups(one_of=(("red", "green", "blue"),))
    decisions = Decisions.plain(onnx_bundle.labels.names, groups=groups)
    rewrite_bundle(onnx_bundle, tmp_path / "grouped", decisions=decisions)
    with open_engines(tmp_path / "grouped") as engines:
        for path in splits.test.paths[:4]:
            answers = ask(engines, ["grouped"], path.read_bytes(), path.name)
            (answer,) = answers.of
            assert len({"red", "green", "blue"} & set(answer.tags)) == 1
            assert answer.thresholds == {"red": None, "green": None, "blue": None, "circle": 0.5, "bars": 0.5}
            page = answers_html(answers, "token", "0")
            assert page.count("most probable of its group") == 3
            assert page.count("✓ yes") == len(answer.tags)


def test_of_many_labels_a_page_holds_the_best_and_all_that_are_yes(onnx_bundle, splits):
    path = splits.test.paths[0]  # shows every label
    assert splits.test.targets[0].all()
    for picture, most in ((path, 5), (splits.test.paths[1], 2)):
        with open_engines(onnx_bundle.path, Opening(top=2)) as engines:
            answers = ask(engines, ["onnx-fp32"], picture.read_bytes(), picture.name)
            page = answers_html(answers, "token", "0")
            assert page.count("data-label=") == most
            assert ("3 less probable labels are not shown (--top)" in page) == (most == 2)
