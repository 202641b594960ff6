"""tests/ mirrors the rooms: the tests of deploy/build/export.py are tests/deploy/build/test_export.py.

Further tests of the same module are in test_export_<aspect>.py, and those of a package's `__init__` are named for the
package. What belongs to no single module, such as a search for a clock in all sources, is tested beside this file.

No function of a room is longer than `MOST_LINES`.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

import edgepress

TESTS = Path(__file__).parent
ROOT = TESTS.parent
ROOMS = ("multilabel", "compress", "calibration", "deploy", "edgepress")
BESIDE_THE_ROOMS = {
    "test_mirror.py",
    "test_imports.py",
    "test_callers.py",
    "test_clock.py",
    "test_fuzz.py",
    "test_nasty_pictures.py",
    "test_arm64.py",
    "test_phones.py",
    "test_gpu_benchmark.py",
    "test_cluster.py",
    "test_exports.py",
}

VERBS = "edgepress/cli/"
"""A verb's module is tested where its work is, by tests that call the verb by its name."""

TESTED_THROUGH = {
    "calibration/int8/graphs.py": "qdq, equalise, bias and rounding walk graphs by it",
    "calibration/int8/products.py": "the products that test_rounding.py and test_bias.py expect are found by it",
    "calibration/int8/progress.py": "the lines that test_quantize_targets.py expects in the log",
    "calibration/int8/touches.py": "calls equalise, rounding and bias, which have tests of their own",
    "compress/adopt.py": "the verb in test_timm_tagger.py makes bundles by it",
    "compress/losses/checks.py": "the refusals in test_losses_edges.py and test_losses_baselines.py",
    "compress/losses/feature_checks.py": "the refusals in test_losses_baselines.py",
    "compress/material.py": "the refusals in test_distill.py, and what test_training_disturbed.py changes in it",
    "compress/untrained.py": "the students that tests of a latency limit time",
    "deploy/build/foreign_output.py": "the outputs that test_foreign.py and test_wrap.py ask about, take and refuse",
    "deploy/build/front.py": "the graphs that test_adopt.py adopts get their front and their tail from it",
    "deploy/build/own_file.py": "the files that test_adopt.py and test_adopt_bad_input.py adopt, or damage",
    "deploy/engines/cuda_graph.py": "needs a GPU; the calls that it makes are checked in test_engines_settings.py",
    "deploy/verify/graph_cuts.py": "the layers that test_layers.py names are cut by it",
    "edgepress/cli/options.py": "options that the verbs share",
    "edgepress/report/golden.py": "the lines of verify --golden that tests/deploy/verify/test_golden.py reads",
    "edgepress/report/style.py": "the contrast and the layout that test_html.py measures in a browser",
    "edgepress/run/measured.py": "the figures of each student in test_compare.py",
    "edgepress/run/distilling.py": "the students and trials of test_compare.py and test_tune.py",
    "edgepress/report/svg.py": "the plots in test_write.py and test_html.py",
    "multilabel/datasets/columns.py": "the columns of test_csv_table_columns.py and test_tables_generated.py",
    "multilabel/conventions.py": "the words of adopt's options, which tests/deploy/build/test_adopt.py gives",
    "multilabel/datasets/contents.py": "what every reader returns, as the data set that test_dataset.py checks",
    "multilabel/datasets/files.py": "the names that every reader's tests refuse",
    "multilabel/datasets/label_lists.py": "the lists of test_csv_table_cells.py and test_tables_generated.py",
    "multilabel/datasets/named_labels.py": "the pictures and names of test_labelstudio.py, test_vertex.py and others",
    "multilabel/datasets/options.py": "the options that test_csv_table.py gives to load_dataset",
    "multilabel/datasets/table_rows.py": "the rows that test_csv_table.py reads and refuses",
    "multilabel/datasets/unrecognised.py": "the folders of test_folders.py that no reader takes",
    "multilabel/datasets/values.py": "the values in test_csv_table_cells.py, and their counts in test_inspection.py",
    "multilabel/datasets/voc_annotations.py": "the XML of test_voc.py and test_cvat.py",
    "multilabel/datasets/voc_lists.py": "the lists of splits in test_voc.py",
    "multilabel/datasets/unlabelled.py": "the pictures of tests/compress/test_distill_unlabelled.py",
}
"""The modules that no test of their room imports, and where their behaviour is tested."""


MOST_LINES = 60
"""Of a function, with its docstring; one that `edgepress` names has an example there, so it is measured without."""


def modules() -> list[str]:
    """Every module of the five rooms by its path from the root, without `__init__` and `__main__`."""
    own = [path for room in ROOMS for path in (ROOT / room).rglob("*.py") if not path.stem.startswith("__")]
    names = (path.relative_to(ROOT).as_posix() for path in own)
    return sorted(name for name in names if not name.startswith(tuple(f"edgepress/{room}/" for room in ROOMS)))


