"""doctor: the board is read from recorded files, and what is missing on it is told with the command that mends it."""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edgepress.deploy.machine import device
from edgepress.deploy.machine.doctor import (
    Board,
    Diagnosis,
    advice,
    diagnose,
    find_board,
    machine_cautions,
    opencvs,
    parse_tegra_release,
)

# Recorded: first lines of /etc/nv_tegra_release as their owners published them (R35 in jetson-containers, R36 and R38
# in notes of an Orin and a Thor, R39 in a tutorial on JetPack 7.2.1).
RECORDED = """\
R32 (release), REVISION: 7.1, GCID: 29689809, BOARD: t186ref, EABI: aarch64, DATE: Wed Feb  2 21:33:23 UTC 2022
R35 (release), REVISION: 3.1, GCID: 32790763, BOARD: t186ref, EABI: aarch64, DATE: Wed Mar 15 07:54:12 UTC 2023
R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025
R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64, DATE: Fri Aug 22 00:55:42 UTC 2025
R39 (release), REVISION: 2.1, GCID: 46758480, BOARD: generic, EABI: aarch64, DATE: Fri Aug 7 05:54:22 AM UTC 2026
""".splitlines()
READ = [((32, 7, 1), None), ((35, 3, 1), 5), ((36, 4, 3), 6), ((38, 2, 0), 7), ((39, 2, 1), 7)]
REST = "\n# KERNEL_VARIANT: oot\nTARGET_USERSPACE_LIB_DIR=nvidia\n"
ORIN = "NVIDIA Jetson AGX Orin Developer Kit\x00"
PI = "Raspberry Pi 5 Model B Rev 1.0\x00"
ALL = frozenset({"onnxruntime", "openvino", "tensorrt", "cuda.bindings"})


def machine(root: Path, release: str | None = None, model: str | None = None, **devices: str) -> Path:
    """A root with the files that a board has; devices are `folder_name` to a vendor."""
    for path, text in (("etc/nv_tegra_release", release), ("proc/device-tree/model", model)):
        if text is not None:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
    for name, vendor in devices.items():
        folder, _, device = name.partition("_")
        (root / "sys/class" / folder / device / "device").mkdir(parents=True)
        (root / "sys/class" / folder / device / "device/vendor").write_text(f"{vendor}\n")
    return root


@pytest.mark.parametrize(("line", "read"), zip(RECORDED, READ, strict=True))
def test_a_recorded_release_is_read(tmp_path, line, read):
    release, jetpack = read
    board = find_board(machine(tmp_path, f"# {line}{REST}", ORIN))
    assert (board.jetson_linux, board.jetpack) == (release, jetpack)
    assert board.model == ORIN[:-1]
    assert f"Jetson Linux {'.'.join(map(str, release))}" in str(board)


@pytest.mark.parametrize("text", ["", "R36", "# R (release), REVISION: 4.3", "# R36 (release)", "\x00" * 100])
def test_what_is_no_release_is_none(text):
    assert parse_tegra_release(text) is None


def test_a_machine_without_such_files_is_no_board(tmp_path):
    board = find_board(tmp_path)
    assert (board.model, board.jetson_linux, board.jetpack) == (None, None, None)
    assert (board.is_raspberry_pi, board.intel_gpu, board.intel_npu) == (False, False, False)
    assert advice(board, ALL, "CPU") == []


@pytest.mark.parametrize("release", [(32, 7, 1), (35, 3, 1), (36, 3, 0)])
def test_a_jetpack_before_tensorrt_10_is_told(release):
    told = advice(Board(model=ORIN, jetson_linux=release), frozenset({"onnxruntime", "cuda.bindings"}))
    assert any("flash JetPack 6.1 or newer" in line for line in told)


@pytest.mark.parametrize(
    ("release", "bindings"), [((36, 4, 3), ">=12.6,<13"), ((38, 2, 0), ">=13,<14"), ((39, 2, 1), ">=13,<14")]
)
def test_a_jetson_is_told_its_packages(release, bindings):
    board = Board(model=ORIN, jetson_linux=release)
    told = " | ".join(advice(board, frozenset({"onnxruntime"})))
    assert "sudo apt install nvidia-jetpack" in told
    assert f"pip install 'cuda-python{bindings}'" in told
    assert ("--system-site-packages" in told) == (sys.prefix != sys.base_prefix)
    assert advice(board, ALL) == []


@pytest.mark.parametrize(
    ("machine_name", "largest", "model", "told"),
    [
        ("armv7l", 2**31 - 1, PI, "a 32-bit system, for which"),
        # What Raspberry Pi OS of 32 bits has run since 2023: its own kernel has 64, and `uname -m` tells the kernel's.
        ("aarch64", 2**31 - 1, PI, "a 32-bit system, though its kernel has 64, for which"),
        ("armv7l", 2**31 - 1, "Hardkernel ODROID-XU4", "install a 64-bit system"),
        ("aarch64", 2**63 - 1, PI, None),
        ("x86_64", 2**63 - 1, None, None),
    ],
)
def test_a_system_of_32_bits_is_told(monkeypatch, tmp_path, machine_name, largest, model, told):
    board = find_board(machine(tmp_path, model=model))
    monkeypatch.setattr(platform, "machine", lambda: machine_name)
    monkeypatch.setattr(sys, "maxsize", largest)
    found = advice(board, ALL)
    assert (found == []) if told is None else (len(found) == 1 and told in found[0])
    if told is not None:
        assert ("64-bit Raspberry Pi OS" in found[0]) == (model == PI)


