"""Proof on emulated ARM processors that a run's engines answer there as they do here: `python -m tests.arm64`."""
