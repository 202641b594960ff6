"""The callers of examples/phones: compiled where there is a compiler for them, and held to golden pictures."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgepress.deploy.engines.golden import Golden

ROOT = Path(__file__).resolve().parents[1]
CALLERS, STUBS = ROOT / "examples/phones", ROOT / "tests/phones"
NCNN = Path(os.environ.get("EDGEPRESS_TEST_NCNN", "/usr"))
"""Where ncnn's headers and library are installed; no package of Debian 12 has them."""


def said(*command: object) -> tuple[int, str]:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def jar(tmp_path_factory) -> Path:
    for program in ("kotlinc", "java"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (Debian's kotlin and default-jre-headless, 90 MB)")
    made = tmp_path_factory.mktemp("kotlin") / "tagger.jar"
    sources = (CALLERS / "Tagger.kt", STUBS / "Interpreter.kt", STUBS / "Main.kt")
    code, text = said("kotlinc", *sources, "-include-runtime", "-d", made)
    assert code == 0, text
    return made


def checked(jar: Path, folder: Path, golden: Golden, answers: np.ndarray, precision: str) -> str:
    """What the caller's check says where LiteRT answers so."""
    golden.save(folder / "golden.npz")
    answers.astype("<f4").tofile(folder / "model")
    code, text = said("java", "-jar", jar, folder / "golden.npz", folder / "model", precision)
    assert code == 0, text
    verdict, read = text.splitlines()[:2]
    count, size = golden.pictures.shape[:2]
    # What it read of the file is what numpy wrote.
    assert read == f"{count} {size} {golden.logits.shape[1]} {golden.pictures.sum()}"
    return verdict


def test_the_kotlin_caller_reads_the_golden_pictures_and_judges_as_edgepress_does(jar, tmp_path):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (8, 16, 16, 3)).astype(np.uint8)
    logits = rng.normal(size=(8, 5)).astype(np.float32)
    answers = logits + rng.normal(scale=0.3, size=logits.shape).astype(np.float32)
    float_one, int8 = Golden(pictures, logits), Golden(pictures, logits, answers)
    assert checked(jar, tmp_path, float_one, logits + 0.04, "fp32") == "agrees"
    assert checked(jar, tmp_path, float_one, logits + 0.06, "fp32").startswith("a logit differs by 0.06")
    assert checked(jar, tmp_path, float_one, logits + 0.06, "fp16") == "agrees"
    assert checked(jar, tmp_path, float_one, logits * np.nan, "fp32") == "a logit is NaN or infinite"
    assert checked(jar, tmp_path, int8, answers, "int8") == "agrees"
    assert checked(jar, tmp_path, int8, answers + 1, "int8").startswith("its logits are ")


def test_the_cpp_caller_is_compiled_and_judges_as_edgepress_does(tmp_path):
    if not (NCNN / "include/ncnn/net.h").exists():
        pytest.skip("ncnn's C++ library is not installed; EDGEPRESS_TEST_NCNN=FOLDER names where it is")
    program, library = tmp_path / "ncnn_caller", NCNN / "lib"
    options = ("-O1", "-std=c++11", "-Wall", "-Wextra", "-Werror", "-isystem", NCNN / "include/ncnn", "-L", library)
    code, text = said("c++", CALLERS / "ncnn_caller.cpp", *options, "-lncnn", "-o", program)
    assert code == 0, text
    # Ten values in, one logit a colour out: the mean over the picture.
    (tmp_path / "m.param").write_text(
        "7767517\n2 2\nInput in0 0 1 in0 0=3 1=4 2=2\nReduction out0 1 1 in0 out0 0=3 1=0 -23303=2,0,1 4=0 5=1\n"
    )
    (tmp_path / "m.bin").write_bytes(b"")
    pictures = np.random.default_rng(0).integers(0, 256, (3, 2, 4, 3)).astype(np.uint8)
    pictures.tofile(tmp_path / "pictures.u8")
    files = (tmp_path / "m.param", tmp_path / "m.bin", tmp_path / "pictures.u8", tmp_path / "logits.f32")
    means = pictures.mean(axis=(1, 2), dtype=np.float32)
    for shift, wanted in ((0.0, 0), (0.04, 0), (0.06, 1), (np.nan, 1)):
        (means + np.float32(shift)).astype("<f4").tofile(files[-1])
        code, text = said(program, *files)
        assert code == wanted, text
        assert text.startswith("3 pictures, 3 labels: ")
    files[-1].write_bytes(b"cut")
    assert said(program, *files)[0] == 2