def test_an_intel_device_that_openvino_does_not_see_is_told(tmp_path):
    board = find_board(machine(tmp_path, drm_renderD128="0x8086", accel_accel0="0x8086"))
    assert (board.intel_gpu, board.intel_npu) == (True, True)
    missing = advice(board, ALL, "2026.4.1; CPU")
    assert ["intel-opencl-icd" in missing[0], "intel-npu-driver" in missing[1], len(missing)] == [True, True, 2]
    assert advice(board, ALL, "2026.4.1; CPU, GPU, NPU") == []
    assert all("edgepress[openvino]" in line for line in advice(board, frozenset({"onnxruntime"})))


def test_another_makers_gpu_is_none_of_intels(tmp_path):
    assert not find_board(machine(tmp_path, drm_renderD128="0x10de")).intel_gpu


def test_without_a_runtime_it_says_what_to_install(tmp_path):
    (line,) = advice(find_board(tmp_path), frozenset({"onnx"}))
    assert "pip install 'edgepress[onnxruntime]'" in line


def test_here_something_works_and_the_exit_code_says_so(edgepress):
    report = diagnose()
    assert report.usable
    answer = edgepress("doctor")
    assert answer.code == 0, answer.err
    for backend in report.backends:
        assert backend.name in answer.out
    for line in report.advice:
        assert line in answer.out


def test_a_diagnosis_is_plain_json_and_is_read_again():
    found = diagnose()
    record = json.loads(json.dumps(found.as_dict()))
    assert list(record) == ["machine", "board", "usable", "backends", "advice", "cautions"]
    assert record["backends"][0].keys() == {"name", "works", "detail"}
    assert Diagnosis.from_dict(record) == found
    del record["cautions"]  # as an earlier version has it
    assert Diagnosis.from_dict({**record, "later": 1}) == replace(found, cautions=())


def test_where_nothing_works_the_exit_code_is_1(edgepress, monkeypatch):
    monkeypatch.setattr("edgepress.deploy.machine.device.importlib.util.find_spec", lambda name: None)
    answer = edgepress("doctor", "--json")
    assert answer.code == 1
    assert not answer.json["usable"]
    assert any("pip install" in line for line in answer.json["advice"])


@pytest.mark.parametrize(
    ("code", "driver", "said"),
    [
        ("cudaErrorInsufficientDriver", None, "no CUDA driver here"),
        ("cudaErrorInsufficientDriver", (12, 6), "newer than the driver's CUDA, 12.6"),
        ("cudaErrorUnknown", (13, 0), "runs nothing here: cudaErrorUnknown"),
        ("cudaSuccess", (13, 0), "runs TensorRT engines on 1 GPU"),
    ],
)
def test_cuda_bindings_are_asked_and_not_only_imported(monkeypatch, code, driver, said):
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
    monkeypatch.setattr(runtime, "cudaGetDeviceCount", lambda: (getattr(runtime.cudaError_t, code), 1))
    monkeypatch.setattr(device, "cuda_driver_version", lambda: driver)
    assert device._cuda() == said


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((8, "x86_64", None, ["onnxruntime 1.32.0"]), []),
        ((7, "x86_64", None, []), ["no VNNI"]),
        ((8, "aarch64", "fp asimd crc32", ["openvino 2026.4.1"]), ["no fp16"]),
        ((8, "aarch64", "fp asimd asimdhp", []), []),
        ((8, "x86_64", None, ["onnxruntime 1.22.1"]), ["fp16 graphs 2.5 to 4.6 times slower"]),
        ((8, "x86_64", None, ["onnxruntime-gpu 1.9.0"]), ["fp16 graphs 2.5 to 4.6 times slower"]),
        ((8, "x86_64", None, ["torch 2.15.0"]), []),
        ((8, "x86_64", None, ["ncnn 1.0.20261020", "opencv-python-headless 5.0.0.93"]), []),
        (
            (8, "x86_64", None, ["opencv-python-headless 4.10.0.84", "opencv-python 4.11.0.86"]),
            ["opencv-python-headless 4.10.0.84 and opencv-python 4.11.0.86 write into one folder"],
        ),
        (
            (8, "x86_64", None, ["onnxruntime 1.32.0", "onnxruntime-gpu 1.32.0", "ncnn 1.0.20261020"]),
            ["onnxruntime 1.32.0 and onnxruntime-gpu 1.32.0 write into one folder"],
        ),
    ],
)
def test_what_works_and_is_not_what_one_takes_it_for_is_cautioned(given, told):
    found = machine_cautions(*given)
    assert len(found) == len(told)
    assert all(text in line for text, line in zip(told, found, strict=True))


def test_the_wheels_of_opencv_are_found_by_their_names(tmp_path, monkeypatch):
    """ncnn's wheels before October 2026 ask for opencv-python, and pip puts it over opencv-python-headless."""
    for name, version in (("opencv_python", "4.11.0.86"), ("opencv_contrib_python", "4.11.0.86")):
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n")
    alone = opencvs()
    monkeypatch.syspath_prepend(tmp_path)
    assert opencvs() == [*alone, "opencv-python 4.11.0.86", "opencv-contrib-python 4.11.0.86"]
    assert len(alone) == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError(2, "No usable temporary directory found in ['/tmp']"), "TMPDIR=FOLDER names one"),
        (
            ImportError("libfoo.so.1: cannot open shared object file"),
            "is installed and fails: libfoo.so.1",
        ),
    ],
)
def test_a_backend_that_fails_is_told_without_the_name_of_an_exception(monkeypatch, error, said):
    def fail(name: str) -> None:
        raise error

    monkeypatch.setattr(device.importlib, "import_module", fail)
    (found,) = (backend for backend in device.check_backends() if backend.name == "onnxruntime")
    assert not found.works
    assert said in found.detail
    assert "Error" not in found.detail
