"""The public interface: every name is there, its page is that of the docstrings, and every example runs."""

from __future__ import annotations

import doctest
import importlib
import inspect
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import edgepress

ROOT = Path(__file__).resolve().parents[2]
FUNCTIONS = ["export", "open_tagger", "open_engine", "load_dataset", "verify", "bench"]


def test_every_name_is_there_and_others_are_told_what_is():
    assert all(getattr(edgepress, name) is not None for name in edgepress.__all__)
    assert set(edgepress.__all__) <= set(dir(edgepress))
    with pytest.raises(AttributeError, match="has no attribute 'open_tager'; it has Bundle"):
        _ = edgepress.open_tager


def test_importing_it_loads_nothing_heavy():
    code = (
        "import sys, edgepress; print([n for n in ('numpy', 'cv2', 'torch', 'pydantic', 'typer') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_page_is_that_of_the_docstrings():
    page = runpy.run_path(str(ROOT / "docs" / "make_api.py"))["page"]()
    assert (ROOT / "docs" / "api.md").read_text(encoding="utf-8") == page, "run make api"


def test_what_only_edgepress_asks_of_a_class_is_not_on_the_page():
    ours = runpy.run_path(str(ROOT / "docs" / "make_api.py"))["OURS"]
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    for described, names in ours.items():
        section = page.partition(f"## {described}\n")[2].partition("\n## ")[0]
        assert section
        for name in names:
            assert name in vars(getattr(edgepress, described))
            assert f"`{name}" not in section


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_has_an_example(name):
    assert inspect.isfunction(getattr(edgepress, name))
    assert "Example:" in getattr(edgepress, name).__doc__


def test_the_examples_name_every_public_function():
    functions = [name for name in edgepress.__all__ if inspect.isfunction(getattr(edgepress, name))]
    assert sorted(functions) == sorted(FUNCTIONS)


@pytest.mark.parametrize("name", [*FUNCTIONS, None])
def test_the_example_runs(name, onnx_bundle, tiny_data, tmp_path, monkeypatch):
    shutil.copytree(onnx_bundle.path, tmp_path / "runs" / "mine" / "onnx-fp32")
    (tmp_path / "my-pictures").symlink_to(tiny_data)
    shutil.copyfile(next((tiny_data / "test").glob("*.jpg")), tmp_path / "beach.jpg")
    monkeypatch.chdir(tmp_path)
    thing = getattr(edgepress, name) if name else edgepress
    module = importlib.import_module(thing.__module__) if name else edgepress
    finder = doctest.DocTestFinder(recurse=False)
    found = [test for test in finder.find(thing, name, module, globs={}) if test.examples]
    assert found
    for test in found:
        assert doctest.DocTestRunner().run(test).failed == 0
