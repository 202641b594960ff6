"""Which files of tests one process of `pytest -n 2` runs, because they share what is slow to make.

`make test` runs two processes, and each makes its session's fixtures for itself: the smallest run from pictures to
report (tests/edgepress/conftest.py), the engines of a small student (tests/conftest.py), what TensorRT's engines are
built from (tests/deploy/build/conftest.py), what runs in two processes (tests/launched.py, tests/forks.py), and an sshd
with a run to take there (tests/edgepress/remote/conftest.py). The files that use one of them are handed out as one
piece of work, so that it is made once; every other file is a piece of its own.
"""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

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
        "tests/edgepress/run/test_candidates.py",
        "tests/edgepress/run/test_quantize.py",
        "tests/edgepress/test_edgepress_api.py",
        "tests/multilabel/test_bundle_described.py",
        "tests/test_callers.py",
        "tests/test_nasty_pictures.py",
    ),
    "launched": (
        "tests/compress/test_checkpoint_kills.py",
        "tests/compress/test_gather_processes.py",
        "tests/compress/test_stored_launched.py",
        "tests/compress/test_training.py",
        "tests/compress/test_training_launched.py",
        "tests/test_cluster.py",
    ),
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
        "tests/edgepress/run/test_pipeline",
        "tests/edgepress/run/test_teachers.py",
        "tests/edgepress/run/test_prove.py",
        "tests/edgepress/run/test_run_report.py",
    ),
}

LONG = (
    "run",
    "engines",
    "tests/compress/test_distill_pairs.py",
    "launched",
    "remote",
    "tests/calibration/int8/test_quantize.py",
    "tests/multilabel/datasets/test_webdataset_fuzz.py",
    "tests/edgepress/run/test_compare.py",
    "tests/compress/test_fake_quantize.py",
    "tests/test_imports.py",
    "tests/compress/test_tasks.py",
    "tests/deploy/build/test_adopt_engines.py",
    "tests/compress/test_kept.py",
    "tests/edgepress/test_telemetry.py",
    "tests/deploy/build/test_module.py",
    "tests/edgepress/run/test_students.py",
    "tensorrt",
    "tests/edgepress/run/test_ablation.py",
    "tests/compress/test_loader_shared_memory.py",
    "tests/compress/test_training_on_device.py",
    "tests/edgepress/run/test_budgeted.py",
)
"""Pieces that take long for the number of their tests, the longest first. One that begins last keeps one process busy
while the other has nothing left to do."""


class Together(LoadScopeScheduling):
    """Hands out pieces of work: first the long ones, then the one with the most tests."""

    def _assign_work_unit(self, node: WorkerController) -> None:
        long = next((piece for piece in LONG if piece in self.workqueue), None)
        if long is not None:
            self.workqueue.move_to_end(long, last=False)
        super()._assign_work_unit(node)

    def _split_scope(self, nodeid: str) -> str:
        """The name of a test's piece of work."""
        file = nodeid.split("::")[0]
        shared = (piece for piece, files in PIECES.items() if file.startswith(files))
        return next(shared, file)
