"""What a message of the command line advises: the choices of a missing option, another verb, another option."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed; the tests make their engines from a model of it")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("quantize", "onnx-fp32", "--data", "d"), "'--target': One of onnxruntime, openvino, litert, ncnn, tensorrt"),
        (("compile", "onnx-fp32"), "'--engine': onnx-fp16, openvino-fp32,"),
        (("calibrate", "onnx-fp32"), "'--data': The data set's folder, or a URL of shards ("),
    ],
)
def test_a_missing_option_is_told_with_what_it_takes(bad, arguments, said):
    assert f"Missing option {said}" in bad(*arguments)


def test_a_data_set_without_its_option_is_told_which_it_is(bad, data):
    assert f"unexpected extra argument(s) ({data}); a data set is named by --data {data}" in bad("run", data)


def test_the_folder_that_is_too_many_is_named_and_no_other(bad, onnx_bundle, data):
    assert f"({data}); a data set is named by --data {data} (" in bad("verify", onnx_bundle.path, data)
    for given in ((onnx_bundle.path, data), (data, onnx_bundle.path)):
        line = bad("distill", *given, "--out", "x")
        assert f"({given[1]}); the data set alone is named so, and a teacher by --teacher {onnx_bundle.path}" in line


def test_what_is_exported_already_is_told_of_the_layouts(bad, onnx_bundle, data, tmp_path):
    line = bad("export", onnx_bundle.path, "--data", data, "--out", tmp_path / "out")
    assert "a bundle of kind onnx is exported already; expected a student (torch), or for another program" in line
    assert "--layout LAYOUT --out DIR, of triton, ovms, " in line


def test_a_file_that_cannot_be_written_is_told_before_the_work(bad, onnx_bundle, tmp_path):
    assert "is a folder; expected a file in it" in bad("bench", onnx_bundle.path, "--save", tmp_path)
    line = bad("bench", onnx_bundle.path, "--save", tmp_path / "new" / "record.json")
    assert f"--save {tmp_path / 'new' / 'record.json'}: {tmp_path / 'new'} is no folder" in line
    assert not (tmp_path / "new").exists()


def test_a_report_is_asked_for_by_its_runs_folder(bad, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "report.json").write_text("{}")
    assert f"is a file; give the folder of the run: {tmp_path / 'a'}" in bad("report", tmp_path / "a" / "report.json")
    assert f"expected one of the runs in it: {tmp_path / 'a'} (" in bad("report", tmp_path)


@pytest.mark.parametrize(
    ("engine", "target", "then"),
    [
        ("openvino-int8", "openvino", False),
        ("onnx-int8-onnxruntime", "onnxruntime", False),
        ("tensorrt-int8", "tensorrt", True),
    ],
)
def test_int8_is_not_compiled_but_quantised(bad, onnx_bundle, tmp_path, engine, target, then):
    line = bad("compile", onnx_bundle.path, "--engine", engine, "--out", tmp_path / "new")
    assert f"`edgepress quantize {onnx_bundle.path} --data FOLDER --target {target}` makes it" in line
    assert ("edgepress compile GRAPH --engine tensorrt" in line) == then
    assert not (tmp_path / "new").exists()


def test_another_order_of_labels_names_the_file_to_change(bad, onnx_bundle, data, tmp_path):
    listing = data / "labels.txt"
    first, *rest = listing.read_text().split()
    listing.write_text("\n".join([*rest, first]))
    line = bad("calibrate", onnx_bundle.path, "--data", data, "--out", tmp_path / "new")
    assert "same names, other order, first at 1:" in line
    assert line.endswith(f"give {listing} the order of the bundle {onnx_bundle.path}")


def test_labels_with_few_pictures_and_those_that_are_never_answered_are_told(edgepress, onnx_bundle, data, tmp_path):
    listing = data / "val" / "metadata.jsonl"
    rows = [json.loads(line) for line in listing.read_text().splitlines()]
    for place, row in enumerate(rows):  # one picture in two, whatever it shows, so that no precision of 1 is reached
        row["labels"] = [name for name in row["labels"] if name != "red"] + (["red"] if place % 2 else [])
    listing.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "new"
    answer = edgepress("calibrate", onnx_bundle.path, "--data", data, "--out", out, "--thresholds", "precision=1")
    assert answer.code == 0, answer.err
    (few,) = [line for line in answer.err.splitlines() if "fewer than 10 positive pictures in val" in line]
    assert "caution: 5 of 5 labels" in few
    silent = set(json.loads((Path(out) / "manifest.json").read_text())["decisions"]["fit"]["unreached"])
    assert "red" in silent
    rows = {cells[0]: cells for line in answer.out.splitlines() if (cells := line.split())}
    assert {name for name in silent if "never" in rows[name]} == silent
    assert "1.000" not in rows["red"][2]
