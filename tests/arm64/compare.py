"""An engine's and a board's answers under emulation beside this machine's."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgepress.deploy.engines.golden import ALLOWED_DIFF
from edgepress.multilabel.bundle import Bundle
from tests.arm64.emulated import Refused
from tests.arm64.expected import NAMED, NOT_RUN, REFUSED
from tests.deploy.machine.boards import BOARDS

DIFFERENT = "largest difference of a logit, and decisions that differ, are from the answers of the machine `here`"
MOST_CHANGED = {"fp32": 0.001, "fp16": 0.005, "int8": 0.1}
"""Largest share of decisions, by precision, that may differ from this machine's."""
MOST_PIXELS = 1e-5
"""Largest share of values that may differ, by one, after shrinking and growing: OpenCV rounds sums of products, which
ARM fuses and x86 does not."""


@dataclass(frozen=True, kw_only=True)
class EngineRow:
    """One engine on one processor."""

    board: str
    processor: str
    """As qemu calls it."""
    engine: str
    not_run: str | None = None
    """Why it does not run there."""
    verdict: str | None = None
    reasons: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    pictures: int | None = None
    difference: float | None = None
    changed: int | None = None
    decisions: int | None = None
    drop_points: float | None = None
    precision: str | None = None
    products: dict[str, int] | None = None
    products_here: dict[str, int] | None = None
    passport: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class MachineRow:
    """What edgepress reads of one board, and its pixels."""

    board: str
    processor: str
    named: str
    model: str | None
    cores: int
    governor: str
    clocks: str
    usable: bool
    cautions: tuple[str, ...]
    pictures: int
    pixels: dict[str, float]
    """Share of values that differ from this machine's: of decoded pictures, and of those scaled in each way."""
    largest: int
    """Largest difference of a value."""
    faults: tuple[str, ...] = ()


def engine_row(board: str, bundle: Bundle, here: Path, there: Path) -> EngineRow:
    """Compare what `inside.py` wrote into two folders."""
    name, qemu = bundle.path.name, BOARDS[board].qemu or ""
    found, ours = _read(there / f"{name}.json"), _read(here / f"{name}.json")
    if "verify" not in ours:
        return EngineRow(board=board, processor=qemu, engine=name, faults=(f"does not run here: {ours}",))
    expected = (board, name) in NOT_RUN | REFUSED
    if "verify" not in found:
        told = found.get("not_run") or f"ended with {found['ended']}: {found['said']}"
        words = "does not answer as where it was made" if (board, name) in REFUSED else "onnx-int8-onnxruntime"
        sound = expected and words in found.get("not_run", "")
        return EngineRow(board=board, processor=qemu, engine=name, not_run=told, faults=() if sound else (told,))
    faults = ["runs, which it was not expected to"] if expected else []
    verified, (a, b) = found["verify"], (np.load(path / f"{name}.npz") for path in (here, there))
    difference, differs = float(np.abs(a["logits"] - b["logits"]).max()), a["decisions"] != b["decisions"]
    precision = bundle.manifest.precision
    # A part of the split may be too small to pass on; then this machine does not pass either, for the same reasons.
    others = ours["verify"]["verdict"], ours["verify"]["reason_kinds"]
    if verified["verdict"] != "pass" and (verified["verdict"], verified["reason_kinds"]) != others:
        faults.append(f"verify: {verified['verdict']}: {'; '.join(verified['reasons'])}")
    if differs.mean() > MOST_CHANGED[precision]:
        faults.append(f"{differs.mean():.2%} of decisions differ from this machine's")
    if difference > ALLOWED_DIFF.get(precision, np.inf):
        faults.append(f"a logit differs by {difference:.3g} from this machine's")
    return EngineRow(
        board=board,
        processor=qemu,
        engine=name,
        verdict=verified["verdict"],
        reasons=tuple(verified["reasons"]),
        cautions=tuple(one for one in verified["cautions"] if one.startswith("int8")),
        pictures=verified["num_images"],
        difference=difference,
        changed=int(differs.sum()),
        decisions=differs.size,
        drop_points=verified["drop_points"],
        precision=verified["ran"]["precision"],
        products=verified["ran"]["products"],
        products_here=ours["verify"]["ran"]["products"],
        passport=tuple(found["passport"]),
        faults=tuple(faults),
    )


