"""examples/callers: programs without edgepress that answer the golden pictures of a bundle as the bundle says."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepress.deploy.build.golden_pictures import golden_pictures
from edgepress.deploy.build.handoff import one_word, yes_above_zero
from edgepress.deploy.build.model_api import write_model_api
from edgepress.multilabel.bundle import Bundle, write_bundle
from edgepress.multilabel.decisions import Affine, Decisions
from edgepress.multilabel.golden_answers import ANSWERS, GoldenAnswer, GoldenAnswers, is_proof
from tests.browser import clean_page
from tests.callers import CALLERS, compile_command, require_compiler, require_onnxruntime_web, served

ALLOWED = 0.05
"""Of a logit: the budget of an fp32 engine."""

DECODED = """async (file) => {
    const { decode } = await import("./tag.mjs");
    const { pixels } = await decode(await (await fetch(`bundle/${file}`)).blob());
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", pixels));
    return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
}"""


@pytest.fixture(scope="module")
def bundles(onnx_bundle: Bundle, model: Any, splits: Any, tmp_path_factory: Any) -> dict[str, Bundle]:
    """Calibrated bundles: one whose golden pictures grow to the model's input, and one whose shrink."""
    names, folder, made = onnx_bundle.labels.names, tmp_path_factory.mktemp("callers"), {}
    platt = Affine(method="platt", slopes=(0.8,) * 5, offsets=(0.1, -0.2, 0.3, -0.4, 0.5))
    decisions = Decisions(labels=names, thresholds=(0.1, 0.3, 0.5, 0.7, 0.9), calibrator=platt)
    for name in ("grown", "shrunk"):
        pictures = golden_pictures(splits.test, model.preprocess, model.answer, generated=name == "shrunk")
        fields = {key: value for key, value in onnx_bundle.manifest if key not in ("files", "created", "decisions")}
        with write_bundle(folder / name, decisions=decisions, **fields) as inside:
            for file in onnx_bundle.manifest.files:
                if not is_proof(file):
                    shutil.copyfile(onnx_bundle.path / file, inside / file)
            pictures.save(inside)
        made[name] = Bundle.open(folder / name)
    return made


def expected(bundle: Bundle) -> list[GoldenAnswer]:
    return list(GoldenAnswers.parse(bundle.read(ANSWERS), ANSWERS).pictures)


def ran(*command: object) -> list[dict[str, Any]]:
    """The JSON lines of a program."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def agree(bundle: Bundle, answers: list[dict[str, Any]], told: list[GoldenAnswer]) -> None:
    assert len(answers) == len(told) > 7
    for answer, golden in zip(answers, told, strict=True):
        assert np.abs(np.array(answer["logits"]) - golden.logits).max() <= ALLOWED, golden.file
        assert answer["tags"] == list(golden.tags), golden.file
    assert len({golden.tags for golden in told}) > 1, "an answer that is always the same shows nothing"


@pytest.mark.parametrize("name", ["grown", "shrunk"])
def test_python_without_edgepress(bundles, name):
    bundle = bundles[name]
    told = expected(bundle)
    agree(bundle, ran(sys.executable, CALLERS / "tag.py", bundle.path, *(bundle.path / one.file for one in told)), told)


@pytest.mark.parametrize("interpolation", ["bilinear-aa", "bicubic-aa"])
@pytest.mark.parametrize("resize", ["crop", "letterbox"])
def test_python_prepares_by_every_word_of_the_manifest(bundles, tmp_path, interpolation, resize):
    bundle = bundles["shrunk"]
    own = bundle.preprocess.model_copy(update={"interpolation": interpolation, "resize": resize})
    spec = importlib.util.spec_from_file_location("tag", CALLERS / "tag.py")
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    for one in expected(bundle)[:4]:
        file = bundle.path / one.file
        assert np.array_equal(program.prepare(file, own.model_dump()), own.load(file))


def test_cpp_with_openvino(bundles, tmp_path):
    compiler = require_compiler()
    import openvino

    from edgepress.deploy.build.compile import compile_openvino

    bundle = compile_openvino(bundles["shrunk"], tmp_path / "openvino-fp32", "fp32")
    subprocess.run(compile_command(compiler, Path(openvino.__file__).parent, tmp_path / "tag"), check=True, timeout=300)
    out = write_model_api(bundle, tmp_path / "out")
    told = [one for one in expected(bundle) if one.file.endswith(".jpg")]
    scale, offset = yes_above_zero(bundle.decisions)
    assert one_word(bundle.labels.names) == list(bundle.labels.names)
    answers = ran(tmp_path / "tag", out / "model.xml", *(bundle.path / one.file for one in told))
    agree(bundle, [{**one, "logits": (np.array(one["scores"]) - offset) / scale} for one in answers], told)
    done = subprocess.run([tmp_path / "tag", out / "model.xml", out / "README.md"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Not a JPEG file" in done.stderr


@pytest.mark.parametrize("name", ["grown", "shrunk"])
def test_javascript_in_a_browser(bundles, tmp_path, browser, name):
    ort, bundle = require_onnxruntime_web(), bundles[name]
    told = expected(bundle)
    ask = "async (file) => await window.tag(await (await fetch(`bundle/${file}`)).blob())"
    with served(tmp_path, bundle.path, ort) as address, clean_page(browser) as page:
        page.goto(f"{address}/tag.html")
        page.wait_for_function("window.tag !== undefined")
        agree(bundle, [page.evaluate(ask, one.file) for one in told], told)
        assert [page.evaluate(DECODED, one.file) for one in told] == [one.decoded_sha256 for one in told]
