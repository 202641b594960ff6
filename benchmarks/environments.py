"""Virtual environments with one interpreter or one release each, and what a bundle answers in them.

`benchmarks.versions`, `benchmarks.pythons` and `benchmarks.rtx_releases` make theirs here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
WHEELS = "--only-binary=:all:"
"""Building numpy or OpenCV from their sources takes longer than anybody waits."""
_ANSWER = """
import json, sys, time
import numpy as np
from edgepress.deploy.engines import open_engine
from edgepress.multilabel.datasets import load_dataset
bundle, data, out = sys.argv[1:4]
try:
    with open_engine(bundle, threads=1) as engine:
        pictures = load_dataset(data, "test")
        pixels = np.stack([engine.preprocess(pictures.picture(row)) for row in range(len(pictures))])
        times, parts = [], []
        for at in range(len(pixels)):
            started = time.process_time()  # other processes do not count
            parts.append(engine(pixels[at : at + 1]))
            times.append(time.process_time() - started)
        logits = np.concatenate(parts)
        np.savez(out, logits=logits, decisions=engine.bundle.decisions.decide(logits))
    print(json.dumps({"ms": 1e3 * float(np.median(times))}))
except Exception as error:
    print(json.dumps({"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}))
"""


@dataclass(frozen=True, eq=False)
class Answered:
    """What an engine answered for the test split, or why it did not."""

    error: str | None = None
    ms: float | None = None
    """Median processor time of a call at batch 1, with one thread."""
    logits: np.ndarray | None = None
    decisions: np.ndarray | None = None

    def against(self, other: Answered) -> dict[str, float]:
        """The largest difference of a logit and the number of decisions that differ."""
        if self.logits is None or other.logits is None:
            return {}
        assert self.decisions is not None
        difference = float(np.abs(self.logits - other.logits).max())
        return {"difference": difference, "changed": int(np.sum(self.decisions != other.decisions))}


def make_wheel(into: Path) -> Path:
    """edgepress of this checkout as a wheel, which every environment installs anew."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "--wheel-dir", str(into), str(ROOT)], check=True)
    return max(into.glob("edgepress-*.whl"), key=lambda path: path.stat().st_mtime)


def make_environment(folder: Path, base: Path, wheel: Path | None, packages: Sequence[str]) -> Path | str:
    """The interpreter of an environment with these packages, or why they cannot be installed.

    Args:
        folder: for the environment, which is kept.
        base: the interpreter that it is made with.
        wheel: edgepress's, or None for an environment without it.
        packages: as pip takes them, with its options.
    """
    python = folder / "bin/python"
    if not (folder / ".complete").exists():
        # Another Python's environment may come without pip (Debian's does), so this one's pip installs into it.
        subprocess.run([str(base), "-m", "venv", "--clear", "--without-pip", str(folder)], check=True)
        if why := install(python, *([str(wheel)] if wheel else []), *packages):
            return why
        (folder / ".complete").touch()
    elif wheel and (why := install(python, "--force-reinstall", "--no-deps", str(wheel))):
        return why
    return python


def install(python: Path, *packages: str) -> str | None:
    """Install packages into an environment; gives the reason where that fails."""
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, *packages], capture_output=True, text=True)
    if done.returncode == 0:
        return None
    return next((line for line in done.stderr.splitlines()[::-1] if line.startswith("ERROR")), "pip failed")


def run_in(python: Path, into: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run an environment's interpreter in a folder that is not the checkout, with a cache of its own for proofs."""
    cache = into / "cache" / python.parent.parent.name
    environment = {"PATH": os.defpath, "XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1", "COLUMNS": "140"}
    return subprocess.run([str(python), *arguments], capture_output=True, text=True, cwd=into, env=environment)


def answered(python: Path | str, bundle: Path, data: Path, into: Path) -> Answered:
    """What a bundle answers for the test split of a data set in an environment."""
    if isinstance(python, str):
        return Answered(error=python)
    out = into / "answers.npz"
    done = run_in(python, into, "-c", _ANSWER, str(bundle.resolve()), str(data.resolve()), str(out))
    if done.returncode:
        return Answered(error=f"ended with {done.returncode}: {' '.join(done.stderr.split())[-200:]}")
    said = json.loads(done.stdout.splitlines()[-1])
    if "error" in said:
        return Answered(error=said["error"])
    with np.load(out, allow_pickle=False) as file:
        return Answered(ms=said["ms"], logits=file["logits"], decisions=file["decisions"])
