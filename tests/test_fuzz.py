"""300 changed inputs of everything that reads what others made; `make fuzz` tries 100,000 of each."""

from __future__ import annotations

import os

import pytest

from tests.fuzzing.readers import READERS, Reader
from tests.fuzzing.run import fuzz

INPUTS = int(os.environ.get("EDGEPRESS_TEST_FUZZ", "300"))


@pytest.mark.parametrize("reader", READERS)
def test_what_is_wrong_is_refused_by_name_and_nothing_else_happens(reader):
    outcome = fuzz(reader, INPUTS)
    assert outcome.findings == []
    assert (outcome.inputs, outcome.taken + outcome.refused) == (INPUTS, INPUTS)


@pytest.mark.parametrize("reader", READERS)
def test_the_example_itself_is_read(reader, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file in READERS[reader].make(tmp_path):
        READERS[reader].read(tmp_path, file)


def _loop(folder, file):
    while True:
        pass


def _crash(folder, file):
    os.abort()


def _fill(folder, file):
    return bytearray(b"x") * 1_200_000_000


def _slip(folder, file):
    raise KeyError("labels")


@pytest.mark.parametrize(
    ("fault", "found"),
    [(_loop, "over 0.5 s, or a crash"), (_crash, "died of -6"), (_fill, "MB of memory"), (_slip, "KeyError")],
)
def test_every_kind_of_fault_is_found(monkeypatch, tmp_path, fault, found):
    def make(folder):
        (folder / "a").write_bytes(b"text")
        return [folder / "a"]

    monkeypatch.setitem(READERS, "faulty", Reader(make, fault))
    monkeypatch.setattr("tests.fuzzing.run._HANGS_SECONDS", 0.5 if fault is _loop else 60.0)
    (finding, *_) = fuzz("faulty", 3, most_findings=1).findings
    assert found in finding.what
    assert finding.number == 0
