"""A bundle that a verb cannot take: one line that names it, exit code 2, and nothing half-written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edgepress.multilabel.bundle import MANIFEST, Bundle, write_bundle
from tests.edgepress.cli.test_main_bad_input import nothing_was_made


@pytest.mark.parametrize("file", ["model.onnx", "reference.npz", MANIFEST])
@pytest.mark.parametrize("verb", ["inspect", "verify", "bench", "predict"])
def test_a_bundle_with_one_changed_byte_is_refused(bad, data, run_folder, tmp_path, file, verb):
    bundle = Path(shutil.copytree(run_folder / "onnx-fp32", tmp_path / "onnx-fp32"))
    content = bytearray((bundle / file).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / file).write_bytes(content)
    more = {"verify": ("--data", data), "predict": (data / "test" / "00000.jpg",)}
    line = bad(verb, bundle, *more.get(verb, ()))
    assert f"onnx-fp32/{file}" in line


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ("distill {onnx} --teacher {data} --out {out}", "distill {data} --teacher {onnx} --out DIR"),
        ("finetune {data} --data {onnx} --out {out}", "finetune {onnx} --data {data} --out DIR"),
        ("export {data} --data {onnx} --out {out}", "export {onnx} --data {data} --out DIR"),
        ("quantize {data} --data {onnx} --target ncnn", "quantize {onnx} --data {data} --target ncnn"),
        ("calibrate {data} --data {onnx} --out {out}", "calibrate {onnx} --data {data} --out DIR"),
        ("verify {data} --data {onnx}", "verify {onnx} --data {data}"),
        ("bench {data} --data {onnx}", "bench {onnx} --data {data}"),
        ("predict {data}/test {onnx}", "predict {onnx} {data}/test"),
        ("answers {data} --data {onnx} --out {out}.npz", "answers {onnx} --data {data} --out FILE"),
    ],
)
def test_swapped_folders_are_told_with_the_right_order(bad, data, onnx_bundle, tmp_path, given, right):
    names = {"data": data, "onnx": onnx_bundle.path, "out": tmp_path / "made"}
    line = bad(*(word.format(**names) for word in given.split()))
    assert f"the two are swapped; expected edgepress {right.format(**names)}" in line


@pytest.mark.parametrize("given", ["compile {student} --engine onnx-fp16", "quantize {student} --data d --target ncnn"])
def test_a_student_that_is_not_exported_is_told_how_it_is(bad, student, given):
    line = bad(*given.format(student=student.path).split())
    assert f"expected onnx; export it first: edgepress export {student.path} --data DIR --out ONNX" in line


def test_a_bundle_that_is_no_data_set_and_pictures_that_are_no_bundle(bad, data, onnx_bundle, tmp_path):
    line = bad("bench", onnx_bundle.path, "--data", onnx_bundle.path)
    assert f"{onnx_bundle.path}: is a bundle and no data set; expected a folder of pictures and their labels" in line
    assert "it holds pictures, which are named by --data" in bad("inspect", data)
    line = bad("distill", data, "--teacher", data / "test", "--out", tmp_path / "made", "--backbone", "resnet18")
    assert "holds pictures and no model" in line


@pytest.mark.parametrize("verb", ["inspect", "verify", "quantize", "compile", "export"])
def test_a_folder_that_is_no_bundle_is_named(bad, data, tmp_path, verb):
    (tmp_path / "folder").mkdir()
    more = {
        "verify": ("--data", data),
        "quantize": ("--data", data, "--target", "onnxruntime"),
        "compile": ("--engine", "onnx-fp16"),
        "export": ("--data", data, "--out", tmp_path / "onnx"),
    }
    line = bad(verb, tmp_path / "folder", *more.get(verb, ()))
    assert "folder: not a finished bundle" in line
    assert nothing_was_made(tmp_path)


def test_a_wrong_kind_of_bundle_is_named(bad, data, run_folder, tmp_path):
    graph = ("distill", data, "--teacher", run_folder / "onnx-fp32", "--out", tmp_path / "s", "--weights", "none")
    line = bad(*graph, "--preset", "review_kd")
    assert "an ONNX graph teaches by its logits, but review_kd needs what is inside it" in line
    line = bad("distill", data, "--teacher", run_folder / "openvino-fp32", "--out", tmp_path / "s", "--weights", "none")
    assert "a bundle of kind openvino; expected a teacher, torch or onnx" in line
    line = bad("compile", run_folder / "student", "--engine", "onnx-fp16")
    assert "a bundle of kind torch; expected onnx" in line
    assert nothing_was_made(tmp_path)


def test_a_persons_folder_is_not_replaced(bad, run_folder, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    line = bad("compile", run_folder / "onnx-fp32", "--engine", "openvino-fp32", "--out", mine)
    assert "mine: a folder with other files in it" in line
    assert (mine / "thesis.txt").read_text() == "years of work"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_bundle_of_another_role_is_not_replaced(bad, data, run_folder, tmp_path):
    """A finished teacher, student or engine stays, and nothing is trained or converted before that is said."""
    kept = {name: Path(shutil.copytree(run_folder / name, tmp_path / name)) for name in ("teacher", "student")}
    onnx = Path(shutil.copytree(run_folder / "onnx-fp32", tmp_path / "onnx-fp32"))
    before = {path: Bundle.open(path).digest for path in (*kept.values(), onnx)}
    (data / "test" / "00000.jpg").unlink()  # `export` would stumble over it
    (data / "val" / "00000.jpg").unlink()
    own = ("--weights", "none", "--backbone", "test_efficientnet", "--epochs", "1")
    distil = ("distill", data, "--teacher", run_folder / "teacher", *own)
    for command, out, words in (
        (("export", run_folder / "student", "--data", data), kept["student"], "a student, and a bundle"),
        (("compile", onnx, "--engine", "onnx-fp16"), onnx, "kind onnx (fp32), and a bundle of kind onnx"),
        (("calibrate", onnx, "--data", data), kept["teacher"], "a teacher, and a bundle of kind onnx"),
    ):
        line = bad(*command, "--out", out)
        assert words in line
        assert "name another folder" in line
    for name in ("test", "val"):
        shutil.copyfile(data / name / "00001.jpg", data / name / "00000.jpg")
    for command, out, words in (
        (("teach", data, *own), kept["student"], "a student, and a teacher"),
        (("teach", data, *own), onnx, "a bundle of kind onnx (fp32), and a teacher"),
        (distil, kept["teacher"], "a teacher, and a student"),
    ):
        assert words in bad(*command, "--out", out)
    assert {path: Bundle.open(path).digest for path in before} == before
    assert not list(tmp_path.glob(".*"))


def test_a_message_of_many_lines_becomes_one(bad, run_folder, tmp_path):
    bundle = Bundle.open(run_folder / "onnx-fp32")
    fields = {"kind": "onnx", "precision": "fp32", "model": "model.onnx", "labels": bundle.manifest.labels}
    with write_bundle(tmp_path / "broken", **fields, preprocess=bundle.preprocess) as folder:
        (folder / "model.onnx").write_bytes(b"no graph")
    assert "cannot load it" in bad("predict", tmp_path / "broken", "x.jpg")


def test_a_run_does_not_begin_inside_a_bundle(bad, recipe, run_folder):
    student = run_folder / "student"
    assert f"{student}: is a bundle; name another folder" in bad("run", "--recipe", recipe, "--out", student)
