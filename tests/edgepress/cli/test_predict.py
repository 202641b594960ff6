"""predict: every picture an answer in order, in three forms, whatever is broken, named oddly or piped away."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edgepress.cli.predict import _csv, _writer
from edgepress.deploy.tag.tagger import open_tagger
from edgepress.multilabel.errors import InputError


@pytest.fixture(scope="module")
def onnx(run_folder: Path) -> Path:
    return run_folder / "onnx-fp32"


@pytest.fixture
def test_pictures(data: Path) -> list[Path]:
    return sorted((data / "test").glob("*.jpg"))


def test_a_folder_is_answered_as_each_picture_alone(edgepress, onnx, data, test_pictures):
    answer = edgepress("predict", onnx, data / "test", "--json", "--batch", "5")
    assert answer.code == 0, answer.err
    rows = [json.loads(line) for line in answer.out.splitlines()]
    assert [row["file"] for row in rows] == [str(path) for path in test_pictures]
    with open_tagger(onnx) as tagger:
        for row, path in zip(rows, test_pictures, strict=True):
            alone = tagger.predict(path)
            assert row["probabilities"] == pytest.approx(alone, abs=1e-5)
            assert row["tags"] == tagger.tags(row["probabilities"])


def test_a_table_for_other_programs(edgepress, onnx, data, test_pictures):
    (data / "test" / "00002.jpg").write_bytes(b"not a picture")
    answer = edgepress("predict", onnx, data / "test", "--csv")
    assert answer.code == 0
    header, *rows = csv.reader(io.StringIO(answer.out))
    with open_tagger(onnx) as tagger:
        names = list(tagger.engine.labels.names)
        assert header == ["file", "labels", *names, "error"]
        for row, path in zip(rows, test_pictures, strict=True):
            assert row[0] == str(path)
            if path.name == "00002.jpg":
                assert row[1:-1] == [""] * (1 + len(names))
                assert "not a picture" in row[-1]
            else:
                probabilities = tagger.predict(path)
                assert [float(value) for value in row[2:-1]] == pytest.approx(list(probabilities.values()), abs=1e-5)
                assert row[1] == "|".join(tagger.tags(probabilities))
                assert row[-1] == ""


@pytest.mark.parametrize("top", [None, 2])
@pytest.mark.parametrize(("labels", "cell"), [(("a", "b"), "a|b"), (("a|b", "é"), '["a|b", "é"]')])
def test_tags_with_a_bar_in_their_names_can_be_told_apart(capsys, top, labels, cell):
    _writer(labels, top, as_csv=True, as_json=False)("x.jpg", list(labels), dict.fromkeys(labels, 0.5))
    header, row = csv.reader(io.StringIO(capsys.readouterr().out))
    assert dict(zip(header, row, strict=True))["labels"] == cell


def test_what_is_broken_is_told_at_the_end_and_stops_nothing(edgepress, onnx, data, test_pictures):
    (data / "test" / "00002.jpg").write_bytes(test_pictures[2].read_bytes()[:300])
    answer = edgepress("--quiet", "predict", onnx, data / "test", "absent.jpg")
    assert answer.code == 0
    assert [line.split("  ")[0] for line in answer.out.splitlines()] == [
        str(path) for path in test_pictures if path.name != "00002.jpg"
    ]
    first, second = answer.err.splitlines()
    assert "00002.jpg: truncated" in first
    assert "absent.jpg: cannot be read" in second


def test_strict_stops_at_the_first(edgepress, onnx, data, test_pictures):
    (data / "test" / "00002.jpg").write_bytes(b"not a picture")
    answer = edgepress("--quiet", "predict", onnx, data / "test", "--strict", "--json")
    assert answer.code == 2
    assert len(answer.out.splitlines()) == 2
    assert answer.err.count("\n") == 1
    assert "00002.jpg" in answer.err


def test_of_many_broken_ones_the_rest_are_counted(edgepress, onnx):
    answer = edgepress("--quiet", "predict", onnx, *(f"absent{number}.jpg" for number in range(1050)))
    assert answer.code == 2
    lines = answer.err.splitlines()
    assert len(lines) == 21
    assert lines[-1] == "edgepress: and 1,030 more that have no answer"


def test_a_name_with_a_newline_or_without_text_is_one_line(edgepress, onnx, tmp_path, test_pictures):
    names = ["new\nline.jpg", os.fsdecode(b"caf\xe9.jpg"), "schön, «quoted».jpg"]
    folder = tmp_path / "odd"
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(test_pictures[0].read_bytes())
    plain = edgepress("predict", onnx, folder)
    assert plain.code == 0, plain.err
    assert len(plain.out.splitlines()) == 3
    rows = [json.loads(line) for line in edgepress("predict", onnx, folder, "--json").out.splitlines()]
    assert {row["file"] for row in rows} == {str(folder / name) for name in names}
    table = list(csv.reader(io.StringIO(edgepress("predict", onnx, folder, "--csv").out)))
    assert {row[0] for row in table[1:]} >= {str(folder / names[0]), str(folder / names[2])}


def test_one_form_at_a_time(bad, onnx):
    assert "--csv and --json" in bad("predict", onnx, "x.jpg", "--csv", "--json")
    assert "above 0" in bad("predict", onnx, "x.jpg", "--every", "0")


def command(onnx: Path, *arguments: object) -> list[str]:
    return [sys.executable, "-m", "edgepress", "--quiet", "predict", str(onnx), *map(str, arguments)]


def test_pictures_and_paths_over_stdin(onnx, test_pictures):
    paths = subprocess.run(
        command(onnx, "-", "--json"), input=b"\n".join(bytes(path) for path in test_pictures[:3]), capture_output=True
    )
    assert [json.loads(line)["file"] for line in paths.stdout.splitlines()] == [str(p) for p in test_pictures[:3]]
    one = subprocess.run(command(onnx, "-", "--json"), input=test_pictures[0].read_bytes(), capture_output=True)
    assert one.returncode == 0, one.stderr
    assert json.loads(one.stdout)["file"] == "stdin"
    assert json.loads(one.stdout)["tags"] == json.loads(paths.stdout.splitlines()[0])["tags"]


def test_whoever_sends_paths_slowly_gets_each_answer_at_once(onnx, test_pictures, tmp_path):
    """The next path is sent when the last is answered: one that waits for the next would wait for ever."""
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"not a picture")
    with subprocess.Popen(
        command(onnx, "-", "--batch", "1", "--json", "--strict"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        guard = threading.Timer(120, process.kill)
        guard.start()
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        for path in test_pictures[:3]:
            process.stdin.write(bytes(path) + b"\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["file"] == str(path)
        # It ends though its stdin is open, and a thread waits there.
        process.stdin.write(bytes(broken) + b"\n")
        process.stdin.flush()
        assert process.wait() == 2
        guard.cancel()
        (line,) = process.stderr.read().splitlines()
        assert b"broken.jpg: not a picture" in line


def test_who_reads_no_further_is_no_error(onnx, data):
    with subprocess.Popen(
        command(onnx, *[data / "test"] * 200), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_what_a_table_says_of_a_broken_picture_is_text_whatever_its_name(capsys):
    name = os.fsdecode(b"caf\xe9.jpg")
    _csv(("a",), None)(name, [], InputError(f"{name}: not a picture"))
    out = capsys.readouterr().out
    assert out.encode().count(b"\\udce9") == 2


def test_stdin_that_names_nothing_and_a_run_s_folder_say_what_was_expected(bad, onnx, run_folder):
    done = subprocess.run([sys.executable, "-m", "edgepress", "predict", onnx, "-"], input=b"\n", capture_output=True)
    assert done.returncode == 2
    assert b"nothing to tag: stdin named no picture" in done.stderr
    assert "expected one of the bundles in it: onnx-fp32, onnx-int8-onnxruntime" in bad("predict", run_folder, "x.jpg")


def test_no_two_columns_of_a_table_have_one_name(capsys):
    """A label may be called as a column of ours; its own column says so."""
    labels = ("sea", "file", "label file", "error", "labels")
    _csv(labels, None)("beach.jpg", ["sea"], dict.fromkeys(labels, 0.5))
    header, row = csv.reader(io.StringIO(capsys.readouterr().out))
    assert header[:3] == ["file", "labels", "sea"]
    assert header[-1] == "error"
    assert len(set(header)) == len(header) == len(row) == 8
    assert all(label in column for label, column in zip(labels, header[2:], strict=False))


def test_probabilities_that_differ_are_printed_differently(capsys):
    near = {"one": 0.25, "two": 0.25 + 1e-9}
    _csv(("one", "two"), None)("beach.jpg", [], near)
    _, row = csv.reader(io.StringIO(capsys.readouterr().out))
    assert [float(value) for value in row[2:4]] == list(near.values())


def test_only_the_most_probable_labels_are_told(edgepress, bad, onnx_bundle, splits):
    """In three forms: each with the best labels in falling order, and those that are not answered yes in brackets."""
    path = str(splits.test.paths[3])
    with open_tagger(onnx_bundle) as tagger:
        every = tagger.predict(path)
        tags, best = tagger.tags(every), sorted(every, key=lambda name: -every[name])[:3]
        assert list(tagger.best(every, 3)) == best
    asked = ("predict", onnx_bundle.path, path, "--top", "3")
    (line,) = edgepress(*asked).out.splitlines()
    shown = [f"{name} {every[name]:.2f}" if name in tags else f"({name} {every[name]:.2f})" for name in best]
    assert line == f"{path}  {'  '.join(shown)}"
    assert 0 < len(set(best) - set(tags)) < 3
    row = edgepress(*asked, "--json").json
    assert (list(row["probabilities"]), row["tags"]) == (best, tags)
    header, cells = csv.reader(io.StringIO(edgepress(*asked, "--csv").out))
    assert header == [
        "file",
        "labels",
        *(f"{what} {n}" for n in (1, 2, 3) for what in ("label", "probability")),
        "error",
    ]
    assert cells[2::2] == [*best, ""]
    assert "5 labels" in bad("predict", onnx_bundle.path, path, "--top", "6")
