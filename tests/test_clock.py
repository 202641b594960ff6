"""A clock that jumps: nothing that is decided or measured asks what time it is."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
ASKED = {"time", "time_ns", "now", "utcnow", "today", "st_mtime", "st_mtime_ns", "st_ctime", "getmtime", "getctime"}
TOLD = {
    "multilabel/bundle.py": {"now"},  # `created`, for people
    "deploy/bench/latency.py": {"now"},  # `when`, for people
    # Whether a file is as it was and at rest, and which cache is the oldest; a jump has files read again at most.
    "multilabel/known_hashes.py": {"time", "st_mtime", "st_mtime_ns", "st_ctime"},
    "multilabel/datasets/mirror.py": {"st_mtime_ns"},  # whether a copy is as it was written; else it is copied again
    "multilabel/shards.py": {"st_mtime_ns"},  # whether a picture is the same; a jump has shards written again at most
}


def asked(file: Path) -> set[str]:
    """What of the wall clock, or of the times of files, a module asks for."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr in ASKED:
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            found |= {name.name for name in node.names} & ASKED
    return found


def test_only_what_is_shown_to_people_is_read_from_the_wall_clock():
    rooms = ("multilabel", "compress", "calibration", "deploy", "edgepress")
    files = [file for room in rooms for file in (ROOT / room).rglob("*.py")]
    assert len(files) > 100
    assert {file.relative_to(ROOT).as_posix(): names for file in files if (names := asked(file))} == TOLD


def test_a_clock_that_is_asked_is_seen(tmp_path):
    (tmp_path / "a.py").write_text("import time, os\nage = time.time() - os.stat('b').st_mtime\n")
    (tmp_path / "b.py").write_text("from time import time_ns, monotonic\nimport time\ntime.perf_counter()\n")
    assert asked(tmp_path / "a.py") == {"time", "st_mtime"}
    assert asked(tmp_path / "b.py") == {"time_ns"}