def files_of_tests() -> list[str]:
    """Every file of tests by its path from tests/."""
    return sorted(path.relative_to(TESTS).as_posix() for path in TESTS.rglob("test_*.py"))


def named_for(test: str) -> str | None:
    """The module, or the package, that a file of tests is named for; the longest name where several fit."""
    folder, aspects = (ROOT / test).parent, Path(test).stem.removeprefix("test_")
    named = [path for path in folder.glob("*.py") if not path.stem.startswith("__")]
    named += [folder / "__init__.py"] if (folder / "__init__.py").is_file() else []
    names = {path: folder.name if path.stem == "__init__" else path.stem for path in named}
    fitting = [path for path, name in names.items() if aspects == name or aspects.startswith(f"{name}_")]
    found = max(fitting, key=lambda path: len(names[path]), default=None)
    return found.relative_to(ROOT).as_posix() if found else None


@cache
def syntax_tree(test: str) -> ast.Module:
    return ast.parse((TESTS / test).read_text(encoding="utf-8"))


def imported_by(test: str) -> set[str]:
    """The modules that a file of tests imports by name, wherever in the file."""
    reached = set()
    for node in ast.walk(syntax_tree(test)):
        if isinstance(node, ast.Import):
            reached |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            reached |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    paths = {name.removeprefix("edgepress.").replace(".", "/") + ".py" for name in reached}
    return paths | {f"edgepress/{path}" for path in paths}


@pytest.mark.parametrize("test", [name for name in files_of_tests() if "/" in name])
def test_a_file_of_tests_is_named_for_a_module_of_the_same_folder(test):
    assert named_for(test), f"no module of {Path(test).parent} has a name that {Path(test).name} begins with"


def test_what_is_beside_the_rooms_is_known():
    assert {name for name in files_of_tests() if "/" not in name} == BESIDE_THE_ROOMS


def called_in(test: str) -> set[str]:
    """The words with which a file of tests calls the command line: a verb is one of them."""
    calls = (node for node in ast.walk(syntax_tree(test)) if isinstance(node, ast.Call))
    words = (
        argument.value
        for call in calls
        if ast.unparse(call.func).split(".")[-1] in ("edgepress", "bad")
        for argument in call.args
        if isinstance(argument, ast.Constant)
    )
    return {word for word in words if isinstance(word, str)}


def reached_by(files: list[str]) -> set[str]:
    """The modules that the tests of their own room are named for, import, or, of a verb, call."""
    found = set()
    for test in files:
        named, imported = named_for(test), imported_by(test)
        found |= {named} if named else set()
        found |= {name for name in imported if name.split("/")[0] == test.split("/")[0]}
        found |= {f"{VERBS}{verb.replace('-', '_')}.py" for verb in called_in(test)}
    return found


def test_every_module_has_tests_or_a_reason():
    without = set(modules()) - reached_by(files_of_tests())
    assert sorted(without - set(TESTED_THROUGH)) == []
    assert sorted(set(TESTED_THROUGH) - without) == []  # gone, or tested by name since


@pytest.mark.parametrize(
    ("test", "module"),
    [
        ("deploy/build/test_export.py", "deploy/build/export.py"),
        ("deploy/build/test_timing_cache_locked.py", "deploy/build/timing_cache.py"),
        ("deploy/engines/test_engines_hostile.py", "deploy/engines/__init__.py"),
        ("deploy/build/test_exports.py", None),
        ("deploy/test_export.py", None),
    ],
)
def test_what_a_file_of_tests_is_named_for(test, module):
    assert named_for(test) == module


def too_long(source: str, public: tuple[str, ...] = ()) -> list[str]:
    """The functions of a source that are longer than `MOST_LINES`, with their lengths.

    Args:
        public: the functions at its top level that are measured without their docstrings.
    """
    found = []
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        assert node.end_lineno is not None
        lines = node.end_lineno - node.lineno + 1
        if node in tree.body and node.name in public and ast.get_docstring(node):
            first = node.body[0]
            assert first.end_lineno is not None
            lines -= first.end_lineno - first.lineno + 1
        if lines > MOST_LINES:
            found.append(f"{node.name}: {lines}")
    return found


@pytest.mark.parametrize("module", modules())
def test_no_function_is_too_long(module):
    own = module.removesuffix(".py").replace("/", ".")
    homes = edgepress._HOMES
    assert too_long((ROOT / module).read_text(encoding="utf-8"), homes.get(own, ())) == []


def test_a_long_function_is_found():
    body = "    x = 1\n" * (MOST_LINES - 2)
    said = '    """One.\n\n    Two.\n    """\n'
    assert too_long(f"def f():\n    x = 1\n{body}") == []
    assert too_long(f"def f():\n{said}{body}") == [f"f: {MOST_LINES + 3}"]
    assert too_long(f"def f():\n{said}{body}", ("f",)) == []
    assert too_long(f"def f():\n{said}{body}{body}", ("f",)) == [f"f: {2 * MOST_LINES - 3}"]
