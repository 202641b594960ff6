"""open_tagger: a picture in, a probability a label out."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from edgepress import Tagger, open_engine, open_tagger
from edgepress.deploy.build.compile import derived_bundle
from edgepress.deploy.tag.sources import pictures
from edgepress.multilabel.bundle import Bundle, rewrite_bundle
from edgepress.multilabel.decisions import Decisions
from edgepress.multilabel.errors import InputError, NoNumberError
from edgepress.multilabel.label_groups import LabelGroups


@pytest.mark.parametrize("name", ["onnx-fp32", "openvino-int8"])
def test_probabilities_are_the_sigmoid_of_the_engines_logits(build, splits, name):
    bundle = build(name)
    path = splits.test.paths[3]
    with open_engine(bundle) as engine, open_tagger(bundle.path) as tagger:
        (logits,) = engine(bundle.preprocess.load(path)[None])
        answer = tagger.predict(path)
        assert list(answer) == list(bundle.labels)
        assert list(answer.values()) == pytest.approx(1 / (1 + np.exp(-logits.astype(float))), abs=1e-6)
        assert all(type(value) is float for value in answer.values())


def test_it_knows_what_it_learnt(onnx_bundle, splits):
    with open_tagger(onnx_bundle) as tagger:
        for path, target in zip(splits.test.paths, splits.test.targets, strict=True):
            tags = tagger.tags(tagger.predict(path))
            assert set(tags) == {name for name, shown in zip(onnx_bundle.labels, target, strict=True) if shown}


def test_a_path_its_text_and_its_pixels_are_one_picture(onnx_bundle, splits):
    path = splits.test.paths[0]
    pixels = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    with open_tagger(str(onnx_bundle.path)) as tagger:
        assert tagger.predict(path) == tagger.predict(str(path)) == tagger.predict(pixels)


def test_a_stream_of_paths_and_pixels_answers_as_predict_does(onnx_bundle, splits, tmp_path):
    path, pixels = splits.test.paths[3], splits.test.picture(4)
    with open_tagger(onnx_bundle) as tagger:
        found = list(tagger.stream([path, str(path), pixels, tmp_path / "none.png", pixels / 255, None], batch=4))
        assert [name for name, _ in found[:3]] == [str(path), str(path), "picture 3"]
        for answer, given in zip((answer for _, answer in found), (path, path, pixels), strict=False):
            assert list(answer.values()) == pytest.approx(list(tagger.predict(given).values()), abs=1e-6)
        said = [str(answer) for _, answer in found[3:]]
    assert "none.png: cannot be read" in said[0]
    assert said[1].startswith("picture 5: received float64")
    assert said[2].startswith("picture 6 is NoneType; expected its path, as text or as a pathlib.Path, or its pixels")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda tagger: list(tagger.stream("beach.jpg")), "sources is str; expected a list of pictures"),
        (lambda tagger: list(tagger.stream(["a.jpg"], batch=0)), "batch 0: expected a whole number, at least 1"),
        (lambda tagger: tagger.predict(None), "the picture is NoneType; expected its path"),
        (lambda tagger: tagger.tags({"red": 0.5}), "expected a probability of every label"),
        (lambda tagger: tagger.best({"red": 0.5}, 1.5), "count 1.5: expected a whole number"),
        (lambda tagger: tagger.best([0.5], 1), "best: received list; expected what predict gives"),
        (lambda tagger: tagger.predict(np.zeros((8, 8, 3))), r"received float64 \[8, 8, 3\]; expected a uint8 RGB"),
        (lambda tagger: tagger.engine.preprocess([[0, 0, 0]]), "received list; expected a uint8 RGB picture"),
        (lambda _: open_tagger(3), "the bundle is int; expected its path"),
        (lambda _: Tagger.from_pretrained(None), "the folder or repository is NoneType; expected its path"),
        (lambda tagger: open_tagger(tagger.engine.bundle, threads="2"), "threads '2': expected a whole number"),
    ],
)
def test_what_a_program_gives_wrongly_is_told(call, said, onnx_bundle):
    with open_tagger(onnx_bundle) as tagger, pytest.raises(InputError, match=said):
        call(tagger)


def test_tags_obey_thresholds_and_come_most_probable_first(onnx_bundle, tmp_path):
    plain = Decisions.plain(onnx_bundle.labels.names)
    decisions = plain.model_copy(update={"thresholds": (0.9, 0.2, 0.5, 0.5, 0.5)})
    fields = {"kind": "onnx", "precision": "fp32", "model": "model.onnx", "decisions": decisions}
    with derived_bundle(onnx_bundle, tmp_path / "bundle", **fields) as folder:
        (folder / "model.onnx").write_bytes(onnx_bundle.model_path.read_bytes())
    with open_tagger(tmp_path / "bundle") as tagger:
        names = tagger.engine.labels.names
        assert tagger.tags(dict(zip(names, (0.89, 0.2, 0.5, 0.499, 0.8), strict=True))) == [
            names[4],
            names[2],
            names[1],
        ]
    with open_tagger(onnx_bundle) as tagger:
        assert tagger.thresholds.tolist() == [0.5] * 5


def test_what_else_a_program_keeps_beside_the_probabilities_is_no_fault(onnx_bundle):
    with open_tagger(onnx_bundle) as tagger:
        names = tagger.engine.labels.names
        given = dict.fromkeys(names, 0.9) | {"file": "a.jpg"}
        assert tagger.tags(given) == list(names)


@pytest.mark.parametrize("wrong", [float("nan"), 50, 1.01, -0.1, "0.5", None, np.zeros(2)])
def test_what_is_no_probability_is_no_answer(onnx_bundle, wrong):
    with open_tagger(onnx_bundle) as tagger:
        names = tagger.engine.labels.names
        given = dict.fromkeys(names, 0.5) | {names[1]: wrong}
        for method in (tagger.tags, lambda given: tagger.best(given, 2)):
            with pytest.raises(InputError, match=f"'{names[1]}' is .*; expected probabilities, numbers from 0 to 1"):
                method(given)
        assert tagger.best(dict.fromkeys(names, np.float32(1)), 1) == {names[0]: 1}


def test_bad_pictures_are_named(onnx_bundle, splits, tmp_path):
    half = tmp_path / "half.jpg"
    half.write_bytes(splits.test.paths[0].read_bytes()[:400])
    with open_tagger(onnx_bundle) as tagger:
        with pytest.raises(InputError, match=r"half\.jpg: truncated"):
            tagger.predict(half)
        with pytest.raises(InputError, match=r"absent\.jpg: cannot be read"):
            tagger.predict(tmp_path / "absent.jpg")
        with pytest.raises(
            InputError, match=r"the picture is 'a\\x00b\.jpg' \(embedded null byte\); expected its path"
        ):
            tagger.predict("a\0b.jpg")
        with pytest.raises(InputError, match="the picture is a text of 5,000 characters; expected its path"):
            tagger.predict("a" * 5000)
        with pytest.raises(InputError, match=r"received float64 \[8, 8, 3\]"):
            tagger.predict(np.zeros((8, 8, 3)))


@pytest.fixture(scope="module")
def overflowing(onnx_bundle, tmp_path_factory) -> Bundle:
    """An engine that gives the logarithm of its logits: numbers where every label is shown, and else NaN."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (pip install 'edgepress[quantize]')")
    model = onnx.load(str(onnx_bundle.model_path))
    (last,) = (node for node in model.graph.node if "logits" in node.output)
    last.output[list(last.output).index("logits")] = "before"
    model.graph.node.append(onnx.helper.make_node("Log", ["before"], ["logits"], "overflow"))
    path = tmp_path_factory.mktemp("overflowing") / "bundle"
    with derived_bundle(onnx_bundle, path, kind="onnx", precision="fp32", model="model.onnx") as folder:
        onnx.save(model, folder / "model.onnx")
    return Bundle.open(path)


