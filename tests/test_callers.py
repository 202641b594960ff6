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
from edgepress.deploy.engines import open_engine
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


PREPARED = """async ([file, how]) => {
    const { decode, prepare } = await import("./tag.mjs");
    return Array.from(prepare(await decode(await (await fetch(`bundle/${file}`)).blob()), how));
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


@pytest.fixture(scope="module")
def tag(tmp_path_factory):
    """The C++ program, compiled."""
    compiler, out = require_compiler(), tmp_path_factory.mktemp("tag") / "tag"
    import openvino

    subprocess.run(compile_command(compiler, Path(openvino.__file__).parent, out), check=True, timeout=300)
    return out


@pytest.fixture(scope="module")
def openvino_bundle(bundles, tmp_path_factory):
    from edgepress.deploy.build.compile import compile_openvino

    return compile_openvino(bundles["shrunk"], tmp_path_factory.mktemp("compiled") / "openvino-fp32", "fp32")


def test_cpp_with_openvino(bundles, tag, openvino_bundle, tmp_path):
    bundle = openvino_bundle
    out = write_model_api(bundle, tmp_path / "out")
    told = [one for one in expected(bundle) if one.file.endswith(".jpg")]
    scale, offset = yes_above_zero(bundle.decisions)
    assert one_word(bundle.labels.names) == list(bundle.labels.names)
    answers = ran(tag, out / "model.xml", *(bundle.path / one.file for one in told))
    agree(bundle, [{**one, "logits": (np.array(one["scores"]) - offset) / scale} for one in answers], told)
    done = subprocess.run([tag, out / "model.xml", out / "README.md"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Not a JPEG file" in done.stderr


def with_preprocess(bundle: Bundle, **fields: str) -> Bundle:
    """The bundle with another preprocessing, whose model was never asked with it."""
    own = bundle.preprocess.model_copy(update=fields)
    return Bundle(bundle.path, bundle.manifest.model_copy(update={"preprocess": own}), "")


def test_cpp_prepares_as_the_model_says(tag, openvino_bundle, tmp_path):
    bundle = with_preprocess(openvino_bundle, resize="letterbox", interpolation="bilinear-aa")
    out = write_model_api(bundle, tmp_path / "out")
    files = [bundle.path / one.file for one in expected(bundle) if one.file.endswith(".jpg")]
    scale, offset = yes_above_zero(bundle.decisions)
    with open_engine(openvino_bundle) as engine:
        logits = engine(np.stack([bundle.preprocess.load(file) for file in files]))
    scores = np.array([one["scores"] for one in ran(tag, out / "model.xml", *files)])
    assert np.abs((scores - offset) / scale - logits).max() < 1e-4


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"resize": "crop"}, "resize crop: this program has squash, letterbox"),
        ({"interpolation": "bilinear"}, "interpolation bilinear: this program has area-cubic, bilinear-aa"),
    ],
)
def test_cpp_refuses_by_name_what_it_cannot_do(tag, openvino_bundle, tmp_path, fields, said):
    out = write_model_api(with_preprocess(openvino_bundle, **fields), tmp_path / "out")
    command = [tag, out / "model.xml", openvino_bundle.path / "golden" / "0.jpg"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


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


def test_javascript_prepares_by_every_word_of_the_manifest(bundles, tmp_path, browser):
    bundle = bundles["shrunk"]
    files = [one.file for one in expected(bundle)[:3]]
    with served(tmp_path, bundle.path, require_onnxruntime_web()) as address, clean_page(browser) as page:
        page.goto(f"{address}/tag.html")
        for resize, interpolation in (("letterbox", "bilinear-aa"), ("crop", "bicubic-aa"), ("crop", "area-cubic")):
            own = bundle.preprocess.model_copy(update={"interpolation": interpolation, "resize": resize})
            for file in files:
                pixels = np.array(page.evaluate(PREPARED, [file, own.model_dump()]))
                apart = np.abs(pixels - own.load(bundle.path / file).reshape(-1))
                assert apart.max() <= (1 if interpolation == "area-cubic" else 0)
                assert (apart > 0).mean() <= 0.003


def test_javascript_refuses_by_name_what_it_cannot_do(bundles, tmp_path, browser):
    manifest = json.loads((bundles["shrunk"].path / "manifest.json").read_text())
    (tmp_path / "other").mkdir()
    changed = {**manifest, "preprocess": {**manifest["preprocess"], "interpolation": "bilinear"}}
    (tmp_path / "other" / "manifest.json").write_text(json.dumps(changed))
    ask = """async () => { const { open } = await import("./tag.mjs"); return open("bundle/", null).catch(String); }"""
    with served(tmp_path, tmp_path / "other", require_onnxruntime_web()) as address, clean_page(browser) as page:
        page.goto(address + "/tag.mjs")
        assert (
            page.evaluate(ask) == "Error: interpolation bilinear: this program has area-cubic, bilinear-aa, bicubic-aa"
        )
