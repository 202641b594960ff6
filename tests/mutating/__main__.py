"""python -m tests.mutating [--children 1] [--sample 400] [--record FILE]: do the tests see a change of what they test?

Runs mutmut, which changes one operator, number, name, argument, string or branch of a function at a time and runs the
tests that reach that function; `[tool.mutmut]` of pyproject.toml says of which modules and by which tests. Prints a row
a module; exit code 1 where a group is below 85 %, or unfinished. Nothing that was asked is asked again, so a run that
was interrupted goes on; where a test file has changed, only what survived is asked again. Without ./mutants all is.

All takes hours. With --sample so many are asked, drawn over all modules by the hash of their names, so that a larger
sample holds the smaller one; the share that is killed is printed with its 95 % interval, and no module is judged.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edgepress.deploy.machine.device import describe_machine
from edgepress.multilabel.binomial import share_interval

GROUPS = {
    "losses": "edgepress/compress/losses/*.py",
    "metrics": "edgepress/multilabel/metrics.py",
    "quantise": "edgepress/calibration/int8/q*.py",
    "bundle": "edgepress/multilabel/bundle.py",
}
LEAST = 85.0
"""Percent of a group's mutants that must be killed."""
BATCH = 40
"""Mutants of a sample that mutmut is given at once; what an interrupted batch had found is asked again."""
FOLDER = Path("mutants")
_ASKED = FOLDER / "tests.sha256"
_OUTCOMES = {
    1: "killed",
    3: "killed",
    0: "survived",
    5: "survived",  # no test reaches it
    33: "survived",
    36: "timed out",
    24: "timed out",
    -24: "timed out",
    152: "timed out",
    255: "timed out",
    -9: "timed out",
    None: "unasked",
}
"""By the exit code that mutmut keeps; any other is a process that a mutant ended, and killed."""


def main() -> None:
    """Run, count, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--children", type=int, default=1, help="mutants that are run at once")
    parser.add_argument("--sample", type=int, help="ask so many mutants instead of all")
    parser.add_argument("--record", type=Path, help="write the counts there, as JSON")
    options = parser.parse_args()
    ask_survivors_again()
    if options.sample:
        sys.exit(ask_sample(options.sample, options.children, options.record))
    ask([], options.children)
    modules = {file: count(file) for file in sorted(_results())}
    groups = {
        name: sum((counts for file, counts in modules.items() if fnmatch.fnmatch(file, pattern)), Counter())
        for name, pattern in GROUPS.items()
    }
    rows = modules | groups
    print(f"\n{'':40}{'mutants':>9}{'killed':>9}{'survived':>9}{'timed out':>10}{'percent':>9}")
    for name, counts in rows.items():
        columns = f"{counts.total():9}{counts['killed']:9}{counts['survived']:9}{counts['timed out']:10}"
        print(f"{name:40}{columns}{percent(counts):9.1f}" + (", unfinished" if counts["unasked"] else ""))
    if options.record:
        described_groups = {name: described(counts) for name, counts in groups.items()}
        described_modules = {name: described(counts) for name, counts in modules.items()}
        write(options.record, {"groups": described_groups, "modules": described_modules})
    sys.exit(any(percent(counts) < LEAST or counts["unasked"] for counts in groups.values()))


def ask(names: Sequence[str], children: int) -> None:
    """Run mutmut on mutants by name, or on all that were not asked.

    Raises:
        SystemExit: mutmut failed.
    """
    mutmut = Path(sys.executable).with_name("mutmut")
    ended = subprocess.run([mutmut, "run", "--max-children", str(children), *names], check=False)
    if ended.returncode:
        raise SystemExit(f"mutmut ended with exit code {ended.returncode}")


def ask_sample(size: int, children: int, record: Path | None) -> int:
    """Ask a sample, print and record what became of it, and give the exit code."""
    if not _results():
        ask(["*.metrics.*__mutmut_1"], children)  # mutmut makes all mutants before it asks these few
    codes = {name: code for kept in _results().values() for name, code in kept["exit_code_by_key"].items()}
    drawn = sorted(codes, key=lambda name: hashlib.sha256(name.encode()).digest())[:size]
    unasked = [name for name in drawn if codes[name] is None]
    for first in range(0, len(unasked), BATCH):
        ask(unasked[first : first + BATCH], children)
    codes = {name: code for kept in _results().values() for name, code in kept["exit_code_by_key"].items()}
    counts = Counter(outcome(codes[name]) for name in drawn)
    seen = counts["killed"] + counts["timed out"]
    low, high = (round(100 * float(end), 1) for end in share_interval(seen, len(drawn)))
    print(f"\n{seen} of {len(drawn)} mutants drawn from {len(codes)} were killed: {percent(counts):.1f} %", end=", ")
    print(f"95 % interval {low} to {high} %\nsurvived:")
    print(*(name for name in drawn if outcome(codes[name]) == "survived"), sep="\n")
    if record:
        write(record, {"mutants": len(codes), "sample": described(counts) | {"percent_95": [low, high]}})
    return int(percent(counts) < LEAST or counts["unasked"] > 0)


def write(record: Path, counted: dict[str, Any]) -> None:
    """Write what was counted, with when and where."""
    measured = {
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": asdict(describe_machine()),
        "mutmut": version("mutmut"),
    }
    record.write_text(json.dumps(measured | counted, indent=2) + "\n", encoding="utf-8")


def ask_survivors_again() -> None:
    """Forget what survived other tests than these."""
    digest = hashlib.sha256()
    for file in sorted(Path("tests").rglob("*.py")):
        digest.update(file.read_bytes())
    if _ASKED.is_file() and _ASKED.read_text() != digest.hexdigest():
        for file, meta in _results().items():
            codes = meta["exit_code_by_key"]
            meta["exit_code_by_key"] = {
                name: code if outcome(code) == "killed" else None for name, code in codes.items()
            }
            (FOLDER / f"{file}.meta").write_text(json.dumps(meta))
        # Which test reaches which function: mutmut looks only at names of tests, and they may do something else now.
        (FOLDER / "mutmut-stats.json").unlink(missing_ok=True)
    FOLDER.mkdir(exist_ok=True)
    _ASKED.write_text(digest.hexdigest())


def outcome(code: int | None) -> str:
    """What became of a mutant."""
    return _OUTCOMES.get(code, "killed")


def count(file: str) -> Counter[str]:
    """How many mutants of a module had which outcome."""
    return Counter(outcome(code) for code in _results()[file]["exit_code_by_key"].values())


def percent(counts: Counter[str]) -> float:
    """Share of the mutants that the tests saw: a mutant that never ends is seen."""
    return 100 * (counts["killed"] + counts["timed out"]) / max(counts.total(), 1)


def described(counts: Counter[str]) -> dict[str, float]:
    """For the record."""
    return {"mutants": counts.total(), **dict(sorted(counts.items())), "percent": round(percent(counts), 1)}


def _results() -> dict[str, dict]:
    """What mutmut keeps of each module that has mutants."""
    found = {}
    for meta in FOLDER.rglob("*.py.meta"):
        kept = json.loads(meta.read_text())
        if kept["exit_code_by_key"]:
            found[meta.relative_to(FOLDER).with_suffix("").as_posix()] = kept
    return found


if __name__ == "__main__":
    main()