def machine_row(board: str, here: Path, there: Path) -> MachineRow:
    """Compare what `inside.py` wrote into two folders, and with what the board's files say.

    Raises:
        Refused: it ended early under emulation.
    """
    found = _read(there / "machine.json")
    if "doctor" not in found:
        raise Refused(f"{board}: what reads the machine ended with {found['ended']}: {found['said']}")
    doctor, state = found["doctor"], found["state"]
    machine = doctor["machine"]
    shares, largest = _pixels(here, there)
    named, governor, clocks = NAMED[board]
    says = {
        "processor": (machine["processor"], named),
        "governor": (machine["governor"], governor),
        "clocks": (state["clocks"], clocks),
        "model": (machine["model"], BOARDS[board].model),
        "usable": (doctor["usable"], True),
        "key": (found["key"]["processor"], named),
        "fp16": (any("no fp16" in one for one in doctor["cautions"]), board in ("pi3", "pi4")),
    }
    faults = [f"{name}: reads {read!r}, expected {wanted!r}" for name, (read, wanted) in says.items() if read != wanted]
    if shares["decoded"] or max(shares.values()) > MOST_PIXELS or largest > 1:
        faults.append(f"pixels: {shares} of the values differ, by at most {largest}")
    return MachineRow(
        board=board,
        processor=BOARDS[board].qemu or "",
        named=machine["processor"],
        model=machine["model"],
        cores=machine["cores"],
        governor=machine["governor"],
        clocks=state["clocks"],
        usable=doctor["usable"],
        cautions=tuple(doctor["cautions"]),
        pictures=found["pictures"],
        pixels=shares,
        largest=largest,
        faults=tuple(faults),
    )


def _pixels(here: Path, there: Path) -> tuple[dict[str, float], int]:
    """Share of values that differ, by what was done to the pictures, and the largest difference."""
    names = _read(here / "machine.json")["pixels"]
    assert names == _read(there / "machine.json")["pixels"], f"{here} and {there} are of different versions"
    found: dict[str, list[np.ndarray]] = {}
    with np.load(here / "pixels.npz") as ours, np.load(there / "pixels.npz") as theirs:
        for row, name in enumerate(names):
            difference = np.abs(ours[f"p{row}"].astype(int) - theirs[f"p{row}"].astype(int)).ravel()
            kind = " ".join(name.split()[: 1 if name.startswith("decoded") else 2])
            found.setdefault(kind, []).append(difference)
    together = {kind: np.concatenate(parts) for kind, parts in found.items()}
    return {kind: float((one > 0).mean()) for kind, one in together.items()}, max(
        int(o.max()) for o in together.values()
    )


def shown(machines: list[MachineRow], rows: list[EngineRow]) -> list[str]:
    """The table for people."""
    lines = []
    for one in machines:
        differ = ", ".join(f"{kind} {share:.2g}" for kind, share in one.pixels.items() if share) or "none"
        said = "; ".join(one.faults) or "as expected"
        lines.append(
            f"{one.board} ({one.processor}): {one.named}, {one.governor}, {one.clocks}; {one.pictures} pictures, "
            f"share of values that differ: {differ}; {said}"
        )
    for row in rows:
        name = f"{row.board} {row.engine}"
        if row.not_run is not None:
            lines.append(f"{name}: {'FAULT' if row.faults else 'not run, as expected'}: {row.not_run}")
            continue
        ran = ", ".join(f"{count} {precision}" for precision, count in (row.products or {}).items())
        said = f"FAULT: {'; '.join(row.faults)}" if row.faults else "as expected"
        lines.append(
            f"{name}: {row.verdict}, logits differ by {row.difference:.2g}, {row.changed} of {row.decisions} decisions "
            f"changed, products {ran}; {said}"
        )
    return lines


def _read(file: Path) -> dict[str, Any]:
    found = json.loads(file.read_text())
    assert isinstance(found, dict)
    return found
