"""What `make arm64` would call a fault, on answers that are made up here; emulation itself is no part of the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepress.multilabel.bundle import Bundle
from tests.arm64.compare import MOST_PIXELS, engine_row, machine_row, shown
from tests.arm64.emulated import Refused, require_tools
from tests.arm64.expected import ENGINES, NAMED, NOT_RUN, PROCESSORS, REFUSED
from tests.deploy.machine.boards import BOARDS

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Folders for the answers of this machine and of an emulated one."""
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    return tmp_path / "here", tmp_path / "there"


class Named:
    """As much of a bundle as is compared: its folder's name and its precision."""

    def __init__(self, name: str, precision: str) -> None:
        self.path = Path(name)
        self.manifest = type("Manifest", (), {"precision": precision})


def answered(folder: Path, name: str, logits: np.ndarray, **changed: Any) -> None:
    ran = {"precision": "f32", "products": {"f32": 3}}
    verified = {"verdict": "pass", "reasons": [], "reason_kinds": [], "cautions": [], "num_images": len(logits)}
    verified |= {"drop_points": 0.0, "ran": ran, **changed}
    (folder / f"{name}.json").write_text(json.dumps({"passport": [], "verify": verified}))
    np.savez(folder / f"{name}.npz", logits=logits, decisions=logits > 0)


LOGITS = np.array([[1.0, -1.0, 2.0], [0.5, -3.0, 4.0]], np.float32)


def compared(folders: tuple[Path, Path], name: str = "onnx-fp32", precision: str = "fp32", board: str = "pi5") -> Any:
    bundle: Bundle = Named(name, precision)  # type: ignore[assignment]
    return engine_row(board, bundle, *folders)


def test_equal_answers_are_no_fault(folders):
    for folder in folders:
        answered(folder, "onnx-fp32", LOGITS)
    row = compared(folders)
    assert (row.verdict, row.difference, row.changed, row.decisions, row.faults) == ("pass", 0, 0, 6, ())
    assert row.processor == "cortex-a76"
    assert shown([], [row])[0].endswith("as expected")


@pytest.mark.parametrize(
    ("logits", "changed", "fault"),
    [
        (LOGITS + 0.1, {}, "a logit differs by 0.1"),
        (-LOGITS, {}, "100.00% of decisions differ"),
        (LOGITS, {"verdict": "fail", "reasons": ["mAP drops"], "reason_kinds": ["drop"]}, "verify: fail: mAP drops"),
        (LOGITS, {"verdict": "unproven", "reasons": ["wide"], "reason_kinds": ["interval"]}, "verify: unproven: wide"),
    ],
)
def test_other_answers_are_a_fault(folders, logits, changed, fault):
    answered(folders[0], "onnx-fp32", LOGITS)
    answered(folders[1], "onnx-fp32", logits, **changed)
    row = compared(folders)
    assert any(one.startswith(fault) for one in row.faults), row.faults
    assert "FAULT" in shown([], [row])[0]


def test_an_interval_that_is_too_wide_here_as_well_is_no_fault(folders):
    for folder in folders:
        answered(folder, "onnx-fp32", LOGITS, verdict="unproven", reasons=["wide"], reason_kinds=["interval"])
    assert compared(folders).faults == ()


def test_what_fails_on_both_is_no_fault_of_the_board(folders):
    for folder in folders:
        answered(folder, "onnx-fp32", LOGITS, verdict="fail", reasons=["mAP drops"], reason_kinds=["drop"])
    assert compared(folders).faults == ()  # it fails on this machine as well, so ARM is not the cause


def test_what_fails_here_and_passes_there_is_no_fault(folders):
    """On few pictures one decision more or less decides, and half precision rounds otherwise on a newer processor."""
    answered(folders[0], "onnx-fp16", LOGITS, verdict="fail", reasons=["OF1 drops"], reason_kinds=["drop"])
    answered(folders[1], "onnx-fp16", LOGITS)
    row = compared(folders, "onnx-fp16")
    assert (row.verdict, row.faults) == ("pass", ())


@pytest.mark.parametrize(
    ("board", "found", "sound"),
    [
        ("pi4", {"not_run": "its first inference fails: take onnx-int8-onnxruntime"}, True),
        ("pi4", {"not_run": "its first inference fails"}, False),  # no remedy
        ("pi5", {"not_run": "its first inference fails: take onnx-int8-onnxruntime"}, False),
        ("pi5", {"not_run": "on this machine it does not answer as where it was made: its logits are 0.3 from"}, True),
        ("pi4", {"not_run": "on this machine it does not answer as where it was made: its logits are 0.3 from"}, False),
        ("pi4", {"ended": -11, "said": ""}, False),
    ],
)
def test_an_engine_that_does_not_run_is_expected_only_where_its_processor_cannot(folders, board, found, sound):
    answered(folders[0], "openvino-int8", LOGITS)
    (folders[1] / "openvino-int8.json").write_text(json.dumps(found))
    row = compared(folders, "openvino-int8", "int8", board)
    assert (row.faults == ()) == sound
    assert row.not_run


