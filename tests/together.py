"""Which files of tests one process of `pytest -n 2` runs, because they share what is slow to make.

`make test` runs two processes, and each makes its session's fixtures for itself: the smallest run from pictures to
report (tests/edgepress/conftest.py), the engines of a small student (tests/conftest.py), what TensorRT's engines are
built from (tests/deploy/build/conftest.py), a student of two processes (tests/conftest.py), and an sshd with a run to
take there (tests/edgepress/remote/conftest.py). The files that use one of them are handed out as one piece of work, so
that it is made once; every other file is a piece of its own.
"""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

PIECES = {
    "engines": (
        "tests/deploy/bench/",
        "tests/deploy/build/test_export.py",
        "tests/deploy/build/test_deepstream.py",
        "tests/deploy/build/test_free_size.py",
        "tests/deploy/build/test_golden_pictures.py",
        "tests/deploy/build/test_handoff.py",
        "tests/deploy/build/test_huggingface.py",
        "tests/deploy/build/test_litert.py",
        "tests/deploy/build/test_model_api.py",
        "tests/deploy/build/test_ncnn.py",
        "tests/deploy/build/test_ovms.py",
        "tests/deploy/build/test_triton.py",
        "tests/deploy/demo/",
        "tests/deploy/engines/",
        "tests/deploy/machine/test_energy.py",
        "tests/deploy/tag/",
        "tests/deploy/verify/",
        "tests/edgepress/run/test_build_decisions.py",
        "tests/edgepress/run/test_quantize.py",
        "tests/test_callers.py",
        "tests/test_nasty_pictures.py",
    ),
    "launched": ("tests/test_cluster.py", "tests/compress/test_stored_launched.py"),
    "remote": ("tests/edgepress/remote/",),
    "tensorrt": ("tests/deploy/build/test_tensorrt", "tests/deploy/build/test_timing_cache.py"),
    "run": (
        "tests/edgepress/cli/",
        "tests/edgepress/report/",
        "tests/edgepress/run/test_answers.py",
        "tests/edgepress/run/test_build_changed.py",
        "tests/edgepress/run/test_evidence.py",
        "tests/edgepress/run/test_finetune.py",
        "tests/edgepress/run/test_judge.py",
        "tests/edgepress/run/test_latency_budget.py",
        "tests/edgepress/run/test_layouts.py",
        "tests/edgepress/run/test_pipeline.py",
        "tests/edgepress/run/test_pipeline_groups.py",
        "tests/edgepress/run/test_pipeline_teachers.py",
        "tests/edgepress/run/test_teachers.py",
        "tests/edgepress/run/test_prove.py",
        "tests/edgepress/run/test_run_report.py",
    ),
}


class Together(LoadScopeScheduling):
    """Hands out pieces of work, the one with the most tests first."""

    def _split_scope(self, nodeid: str) -> str:
        """The name of a test's piece of work."""
        file = nodeid.split("::")[0]
        shared = (piece for piece, files in PIECES.items() if file.startswith(files))
        return next(shared, file)
