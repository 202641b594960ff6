"""python -m tests.arm64 RUN [--data FOLDER] [--into FOLDER] [--record FILE]: a run's CPU engines on emulated ARM.

Makes an arm64 system in a folder, runs every CPU engine of a run in it on the processors of a Raspberry Pi 3, 4 and 5
and of a newer server, and compares with this machine: the golden check as it is opened, verify's verdict, logits,
decisions, pixels, and what edgepress reads of the recorded boards. **Emulation proves answers, never times.**

It needs the root user of a Debian with qemu 10 (qemu-user-static) and mmdebstrap, 600 MB and a package registry, and
half an hour beside other work. What is done is kept, so it goes on where it was interrupted; standard error says
how far it is. Prints a line for each engine; exit code 1 where something differs, 2 where something is missing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgepress.deploy.machine.device import describe_machine
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import InputError
from tests.arm64 import inside
from tests.arm64.compare import DIFFERENT, EngineRow, MachineRow, engine_row, machine_row, shown
from tests.arm64.emulated import ROOT, Refused, System, emulator, tell
from tests.arm64.expected import ENGINES, PROCESSORS
from tests.deploy.machine.boards import BOARDS

HERE = Path(__file__).resolve().parent
BUDGET = 5.0
"""Points of mAP that `verify` allows an engine to lose: on so few pictures its interval is this wide. Logits and
decisions, which need no more pictures, have verify's own limits."""
RUNTIMES = ("onnxruntime", "openvino", "ai_edge_litert", "ncnn", "numpy", "opencv_python_headless")


def main() -> int:
    """Build, run, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run's folder, as runs/quickstart")
    parser.add_argument("--data", type=Path, default=Path("examples/clipart-sample"))
    parser.add_argument(
        "--into", type=Path, default=Path(".venv/arm64"), help="folder of the arm64 system, which is kept"
    )
    parser.add_argument("--split", default="test[:5%]", help="what float engines answer")
    parser.add_argument(
        "--int8-split", default="test[:25%]", help="what INT8 engines answer, which is faster and differs more"
    )
    parser.add_argument("--engine", choices=ENGINES, action="append", help="only this one; may be repeated")
    parser.add_argument("--processor", choices=PROCESSORS, action="append", help="only this board's; may be repeated")
    parser.add_argument("--record", type=Path, help="write the record into this file")
    options = parser.parse_args()
    engines, processors = tuple(options.engine or ENGINES), tuple(options.processor or PROCESSORS)
    try:
        for name in engines:
            Bundle.open(options.run / name)
        system = System(options.into)
        system.make()
        check = Check(system, options.run, options.data, {"int8": options.int8_split}, options.split)
        machines = [check.machine(board) for board in processors]
        rows = [row for board in processors for row in check.engines(board, engines)]
    except (Refused, InputError) as error:
        print(error, file=sys.stderr)
        return 2
    for line in shown(machines, rows):
        print(line)
    if options.record is not None:
        text = json.dumps(check.record(machines, rows), indent=1, ensure_ascii=False)
        options.record.write_text(text + "\n", encoding="utf-8")
    return int(any(one.faults for one in (*machines, *rows)))


class Check:
    """The answers of this machine and of emulated ones, each kept in a folder."""

    def __init__(self, system: System, run: Path, data: Path, splits: dict[str, str], split: str) -> None:
        self.system, self.run, self.data, self.splits, self.split = system, run, data, splits, split
        self.pictures = system.folder / "pictures"
        _make_pictures(self.pictures, data)
        self.made = hashlib.sha256(
            b"".join(path.read_bytes() for path in sorted(system.edgepress.rglob("*.py")))
            + (HERE / "inside.py").read_bytes()
            + (ROOT / "constraints.txt").read_bytes()
            + emulator().encode()
            + " ".join(f"{name}={board.qemu}" for name, board in BOARDS.items()).encode()
        ).hexdigest()

    def machine(self, board: str) -> MachineRow:
        """What edgepress reads of a board, and its pixels beside this machine's."""
        for place in (board, "here"):
            self._answer(place, ["machine", "{out}", "{pictures}"], {"machine": self.made})
        return machine_row(board, self._answers("here"), self._answers(board))

    def engines(self, board: str, names: tuple[str, ...]) -> list[EngineRow]:
        """Engines on a board's processor beside this machine; those of one runtime and split share a process."""
        bundles = {name: Bundle.open(self.run / name) for name in names}
        groups: dict[tuple[str, str], list[str]] = {}
        for name, bundle in bundles.items():
            split = self.splits.get(bundle.manifest.precision, self.split)
            groups.setdefault((bundle.manifest.kind, split), []).append(name)
        for (_, split), group in groups.items():
            arguments = ["engines", "{out}", "{data}", split, f"{BUDGET:g}"]
            keys = {name: f"{self.made} {bundles[name].digest} {arguments}" for name in group}
            for place in (board, "here"):
                self._answer(place, arguments, keys)
        here, there = self._answers("here"), self._answers(board)
        return [engine_row(board, bundle, here, there) for bundle in bundles.values()]

    def _answers(self, place: str) -> Path:
        return self.system.folder / "answers" / place

    def _answer(self, place: str, arguments: list[str], keys: dict[str, str]) -> None:
        """Run `inside.py` for what it has not found yet.

        Args:
            keys: what the answers depend on, by the name of the machine's or the engine's file.
        """
        out = self._answers(place)
        out.mkdir(parents=True, exist_ok=True)
        left = [name for name, key in keys.items() if _text(out / f"{name}.key") != key]
        folders = {"out": out, "run": self.run, "data": self.data, "pictures": self.pictures}
        for name in left:
            (out / f"{name}.json").unlink(missing_ok=True)
        while left:
            tell(f"{place}: {', '.join(left)}")
            wanted = [] if left == ["machine"] else [f"{{run}}/{name}" for name in left]
            said = self._run(place, [*arguments, *wanted], folders)
            for name in [name for name in left if (out / f"{name}.json").exists()]:
                (out / f"{name}.key").write_text(keys[name])
                left.remove(name)
            if said is not None and left:  # it ended at the first of those that have no answer
                name = left.pop(0)
                (out / f"{name}.json").write_text(json.dumps(said))
                (out / f"{name}.key").write_text(keys[name])

    def _run(self, place: str, arguments: list[str], folders: dict[str, Path]) -> dict[str, Any] | None:
        """Run `inside.py` here or under emulation; what it said where it ended early."""
        if place == "here":
            inside.main([word.format(**folders) for word in arguments])
            return None
        filled = [word.format(**{name: f"/{name}" for name in folders}) for word in arguments]
        binds = {path: f"/{name}" for name, path in folders.items()} | {HERE: "/arm64"}
        done = self.system.python(place, ["/arm64/inside.py", *filled], binds)
        return {"ended": done.returncode, "said": " ".join(done.stderr.split())[-400:]}

    def record(self, machines: list[MachineRow], rows: list[EngineRow]) -> dict[str, Any]:
        versions = self.system.versions()
        return {
            "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "emulated": "answers are proven here and times are not: this is qemu's user mode",
            "qemu": emulator(),
            "here": asdict(describe_machine()),
            "versions": {name: versions[name] for name in RUNTIMES},
            "edgepress": self.made,
            "run": str(self.run),
            "budget_points": BUDGET,
            "splits": {"float": self.split, **self.splits},
            "differs": DIFFERENT,
            "machines": [asdict(one) for one in machines],
            "engines": [asdict(one) for one in rows],
        }