def test_an_engine_that_runs_where_it_cannot_is_told(folders):
    for folder in folders:
        answered(folder, "openvino-int8", LOGITS)
    for board in ("pi3", "pi5"):
        assert compared(folders, "openvino-int8", "int8", board).faults == ("runs, which it was not expected to",)


def described(folder: Path, board: str, pixels: np.ndarray, **changed: Any) -> None:
    named, governor, clocks = NAMED[board]
    machine = {"processor": named, "governor": governor, "model": BOARDS[board].model, "cores": 4} | changed
    doctor = {"machine": machine, "usable": True, "cautions": ["no fp16"] if board in ("pi3", "pi4") else []}
    state, key = {"clocks": clocks}, {"processor": machine["processor"]}
    found = {
        "doctor": doctor,
        "state": state,
        "key": key,
        "pictures": 1,
        "pixels": ["decoded a.jpg", "x, grown a.jpg 9"],
    }
    (folder / "machine.json").write_text(json.dumps(found))
    np.savez(folder / "pixels.npz", p0=pixels[0], p1=pixels[1])


PIXELS = np.full((2, 200_000), 7, np.uint8)


@pytest.mark.parametrize("board", PROCESSORS)
def test_a_board_that_is_read_as_it_is_is_no_fault(folders, board):
    for folder in folders:
        described(folder, board, PIXELS)
    assert machine_row(board, *folders).faults == ()


@pytest.mark.parametrize(
    ("kind", "values", "step", "sound"),
    [(0, 1, 1, False), (1, 1, 1, True), (1, 1, 2, False), (1, int(200_000 * MOST_PIXELS) + 1, 1, False)],
)
def test_pixels_may_differ_only_in_scaling_by_one_and_rarely(folders, kind, values, step, sound):
    described(folders[0], "pi5", PIXELS)
    changed = PIXELS.copy()
    changed[kind, :values] += step
    described(folders[1], "pi5", changed)
    assert (machine_row("pi5", *folders).faults == ()) == sound


@pytest.mark.parametrize("changed", [{"processor": "aarch64"}, {"governor": "unknown"}, {"model": None}])
def test_a_board_that_is_read_wrongly_is_a_fault(folders, changed):
    described(folders[0], "pi5", PIXELS)
    described(folders[1], "pi5", PIXELS, **changed)
    assert machine_row("pi5", *folders).faults


def test_a_board_whose_program_ended_is_told(folders):
    described(folders[0], "pi5", PIXELS)
    (folders[1] / "machine.json").write_text(json.dumps({"ended": 139, "said": "Segmentation fault"}))
    with pytest.raises(Refused, match="pi5: what reads the machine ended with 139: Segmentation fault"):
        machine_row("pi5", *folders)


def test_every_cpu_engine_of_a_run_is_asked_on_processors_with_and_without_dot_products():
    assert {"onnx-fp32", "openvino-int8", "litert-int8", "ncnn-fp32"} <= set(ENGINES)
    assert not any(name.startswith(("tensorrt", "torch")) for name in ENGINES)
    assert {BOARDS[name].qemu for name in PROCESSORS} == {"cortex-a53", "cortex-a72", "cortex-a76", "neoverse-v1"}
    assert NAMED.keys() == set(PROCESSORS)
    assert {board for board, _ in NOT_RUN | REFUSED} <= set(PROCESSORS)


def test_an_emulator_that_computes_wrongly_is_refused_with_the_command(monkeypatch):
    monkeypatch.setattr("tests.arm64.emulated.shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr("tests.arm64.emulated.emulator", lambda: "7.2.22")
    with pytest.raises(
        Refused, match=r"qemu 7\.2\.22 computes .*apt-get install -t bookworm-backports qemu-user-static"
    ):
        require_tools()


def test_missing_tools_are_refused_with_the_command(monkeypatch):
    monkeypatch.setattr("tests.arm64.emulated.shutil.which", lambda name: None)
    with pytest.raises(Refused, match="apt-get install --no-install-recommends mmdebstrap qemu-user-static"):
        require_tools()


def test_the_record_has_every_engine_on_every_processor():
    record = json.loads((ROOT / "benchmarks" / "records" / "arm64.json").read_text())
    rows = {(row["board"], row["engine"]): row for row in record["engines"]}
    assert rows.keys() == {(board, engine) for board in PROCESSORS for engine in ENGINES}
    assert [one["named"] for one in record["machines"]] == [NAMED[one["board"]][0] for one in record["machines"]]
    for (_, engine), row in rows.items():
        if row["not_run"] is None and engine.endswith("fp32"):
            assert (row["verdict"], row["changed"], row["faults"]) == ("pass", 0, [])
        if row["not_run"] is not None:
            assert engine in ("openvino-int8", "litert-int8")