def test_an_answer_that_is_no_number_is_an_error_of_its_picture(overflowing, splits):
    everything, *others = splits.test.paths
    with open_tagger(overflowing, unproven=True) as tagger:  # the golden check would refuse it
        assert set(tagger.predict(everything)) == set(overflowing.labels)
        with pytest.raises(NoNumberError, match=r"[1-5] of the 5 logits that bundle gives are NaN") as caught:
            tagger.predict(others[0])
        assert str(caught.value).startswith(f"{others[0]}: ")
        coming = pictures([everything, *others[:1]], tagger.engine.preprocess)
        answers = dict(tagger.stream(coming))
    assert isinstance(answers[str(everything)], dict)
    for path in others[:1]:
        assert isinstance(answers[str(path)], NoNumberError)
        assert str(path) in str(answers[str(path)])


def test_predict_and_bench_stop_where_answers_are_no_numbers(overflowing, edgepress, splits):
    everything, other = splits.test.paths[:2]
    answer = edgepress("predict", overflowing.path, everything, other, "--json", "--unproven")
    assert answer.code == 2
    first, second = (json.loads(line, parse_constant=pytest.fail) for line in answer.out.splitlines())
    assert set(first) == {"file", "tags", "probabilities"}
    assert "NaN or infinite" in second["error"]
    plain = edgepress("predict", overflowing.path, other, "--unproven")
    assert (plain.code, plain.out) == (2, "")
    assert "take another engine" in plain.err
    timed = edgepress("bench", overflowing.path, "--seconds", "0.1", "--unproven")
    assert timed.code == 2
    assert "picture 1 of those that are timed" in timed.err


