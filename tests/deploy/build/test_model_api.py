"""The model for OpenVINO Model API tags as the bundle does, if it is read as Model API 0.4.7 reads it.

benchmarks/callers.py runs Model API itself, in an environment of its own, because it pins other versions.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from edgepress.deploy.build.model_api import write_model_api
from edgepress.multilabel.bundle import Bundle, rewrite_bundle
from edgepress.multilabel.decisions import Affine, Decisions
from edgepress.multilabel.errors import InputError


def decided(bundle: Bundle, path: Path) -> Bundle:
    """The bundle with a calibration and thresholds of its own."""
    names, count = bundle.labels.names, len(bundle.labels)
    platt = Affine(method="platt", slopes=(0.5,) * count, offsets=tuple(np.linspace(-1, 1, count).tolist()))
    decisions = Decisions(labels=names, thresholds=tuple(np.linspace(0.05, 0.95, count).tolist()), calibrator=platt)
    return rewrite_bundle(bundle, path, decisions=decisions)


def tags(scores: np.ndarray, told: dict[str, str]) -> list[list[str]]:
    """What ClassificationModel.get_multilabel_predictions answers."""
    labels, threshold = told["labels"].split(), float(told["confidence_threshold"])
    return [[labels[at] for at in np.flatnonzero(1 / (1 + np.exp(-row)) > threshold)] for row in scores]


def expected(bundle: Bundle, logits: np.ndarray) -> list[list[str]]:
    return [[bundle.labels.names[at] for at in np.flatnonzero(row)] for row in bundle.decisions.decide(logits)]


@pytest.mark.parametrize("name", ["openvino-fp32", "openvino-fp16", "openvino-int8"])
def test_the_ir_answers_by_the_bundles_thresholds(build, images, tmp_path, name):
    import openvino as ov

    bundle = decided(build(name), tmp_path / "bundle")
    out = write_model_api(bundle, tmp_path / "out")
    model = ov.Core().read_model(str(out / "model.xml"))
    told = {key: model.get_rt_info(["model_info", key]).astype(str) for key in model.get_rt_info(["model_info"]).value}
    assert (told["model_type"], told["multilabel"]) == ("Classification", "True")
    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    scores = ov.Core().compile_model(model, "CPU", hint)(images)[0]
    plain = ov.Core().compile_model(str(bundle.model_path), "CPU", hint)(images)[0]
    assert tags(scores, told) == expected(bundle, plain)
    assert 0 < sum(map(len, expected(bundle, plain))) < plain.size, "an answer that is always the same shows nothing"
    assert json.loads(told["edgepress_labels"]) == list(bundle.labels.names)
    assert abs((out / "model.bin").stat().st_size - (bundle.path / "model.bin").stat().st_size) < 4096
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "manifest.json", "model.bin", "model.xml"]


def test_the_onnx_answers_alike_and_has_the_same_words(onnx_bundle, images, tmp_path):
    bundle = decided(onnx_bundle, tmp_path / "bundle")
    out = write_model_api(bundle, tmp_path / "out")
    graph = onnx.load(out / "model.onnx")
    onnx.checker.check_model(graph, full_check=True)
    words = {entry.key: entry.value for entry in graph.metadata_props}
    told = {key.removeprefix("model_info "): value for key, value in words.items() if key.startswith("model_info ")}
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    plain = onnxruntime.InferenceSession(str(bundle.model_path), providers=["CPUExecutionProvider"])
    (scores,), (logits,) = session.run(None, {"images": images}), plain.run(None, {"images": images})
    assert tags(scores, told) == expected(bundle, logits)
    assert json.loads(words["labels"]) == list(bundle.labels.names), "what export wrote is still there"


def test_what_model_api_does_not_serve_is_refused(student, build, tmp_path, edgepress):
    with pytest.raises(InputError, match="of kind torch, fp32; OpenVINO Model API serves openvino: fp32"):
        write_model_api(student, tmp_path / "out")
    single = student.manifest.model_copy(update={"kind": "onnx", "labels": ("only",), "decisions": None})
    with pytest.raises(InputError, match="has one label, and OpenVINO Model API needs two"):
        write_model_api(Bundle(student.path, single, ""), tmp_path / "out")
    answer = edgepress("--quiet", "export", student.path, "--layout", "model-api", "--out", tmp_path / "out")
    assert answer.code == 2
    assert not (tmp_path / "out").exists()
