"""Bad input: one line that names it, exit code 2, and nothing half-written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from edgepress.multilabel.bundle import MANIFEST, Bundle


@pytest.fixture
def write_recipe(data: Path, tmp_path: Path, micro):
    def write(**changes: object) -> Path:
        file = tmp_path / "recipe.yaml"
        file.write_text(yaml.safe_dump({"data": str(data), "out": str(tmp_path / "run"), **micro, **changes}))
        return file

    return write


def nothing_was_made(folder: Path) -> bool:
    """No bundle, no part of one, no training state."""
    return not list(folder.rglob(MANIFEST)) and not list(folder.rglob("*.partial")) and not list(folder.rglob("*.pt"))


def break_missing(data: Path) -> list[str]:
    (data / "train" / "00003.jpg").unlink()
    return ["train/00003.jpg", "no such file"]


def break_truncated(data: Path) -> list[str]:
    picture = data / "val" / "00005.jpg"
    picture.write_bytes(picture.read_bytes()[:-200])
    return ["val/00005.jpg", "truncated JPEG"]


def break_no_picture(data: Path) -> list[str]:
    (data / "test" / "00002.jpg").write_bytes(b"not a picture")
    return ["test/00002.jpg", "not a picture"]


def break_label(data: Path) -> list[str]:
    with (data / "test" / "metadata.jsonl").open("a") as file:
        file.write(json.dumps({"file_name": "00000.jpg", "labels": ["purple"]}).replace("00000", "./00000") + "\n")
    listing = data / "test" / "metadata.jsonl"
    rows = [json.loads(line) for line in listing.read_text().splitlines()][:-1]
    rows[4]["labels"] = ["red", "purple"]
    listing.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["test/metadata.jsonl, line 5", "'purple' is not in labels.txt"]


def break_empty(data: Path) -> list[str]:
    (data / "val" / "metadata.jsonl").write_text("")
    return ["val/metadata.jsonl", "the split 'val' is empty"]


def break_absent(data: Path) -> list[str]:
    shutil.rmtree(data / "val")
    return ["no split 'val'", "splits here: test, train"]


def break_root(data: Path) -> list[str]:
    shutil.rmtree(data)
    return ["data: no such folder"]


BREAKS = [break_missing, break_truncated, break_no_picture, break_label, break_empty, break_absent, break_root]


@pytest.mark.parametrize("damage", BREAKS)
def test_a_broken_data_set_stops_a_run_before_it_starts(bad, data, tmp_path, write_recipe, damage):
    words = damage(data)
    line = bad("run", "--recipe", write_recipe())
    assert all(word in line for word in words), line
    assert nothing_was_made(tmp_path)


@pytest.mark.parametrize("damage", [break_missing, break_truncated, break_label, break_empty])
def test_and_stops_verify(bad, data, run_folder, damage):
    words = damage(data)
    split = words[0].split("/")[0]
    line = bad("verify", run_folder / "onnx-fp32", "--data", data, "--split", split, "--json")
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"teech": {}}, ["unknown key 'teech'", "did you mean 'teach'", "valid keys: ", "teach, distill"]),
        ({"teach": {"epoch": 3}}, ["unknown key 'teach.epoch'", "valid keys: ", "backbone", "epochs"]),
        ({"engines": ["onnx-fp33"]}, ["engines.0", "'onnx-fp33'", "onnx-fp32"]),
        (
            {"engines": ["onnx-fp32"], "required": ["openvino-int8"]},
            ["not among engines: openvino-int8; expected some of onnx-fp32; or add it to engines"],
        ),
        (
            {"engines": ["onnx-fp32", "onnx-int8-onnxruntime"], "required": ["onnx-int8"]},
            ["expected some of onnx-fp32, onnx-int8-onnxruntime; did you mean 'onnx-int8-onnxruntime'?"],
        ),
        ({"teach": {"epochs": 0}}, ["teach.epochs is 0", "greater than or equal to 1"]),
        ({"teach": {"epochs": "many"}}, ["teach.epochs is 'many'", "integer"]),
        ({"bench": {"seconds": -1}}, ["bench.seconds is -1"]),
        ({"distill": {"review_kd": 0, "simkd": 0}}, ["nothing would be distilled"]),
        ({"ssh_option": ["ProxyCommand=touch bad"]}, ["ssh_option is not taken from a file"]),
        ({"teach": None}, ["teach is None"]),
        ({"teach": {"backbone": "test_efficientnot", "weights": "none"}}, ["'test_efficientnot'", "test_efficientnet"]),
        ({"teach": {"backbone": "test_efficientnet", "weights": "absent.safetensors"}}, ["absent.safetensors"]),
        ({"teacher": "absent"}, ["absent"]),
    ],
)
def test_a_wrong_recipe_is_named(bad, tmp_path, write_recipe, changes, words):
    line = bad("run", "--recipe", write_recipe(**changes))
    assert all(word in line for word in words), line
    assert nothing_was_made(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["recipe.yaml: cannot be read"]),
        ("data: [unclosed", ["recipe.yaml: not YAML"]),
        ("\tdata: x", ["recipe.yaml: not YAML"]),
        ("- a\n- b\n", ["recipe.yaml: holds list; expected keys and values"]),
        ("", ["recipe.yaml", "expected keys and values"]),
        (
            "data: x\nteach: {epochs: 5}\nteach: {lr: 0.1}\n",
            ["line 3 (teach: {lr: 0.1}): the key 'teach' is given twice"],
        ),
        ("data: x\ndistill: {size: 2:40}\n", ["distill.size is '2:40': input should be a valid integer"]),
        ("data: x\nout: ''\n", ["out is '': expected a value"]),
        ("out: x\n", ["no data set given; expected --data DIR, or the key data in", "recipe.yaml"]),
        ("data: !!python/object/apply:os.getcwd []\n", ["recipe.yaml: not YAML"]),
        (b"data: \xff\xfe", ["recipe.yaml: not YAML"]),
    ],
)
def test_a_file_that_is_no_recipe_is_named(bad, tmp_path, content, words):
    file = tmp_path / "recipe.yaml"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    line = bad("run", "--recipe", file)
    assert all(word in line for word in words), line
    assert nothing_was_made(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--epochs", "0"), ["--epochs 0: "]),
        (("--head", "round"), ["--head round: ", "ml_decoder"]),
        (("--backbone", "nosuchnet"), ["'nosuchnet'"]),
        (("--width", "33"), ["--width 33: ", "multiple of 8"]),
        (("--train", "nowhere"), ["no split 'nowhere'", "test, train, val"]),
    ],
)
def test_a_wrong_flag_of_teach_is_named(bad, data, tmp_path, arguments, words):
    line = bad("teach", data, "--out", tmp_path / "teacher", "--weights", "none", *arguments)
    assert all(word in line for word in words), line
    assert nothing_was_made(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("quantize", "BUNDLE", "--data", "DATA", "--target", "toaster"),
            ["'toaster'", "onnxruntime, openvino, litert, ncnn, tensorrt"],
        ),
        (("compile", "BUNDLE", "--engine", "toaster"), ["'toaster'", "onnx-fp16, openvino-fp32"]),
        (("predict", "BUNDLE", "absent.jpg"), ["absent.jpg"]),
        (("predict", "BUNDLE", "--device", "toaster", "absent.jpg"), ["'toaster'", "cpu, cuda"]),
        (("verify", "BUNDLE", "--data", "DATA", "--split", "nowhere"), ["'nowhere'", "test, train, val"]),
        (("bench", "BUNDLE", "--batch", "0"), ["batch is 0"]),
        (("export", "--data", "DATA", "--out", "OUT"), ["nothing to export"]),
        (("export", "--data", "DATA", "--out", "OUT", "--backbone", "resnet18"), ["--weights FILE"]),
        (("export", "--data", "DATA", "--out", "OUT", "--weights", "absent.safetensors"), ["absent.safetensors"]),
    ],
)
def test_a_wrong_value_is_named_with_the_right_ones(bad, data, run_folder, tmp_path, arguments, words):
    places = {"BUNDLE": run_folder / "onnx-fp32", "DATA": data, "OUT": tmp_path / "made"}
    line = bad(*(places.get(part, part) for part in arguments))
    assert all(word in line for word in words), line
    assert nothing_was_made(tmp_path)


def test_a_leak_between_splits_is_named(bad, data, run_folder, tmp_path):
    shutil.copyfile(data / "train" / "00004.jpg", data / "test" / "00009.jpg")
    out = tmp_path / "int8"
    line = bad("quantize", run_folder / "onnx-fp32", "--data", data, "--target", "onnxruntime", "--out", out)
    assert "train/00004.jpg is the same picture as" in line
    assert "test/00009.jpg" in line
    assert nothing_was_made(tmp_path)


@pytest.mark.parametrize("split", ["test", "val"])
def test_decisions_are_not_fitted_on_pictures_that_are_verified(bad, data, run_folder, tmp_path, split):
    """A whole split of them, or one that stands among others."""
    shutil.copyfile(data / "test" / "00004.jpg", data / "val" / "00007.jpg")
    before = Bundle.open(run_folder / "onnx-fp32").digest
    line = bad("calibrate", run_folder / "onnx-fp32", "--data", data, "--split", split, "--out", tmp_path / "new")
    first, count = {"test": ("test/00000.jpg", 12), "val": ("val/00007.jpg", 1)}[split]
    assert f"{first}: one of {count} pictures of the split '{split}' that" in line
    assert "verified" in line
    assert nothing_was_made(tmp_path)
    assert Bundle.open(run_folder / "onnx-fp32").digest == before


@pytest.mark.parametrize(("debug", "traceback"), [([], False), (["--debug"], True)])
def test_debug_shows_where_it_happened(tmp_path, debug, traceback):
    """In a process of its own: nothing but the interpreter prints a traceback."""
    code = "from edgepress.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *debug, "inspect", tmp_path / "absent"],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "absent: no such folder" in done.stderr
    assert ("Traceback" in done.stderr) == traceback
    if not traceback:
        assert (done.returncode, done.stderr.count("\n"), done.stdout) == (2, 1, "")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["teach", "data", "--out", "x", "--epochs", "abc"], "--epochs"),
        (["teach", "data", "--out", "x", "--nosuch", "3"], "--nosuch"),
        (["frob"], "frob"),
        (["verify"], "bundle"),
    ],
)
def test_wrong_usage(edgepress, arguments, named):
    answer = edgepress(*arguments)
    assert answer.code == 2
    assert named in answer.err.lower()
    assert len(answer.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["run", "--data", "nowhere", "--engines", "onx-fp32"], "onnx-fp32"),
        (["run", "--data", "nowhere", "--distill-preset", "l2"], "l2d"),
        (["teach", "nowhere", "--out", "x", "--task-loss", "focl"], "focal"),
        (["data", "nowhere", "--format", "imagefolders"], "imagefolder"),
        (["data", "{data}", "--split", "tset"], "test"),
        (["quantize", "{onnx}", "--data", "nowhere", "--target", "onnx-runtime"], "onnxruntime"),
        (["compile", "{onnx}", "--engine", "openvino-int16"], "openvino-fp16"),
        # The bundle and the data set are looked at afterwards.
        (["compile", "nowhere", "--engine", "onnx-fp61"], "onnx-fp16"),
        (["students", "--engine", "onnx-int8"], "onnx-int8-onnxruntime"),
        (["export", "nowhere", "--data", "nowhere", "--layout", "freesize", "--out", "x"], "free-size"),
        (["verify", "nowhere", "--data", "nowhere", "--as", "androi"], "android"),
        (["bench", "nowhere", "--hint", "latncy"], "latency"),
        (["compare", "--data", "nowhere", "--methods", "alone,revew_kd"], "review_kd"),
        (["distill", "nowhere", "--out", "x", "--teacher-calibration", "plat"], "platt"),
        (["teach", "nowhere", "--out", "x", "--weights", "nonee", "--backbone", "resnet18"], "none"),
    ],
)
def test_a_near_name_is_offered(bad, data, onnx_bundle, arguments, meant):
    given = [argument.format(data=data, onnx=onnx_bundle.path) for argument in arguments]
    assert f"; did you mean {meant!r}?" in bad(*given)


def test_a_near_key_of_a_recipe_is_offered(bad, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("data: nowhere\ntech: {epochs: 3}\n")
    assert "unknown key 'tech'; did you mean 'teach'?" in bad("run", "--recipe", recipe)


def test_lists_are_given_by_commas_or_repeated(bad):
    line = bad("run", "--data", "nowhere", "--engines", "onnx-fp32,onnx-fp16", "--engines", "nonsense")
    assert "--engines nonsense: input should be 'onnx-fp32'" in line


def test_a_wrong_value_is_named_where_it_came_from(bad, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("data: x\nbench: {seconds: -1}\nlatency_budget: soon\n")
    assert "recipe.yaml: bench.seconds is -1: " in bad("run", "--recipe", recipe, "--latency-budget", "8ms")
    assert "edgepress: --latency-budget '8 s': expected milliseconds" in bad(
        *("run", "--recipe", recipe, "--latency-budget", "8 s", "--bench-seconds", "1")
    )


def test_a_file_where_a_folder_is_wanted_is_named(bad, tmp_path, data):
    (tmp_path / "taken").write_text("mine")
    assert "taken" in bad("run", "--data", data, "--out", tmp_path / "taken")


def test_the_version(edgepress):
    assert edgepress("--version").out.startswith("edgepress 0.")