def test_predict_on_the_command_line(onnx_bundle, edgepress, splits):
    pictures = splits.test.paths[:3]
    lines = edgepress("predict", onnx_bundle.path, *pictures).out.splitlines()
    assert [line.split()[0] for line in lines] == [str(path) for path in pictures]
    answer = edgepress("predict", onnx_bundle.path, *pictures, "--json")
    rows = [json.loads(line) for line in answer.out.splitlines()]
    with open_tagger(onnx_bundle) as tagger:
        for row, path in zip(rows, pictures, strict=True):
            assert row["probabilities"] == pytest.approx(tagger.predict(path), abs=1e-5)


def test_inspect_prints_the_manifest(build, edgepress):
    bundle: Bundle = build("onnx-int8-onnxruntime")
    answer = edgepress("inspect", bundle.path, "--json")
    assert answer.code == 0
    assert answer.json["digest"] == bundle.digest
    assert answer.json["calibration"]["pictures"] == 16
    assert answer.json["labels"] == list(bundle.labels)


def test_doctor_names_every_backend(edgepress):
    answer = edgepress("doctor", "--json")
    backends = {row["name"]: row for row in answer.json["backends"]}
    assert backends.keys() >= {"torch", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx"}
    assert backends["onnxruntime"]["works"]
    assert all(row["works"] or row["detail"] for row in backends.values())


def test_tags_do_not_contradict_the_label_groups(onnx_bundle, splits, tmp_path):
    groups = LabelGroups(one_of=(("red", "green", "blue"),), implies={"bars": ("circle",)})
    decisions = Decisions.plain(onnx_bundle.labels.names, groups=groups)
    with open_tagger(rewrite_bundle(onnx_bundle, tmp_path / "grouped", decisions=decisions)) as tagger:
        for path in splits.test.paths:
            probabilities = tagger.predict(path)
            assert sum(probabilities[name] for name in ("red", "green", "blue")) == pytest.approx(1)
            assert probabilities["circle"] >= probabilities["bars"]
            tags = set(tagger.tags(probabilities))
            assert len(tags & {"red", "green", "blue"}) == 1
            assert "circle" in tags or "bars" not in tags
