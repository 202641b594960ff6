"""The rule of the rooms: imports point down only, and a device needs neither torch nor timm nor onnx.

Tested on the sources' syntax trees, and in an environment that holds the base install and one runtime.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("multilabel", "compress", "calibration", "deploy", "edgepress")
BELOW = {
    "multilabel": set(),
    "compress": {"multilabel"},
    "calibration": {"multilabel"},
    "deploy": {"multilabel"},
    "edgepress": {"multilabel", "compress", "calibration", "deploy"},
}
EXPORTERS = {"deploy/build/export.py", "deploy/build/module.py", "deploy/build/traced.py"}
TORCH_FILES = {*EXPORTERS, "deploy/engines/torch.py"}
"""The only files of deploy/ that may import torch and compress."""
TORCH = {"torch", "torchvision", "timm"}
TORCH_ASKED = {"deploy/machine/device.py"}
"""Asks torch, inside a function, what it sees here: `edgepress doctor`."""
LAZY = {
    *("onnx", "onnxruntime", "openvino", "nncf", "sympy", "tensorrt", "tensorrt_rtx", "cuda"),
    *("ai_edge_litert", "litert_quantizer", "onnx2tf", "ncnn", "pnnx"),
    *("gradio", "fastapi", "starlette", "uvicorn"),
    *("optuna", "fsspec", "s3fs"),
}
"""Runtimes and tools that need not be installed: imported inside functions, but for the exporters, which need onnx."""


def imports(source: str) -> Iterator[tuple[str, bool, int]]:
    """Every import of a source: its room or top-level package, whether it runs when the module is imported, line."""

    def reached(module: str) -> str:
        first, *rest = module.split(".")
        if first == "edgepress":
            return rest[0] if rest and rest[0] in ROOMS else first
        return f"{first} outside edgepress" if first in ROOMS else first

    def walk(node: ast.AST, at_once: bool) -> Iterator[tuple[str, bool, int]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for name in child.names:
                    yield reached(name.name), at_once, child.lineno
            elif isinstance(child, ast.ImportFrom):
                if child.level:
                    yield ".", at_once, child.lineno
                elif child.module == "edgepress":  # `from edgepress import deploy` reaches a room as well
                    yield from ((reached(f"edgepress.{name.name}"), at_once, child.lineno) for name in child.names)
                else:
                    yield reached(child.module or ""), at_once, child.lineno
            elif not is_type_checking(child):
                inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from walk(child, at_once and not inside)

    yield from walk(ast.parse(source), True)


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def violations(file: str, source: str) -> list[str]:
    """What a file, named from the root, imports against the rule."""
    room = file.split("/")[0]
    found = []
    for name, at_once, line in imports(source):
        allowed = BELOW[room] | {room} | ({"compress"} if file in TORCH_FILES else set())
        torch_allowed = room == "compress" or file in TORCH_FILES or (file in TORCH_ASKED and not at_once)
        if name == ".":
            found.append(f"{file}:{line} imports relatively: the room it reaches cannot be read off")
        elif (
            (name in ROOMS and name not in allowed)
            or name.endswith(" outside edgepress")
            or (name in TORCH and not torch_allowed)
        ):
            found.append(f"{file}:{line} imports {name}")
        elif name in LAZY and at_once and file not in EXPORTERS:
            found.append(f"{file}:{line} imports {name} when it is imported")
    return found


SOURCES = sorted(str(path.relative_to(ROOT).as_posix()) for room in ROOMS for path in (ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("file", SOURCES)
def test_imports_point_down_only(file):
    assert violations(file, (ROOT / file).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("file", "source", "found"),
    [
        ("multilabel/metrics.py", "import edgepress.deploy.verify", 1),
        ("multilabel/metrics.py", "from edgepress import deploy", 1),
        ("multilabel/metrics.py", "import deploy.verify", 1),
        ("multilabel/metrics.py", "def f():\n    from edgepress.compress import models", 1),
        ("compress/models.py", "from edgepress.run.recipe import Recipe", 1),
        ("compress/models.py", "from edgepress import open_engine", 1),
        ("calibration/int8/quantize.py", "def f():\n    import edgepress.compress", 1),
        ("calibration/int8/quantize.py", "import onnx\nimport nncf.quantization", 2),
        ("calibration/int8/subset.py", "class A:\n    import onnxruntime", 1),
        ("deploy/verify/verification.py", "try:\n    import torch\nexcept ImportError:\n    torch = None", 1),
        ("deploy/engines/openvino.py", "if True:\n    import openvino as ov", 1),
        ("deploy/tag/tagger.py", "def f():\n    import timm", 1),
        ("deploy/tag/tagger.py", "from . import engines", 1),
        ("deploy/machine/device.py", "import torch", 1),
        ("deploy/build/export.py", "import edgepress", 1),
        ("edgepress/cli/main.py", "import torch, onnxruntime", 2),
        ("deploy/tag/tagger.py", "from deploy.engines import open_engine", 1),
        ("deploy/build/export.py", "import onnx, torch\nfrom edgepress.compress.models import MultiLabelModel", 0),
        ("deploy/machine/device.py", "def f():\n    import torch", 0),
        ("deploy/build/tensorrt.py", "def f():\n    import tensorrt\n    from cuda.bindings import runtime", 0),
        ("compress/models.py", "import torch, timm\nfrom edgepress.multilabel.labels import LabelSpace", 0),
        (
            "edgepress/run/build.py",
            "from edgepress.calibration.int8.quantize import quantize\nfrom edgepress.deploy.build.compile import IR",
            0,
        ),
    ],
)
def test_the_rule_finds_what_is_planted(file, source, found):
    assert len(violations(file, source)) == found


@pytest.mark.parametrize("room", ["multilabel", "calibration", "deploy", "edgepress"])
def test_importing_a_room_loads_no_heavy_package(room):
    modules = [
        "edgepress." + file.removeprefix("edgepress/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for file in SOURCES
        if file.startswith(f"{room}/") and file not in TORCH_FILES and not file.endswith("__main__.py")
    ]
    code = f"import importlib, sys\nfor name in {modules}: importlib.import_module(name)\n"
    code += f"print(sorted({TORCH | LAZY} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def device_python() -> str:
    """A Python 3.10, as on the oldest device, where one really runs; else this one."""
    found = shutil.which("python3.10")
    if found:
        version = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
        if version.returncode == 0 and version.stdout.startswith("Python 3.10"):
            return found
    return sys.executable


DEVICE_PYTHON = device_python()
DEVICE = "python3.10" if sys.executable != DEVICE_PYTHON else f"python{sys.version_info[0]}.{sys.version_info[1]}"


class DeviceWithOnnxRuntime:
    """A fresh virtual environment with the base install and onnxruntime, and nothing of this one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        source = root / "source"  # a build leaves folders behind; the working tree is spared them
        for name in (*ROOMS, "pyproject.toml", "README.md", "LICENSE"):
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
            elif (ROOT / name).is_file():
                source.mkdir(exist_ok=True)
                shutil.copyfile(ROOT / name, source / name)
        subprocess.run([DEVICE_PYTHON, "-m", "venv", root / "venv"], check=True, capture_output=True)
        self.python = root / "venv" / "bin" / "python"
        pip = [self.python, "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"]
        done = subprocess.run([*pip, str(source), "onnxruntime"], capture_output=True, text=True, check=False)
        if done.returncode and "Could not find a version" in done.stderr + done.stdout:
            pytest.skip(f"no package index is reached from here: {done.stderr.strip().splitlines()[-1]}")
        assert done.returncode == 0, done.stderr

    def run(self, *command: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        arguments = [str(part) for part in command]
        return subprocess.run(
            arguments, cwd=cwd or self.root, env=environment, capture_output=True, text=True, check=False, timeout=120
        )

    def edgepress(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return self.run(self.python.with_name("edgepress"), *arguments)


@pytest.fixture(scope="module")
def device(tmp_path_factory) -> DeviceWithOnnxRuntime:
    return DeviceWithOnnxRuntime(tmp_path_factory.mktemp("device"))


@pytest.fixture(scope="module")
def finished(tiny_data, tmp_path_factory) -> Path:
    """A finished fp32 ONNX bundle, made here, where torch is."""
    torch = pytest.importorskip("torch", reason="torch is not installed; the bundle for the device is made with it")
    from edgepress.compress.config import ModelConfig
    from edgepress.compress.models import make_model
    from edgepress.deploy.build.export import export_onnx
    from edgepress.multilabel.datasets import load_dataset

    data = load_dataset(tiny_data, "test")
    torch.manual_seed(0)
    model, _ = make_model(ModelConfig(backbone="test_efficientnet", width=32, size=64, weights="none"), data.labels)
    images = torch.from_numpy(np.stack([model.preprocess.load(path) for path in data.paths]))
    with torch.no_grad():
        for _ in range(20):
            model.train().logits(images)
    return export_onnx(model.eval(), data, tmp_path_factory.mktemp("bundles") / "onnx-fp32", identity="x").path


@pytest.mark.parametrize("python", [DEVICE])
class TestDeviceWithBaseAndOnnxRuntimeOnly:
    def test_torch_timm_and_onnx_are_absent(self, device, python):
        code = (
            "import importlib.util as u, sys; print(sys.version_info[:2], [n for n in sys.argv[1:] if u.find_spec(n)])"
        )
        absent = ("torch", "torchvision", "timm", "accelerate", "safetensors", "onnx", "openvino", "nncf")
        found = device.run(device.python, "-c", code, *absent)
        assert found.stdout.split("[")[1].strip() == "]", found
        assert found.stdout.startswith("(" + python.removeprefix("python").replace(".", ", "))

    @pytest.mark.parametrize(
        "command",
        [
            ["-m", "edgepress", "--version"],
            ["-m", "edgepress", "verify", "--help"],
            ["-c", "from edgepress import bench, load_dataset, open_engine, open_tagger, verify"],
            ["-c", "from edgepress.deploy.engines import open_engine; from edgepress.cli.main import main"],
        ],
    )
    def test_a_folder_s_own_packages_are_not_taken_for_ours(self, device, python, command, tmp_path):
        for name in ("deploy", "compress", "calibration", "multilabel", "tests"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "__init__.py").write_text("raise RuntimeError('somebody else's package')\n")
        done = device.run(device.python, *command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        script = device.run(device.python.with_name("edgepress"), "doctor", "--json", cwd=tmp_path)
        assert json.loads(script.stdout)["usable"]
        received = device.run(device.python, "-m", "edgepress.remote.receive", "verify", "bundle", cwd=tmp_path)
        assert received.returncode == 2, received.stderr  # nothing was sent
        assert "Traceback" not in received.stderr

    def test_its_types_are_installed(self, device, python):
        code = "import edgepress, pathlib; print((pathlib.Path(edgepress.__file__).parent / 'py.typed').is_file())"
        assert device.run(device.python, "-c", code).stdout.strip() == "True"

    def test_predict(self, device, python, finished, tiny_data):
        pictures = sorted((tiny_data / "test").glob("*.jpg"))[:2]
        done = device.edgepress("predict", finished, *pictures, "--json")
        assert done.returncode == 0, done.stderr
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        from edgepress.deploy.tag.tagger import open_tagger

        with open_tagger(finished) as tagger:
            for row, picture in zip(rows, pictures, strict=True):
                assert row["probabilities"] == pytest.approx(tagger.predict(picture), abs=1e-3)

    def test_verify(self, device, python, finished, tiny_data):
        done = device.edgepress("verify", finished, "--data", tiny_data, "--split", "test", "--json")
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert (result["verdict"], result["num_images"]) == ("pass", 12)
        assert result["max_abs_diff"] < 1e-3

    def test_bench(self, device, python, finished):
        done = device.edgepress("bench", finished, "--seconds", "0.2", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["cells"][0]["model"]["calls"] >= 100

    def test_inspect(self, device, python, finished):
        done = device.edgepress("inspect", finished)
        assert done.returncode == 0, done.stderr
        assert "test_efficientnet" in done.stdout

    def test_doctor(self, device, python):
        done = device.edgepress("doctor", "--json")
        assert done.returncode == 0, done.stderr
        backends = {row["name"]: row for row in json.loads(done.stdout)["backends"]}
        assert backends["onnxruntime"]["works"]
        assert not backends["torch"]["works"]
        assert "edgepress[train]" in backends["torch"]["detail"]

    @pytest.mark.parametrize("verb", ["", "run", "verify", "demo"])
    def test_every_help_works(self, device, python, verb):
        done = device.edgepress(*([verb] if verb else []), "--help")
        assert done.returncode == 0, done.stderr
        assert "Usage" in done.stdout

    def test_teach_names_the_extra_in_one_line(self, device, python, tiny_data):
        done = device.edgepress("teach", tiny_data, "--out", "teacher")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1
        assert "edgepress[train]" in done.stderr
        assert "pip install 'edgepress[train]'" in done.stderr
        assert not (device.root / "teacher").exists()

    def test_quantize_names_the_extra_in_one_line(self, device, python, finished, tiny_data):
        done = device.edgepress("quantize", finished, "--data", tiny_data, "--target", "onnxruntime")
        assert done.returncode == 2
        assert done.stderr.strip().splitlines()[-1].endswith("(pip install 'edgepress[quantize]')")
        assert not (finished.parent / "onnx-int8-onnxruntime").exists()

    def test_demo_names_the_extra_in_one_line_and_draws_without_it(self, device, python, finished):
        done = device.edgepress("demo", finished)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.strip().splitlines()[-1].endswith("(pip install 'edgepress[demo]')")
        code = "import sys, cv2, numpy as np\n"
        code += "film = cv2.VideoWriter(sys.argv[1], cv2.VideoWriter.fourcc(*'MJPG'), 10, (96, 96))\n"
        code += "for value in range(5): film.write(np.full((96, 96, 3), 40 * value, np.uint8))"
        assert device.run(device.python, "-c", code, "film.avi").returncode == 0
        done = device.edgepress("demo", finished, "--video", "film.avi", "--out", "out.avi")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("5 frames, ")
        assert (device.root / "out.avi").stat().st_size > 0

    def test_time_from_start_to_first_answer(self, device, python, finished, tiny_data, capsys):
        """Measured and printed, not judged: a shared machine says nothing of a device's second."""
        code = "import sys; from edgepress import open_tagger; print(open_tagger(sys.argv[1]).predict(sys.argv[2]))"
        picture = tiny_data / "test" / "00000.jpg"
        seconds = []
        for _ in range(3):
            started = time.perf_counter()
            done = device.run(device.python, "-c", code, finished, picture)
            seconds.append(time.perf_counter() - started)
            assert done.returncode == 0, done.stderr
            assert set(ast.literal_eval(done.stdout)) == set((tiny_data / "labels.txt").read_text().split())
        with capsys.disabled():
            runs = ", ".join(f"{value:.2f}" for value in seconds)
            print(f"\n{python}: from process start to first answer: {runs} s")