def _text(file: Path) -> str | None:
    return file.read_text() if file.exists() else None


def _make_pictures(folder: Path, data: Path) -> None:
    """Pictures of every format and depth that edgepress reads, made of the sample's."""
    import cv2

    if folder.exists():
        return
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    files = sorted((data / "test").glob("*.jpg"))[:8]
    for file in files:
        shutil.copy(file, part / file.name)
        picture = cv2.imread(str(file))
        assert picture is not None
        stem, write = str(part / file.stem), _writer(cv2.imwrite)
        write(f"{stem}-progressive.jpg", picture, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
        write(f"{stem}-444.jpg", picture, [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444])
        write(f"{stem}-grey.jpg", cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), [])
        write(f"{stem}.png", picture, [])
        write(f"{stem}-16.png", picture.astype("uint16") * 257, [])
        write(f"{stem}-alpha.png", cv2.cvtColor(picture, cv2.COLOR_BGR2BGRA), [])
        write(f"{stem}.webp", picture, [cv2.IMWRITE_WEBP_QUALITY, 80])
        write(f"{stem}-lossless.webp", picture, [cv2.IMWRITE_WEBP_QUALITY, 101])
        write(f"{stem}.bmp", picture, [])
        write(f"{stem}.tif", picture, [])
        write(f"{stem}.gif", picture, [])
        write(f"{stem}.avif", picture, [])
    part.rename(folder)


def _writer(imwrite: Callable[..., bool]) -> Callable[..., None]:
    def write(path: str, picture: Any, options: list[int]) -> None:
        if not imwrite(path, picture, options):
            raise SystemExit(f"{path}: this OpenCV cannot write it")

    return write


if __name__ == "__main__":
    sys.exit(main())
