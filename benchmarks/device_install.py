"""What a device needs for LiteRT's and for ncnn's engines: megabytes, imports, and the time to a first answer.

    .venv/bin/python -m benchmarks.device_install RUN --into FOLDER

RUN is a folder with bundles by the names of the table of engines. Each runtime gets a fresh virtual environment in
FOLDER, first with the runtime and what it needs alone, then with edgepress and its extra, which brings OpenCV. Prints
one JSON object for each runtime: what lies in site-packages before and after, in MB, and for each engine of RUN, in
processes of their own, the seconds from the start of a process to its first answer by the clock and of processor time,
and the packages that it has imported then. Files are as the system keeps them in memory: the first process reads what
pip has just written.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import time
import venv
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgepress.deploy.engines.table import ENGINES, LITERT, NCNN
from edgepress.deploy.machine.device import describe_machine
from edgepress.deploy.machine.state import disturbances, read_state

ROOT = Path(__file__).parent.parent
STARTS = 9
ABSENT = ("torch", "tensorflow", "jax", "onnx", "onnxruntime", "timm")
"""What a device must not need."""
_ANSWER = """
import sys
from pathlib import Path
import numpy as np
from edgepress import open_engine

with open_engine(sys.argv[1], threads=1) as engine:
    size = engine.bundle.preprocess.size
    engine(np.zeros((1, size, size, 3), np.uint8))
files = {name.partition(".")[0]: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
print(" ".join(sorted(name for name, file in files.items() if file and "site-packages" in file)))
"""


def main() -> None:
    """Measure both runtimes and print an object for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--into", type=Path, required=True, help="a folder for the environments; it is made")
    options = parser.parse_args()
    for runtime in (LITERT, NCNN):
        before = read_state()
        place = options.into / runtime.kind
        venv.create(place, with_pip=True, clear=True)
        started = {"when": datetime.now(timezone.utc).isoformat(timespec="seconds"), "runtime": runtime.name}
        pip(place, runtime.packages[0])
        alone = megabytes(place)
        pip(place, f"{ROOT}[{runtime.extra}]")
        found = {"alone_mb": alone, "with_edgepress_mb": megabytes(place)}
        names = [name for name, spec in ENGINES.items() if spec.runtime is runtime and (options.run / name).is_dir()]
        answers = {name: first_answers(place, options.run / name) for name in names}
        print(
            json.dumps(
                {
                    **started,
                    "machine": asdict(describe_machine()),
                    **found,
                    "engines": answers,
                    "cautions": disturbances(before, read_state()),
                }
            ),
            flush=True,
        )


def pip(place: Path, *what: str) -> None:
    # Compiled modules count as pip writes them by default.
    command = [str(place / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", *what]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def megabytes(place: Path) -> dict[str, float]:
    """MB in site-packages: the whole, and every entry of at least one."""
    (packages,) = place.glob("lib/python3*/site-packages")
    sizes = {entry.name: size_of(entry) for entry in packages.iterdir()}
    shown = {name: round(size / 1e6, 1) for name, size in sorted(sizes.items()) if size >= 1e6}
    return {"all": round(sum(sizes.values()) / 1e6, 1), **shown}


def size_of(entry: Path) -> int:
    files = [entry] if entry.is_file() else [file for file in entry.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def first_answers(place: Path, bundle: Path) -> dict[str, Any]:
    """Seconds to a first answer, and what was imported for it.

    Raises:
        RuntimeError: something is imported that a device must not need.
    """
    clock, processor, imported = [], [], ""
    for _ in range(STARTS):
        used, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        command = [str(place / "bin" / "python"), "-c", _ANSWER, str(bundle.absolute())]
        imported = subprocess.run(
            command, check=True, capture_output=True, text=True, cwd=place, env={"PATH": "/usr/bin:/bin"}
        ).stdout
        clock.append(time.perf_counter() - started)
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor.append(now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime)
    packages = imported.split()
    if wrong := sorted(set(ABSENT) & set(packages)):
        raise RuntimeError(f"{bundle}: its engine imports {', '.join(wrong)}")
    return {
        "first_s": round(clock[0], 2),
        "median_s": round(sorted(clock)[STARTS // 2], 2),
        "least_s": round(min(clock), 2),
        "processor_s": round(sorted(processor)[STARTS // 2], 2),
        "imports": packages,
    }


if __name__ == "__main__":
    main()
